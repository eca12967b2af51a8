//! The store in one SQLite file, in write-ahead mode with a full sync at each commit.
//!
//! Formats are migrated forward at opening, each in one transaction; `PRAGMA user_version` says which one a file
//! has.

use super::edges::{self, Room};
use super::{Appended, Batch, Loss, Store, StoreError};
use crate::flows::{SeenEdge, Totals};
use crate::limits::{
    AUDIT_ENTRIES_MAX, INSTANCES_PER_POD_MAX, JOIN_TOKENS_MAX, PROPOSALS_PER_COLLECTION_MAX, STORE_BYTES_MAX,
    STORE_FLOW_BYTES_MAX,
};
use bulkhead_api::rest::{AuditEntry, Proposal, ProposalState};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, params};
use std::path::Path;
use std::time::Duration;

/// One script per format, in order; the file is brought to the last.
const MIGRATIONS: &[&str] =
    &[include_str!("format_1.sql"), include_str!("format_2.sql"), include_str!("format_3.sql")];
/// A connection waits this long for the other one's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Counters stop here: two of them still fit an integer of SQLite, and JSON readers keep them exact.
pub(super) const COUNT_MAX: u64 = (1 << 53) - 1;
/// Milliseconds of a day.
pub(super) const DAY_MS: u64 = 86_400_000;

/// A connection to the store's file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    room: Room,
    /// Above this many bytes there is no room for new edges.
    flow_bytes_max: u64,
    is_full: bool,
}

/// How large the file may become, by what is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// With flows.
    pub(super) flow_bytes_max: u64,
    /// With everything.
    pub(super) bytes_max: u64,
}

impl Sqlite {
    /// Opens the file; makes it, and brings it to the newest format, if need be.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_bounded(path, Bounds { flow_bytes_max: STORE_FLOW_BYTES_MAX, bytes_max: STORE_BYTES_MAX })
    }

    pub(super) fn open_bounded(path: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        let connection = Connection::open(path).map_err(failed("open the database"))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed("set the time-out"))?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed("switch to write-ahead"))?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed("switch to full sync"))?;
        bound_size(&connection, bounds.bytes_max).map_err(failed("bound the size"))?;
        let mut store =
            Self { connection, room: Room::default(), flow_bytes_max: bounds.flow_bytes_max, is_full: false };
        store.migrate(path)?;
        Ok(store)
    }

    fn append_together(&mut self, batches: &[Batch]) -> Result<Vec<Appended>, StoreError> {
        let transaction = self.connection.transaction().map_err(failed("begin"))?;
        let mut is_full = self.is_full;
        let mut append = |batch: &Batch| {
            is_full = edges::used_bytes(&transaction)? >= self.flow_bytes_max;
            append_one(&transaction, &mut self.room, batch, is_full)
        };
        let outcome = batches.iter().map(&mut append).collect::<Result<Vec<_>, _>>();
        let outcome = outcome.map_err(failed("store flows"))?;
        transaction.commit().map_err(failed("store flows"))?;
        if is_full && !self.is_full {
            tracing::error!("flows have used up their part of the store: new edges are counted as lost");
        }
        self.is_full = is_full;
        Ok(outcome)
    }

    fn migrate(&mut self, path: &Path) -> Result<(), StoreError> {
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        loop {
            let transaction = self
                .connection
                .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
                .map_err(failed("begin"))?;
            let found: i64 = transaction
                .query_row("PRAGMA user_version", [], |row| row.get(0))
                .map_err(failed("read the format"))?;
            if found > known {
                return Err(StoreError::Newer { path: path.display().to_string(), found, known });
            }
            let Some(script) = usize::try_from(found).ok().and_then(|at| MIGRATIONS.get(at)) else {
                return Ok(());
            };
            transaction.execute_batch(script).map_err(failed("migrate"))?;
            transaction.pragma_update(None, "user_version", found + 1).map_err(failed("note the format"))?;
            transaction.commit().map_err(failed("migrate"))?;
        }
    }
}

impl Store for Sqlite {
    fn append(&mut self, batches: &[Batch]) -> Result<Vec<Appended>, StoreError> {
        let outcome = self.append_together(batches);
        if outcome.is_err() {
            // It holds what was not stored: counted anew, or a disk that is full for an hour uses up the limits of the day.
            self.room = Room::default();
        }
        outcome
    }

    fn each_edge(&mut self, since_day: u64, take: &mut dyn FnMut(SeenEdge)) -> Result<(), StoreError> {
        let mut read = || -> rusqlite::Result<()> {
            let mut newest =
                self.connection.prepare("SELECT max(day) FROM edges WHERE day >= ? AND day < ?")?;
            let mut rows = self.connection.prepare(
                "SELECT day, pod_uid, edge, count, bytes_to_destination, bytes_to_source, first_seen_ms, \
                 last_seen_ms, revision, sender_uid, report_id FROM edges WHERE day = ? ORDER BY pod_uid, edge",
            )?;
            let mut before = i64::MAX;
            // Day by day: between two of them the write-ahead log may be brought in.
            while let Some(day) =
                newest.query_row([to_sql(since_day), before], |row| row.get::<_, Option<i64>>(0))?
            {
                for one in rows.query_map([day], seen_edge)? {
                    take(one?);
                }
                before = day;
            }
            Ok(())
        };
        read().map_err(failed("read flows"))
    }

    fn forget(&mut self, before_day: u64) -> Result<(), StoreError> {
        self.room.forget(before_day);
        let before_ms = to_sql(before_day.saturating_mul(DAY_MS));
        let forget = || -> rusqlite::Result<()> {
            self.connection.execute("DELETE FROM edges WHERE day < ?", [to_sql(before_day)])?;
            self.connection.execute("DELETE FROM losses WHERE last_ms < ?", [before_ms])?;
            self.connection.execute("DELETE FROM runs WHERE heard_ms < ?", [before_ms]).map(drop)
        };
        forget().map_err(failed("forget flows"))
    }

    fn losses(&mut self) -> Result<Vec<Loss>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Loss>> {
            let mut statement = self
                .connection
                .prepare("SELECT pod_uid, by_sidecar, by_controller, last_ms FROM losses ORDER BY pod_uid")?;
            let loss = |row: &Row<'_>| {
                Ok(Loss {
                    pod_uid: row.get(0)?,
                    by_sidecar: from_sql(row.get(1)?),
                    by_controller: from_sql(row.get(2)?),
                    last_ms: from_sql(row.get(3)?),
                })
            };
            statement.query_map([], loss)?.collect()
        };
        read().map_err(failed("read losses"))
    }

    fn add_token(
        &mut self,
        fingerprint: &str,
        uid: &str,
        expires_ms: u64,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let add = || -> rusqlite::Result<bool> {
            self.connection.execute("DELETE FROM tokens WHERE expires_ms <= ?", [to_sql(now_ms)])?;
            let unused: i64 = self.connection.query_row(
                "SELECT count(*) FROM tokens WHERE used_ms IS NULL",
                [],
                |row| row.get(0),
            )?;
            if from_sql(unused) >= JOIN_TOKENS_MAX as u64 {
                return Ok(false);
            }
            self.connection.execute(
                "INSERT INTO tokens (fingerprint, pod_uid, expires_ms) VALUES (?, ?, ?)",
                params![fingerprint, uid, to_sql(expires_ms)],
            )?;
            Ok(true)
        };
        match add().map_err(failed("store a join token"))? {
            true => Ok(()),
            false => Err(StoreError::TooManyTokens),
        }
    }

    fn token_pod(&mut self, fingerprint: &str, now_ms: u64) -> Result<Option<String>, StoreError> {
        self.connection
            .query_row(
                "SELECT pod_uid FROM tokens WHERE fingerprint = ? AND expires_ms > ?",
                params![fingerprint, to_sql(now_ms)],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed("look up a join token"))
    }

    fn use_token(&mut self, fingerprint: &str, public_key: &str, now_ms: u64) -> Result<bool, StoreError> {
        self.connection
            .execute(
                "UPDATE tokens SET used_ms = coalesce(used_ms, ?1), public_key = ?3 WHERE fingerprint = ?2 AND expires_ms > ?1 \
                 AND (used_ms IS NULL OR public_key = ?3)",
                params![to_sql(now_ms), fingerprint, public_key],
            )
            .map(|changed| changed == 1)
            .map_err(failed("use a join token"))
    }

    fn add_proposal(&mut self, proposal: &Proposal) -> Result<u64, StoreError> {
        let transaction = self.connection.transaction().map_err(failed("begin"))?;
        let id = add_proposal(&transaction, proposal).map_err(failed("store a proposal"))?;
        transaction.commit().map_err(failed("store a proposal"))?;
        Ok(id)
    }

    fn proposals(&mut self) -> Result<Vec<Proposal>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Proposal>> {
            let mut statement = self.connection.prepare("SELECT id, proposal FROM proposals ORDER BY id")?;
            let proposal = |row: &Row<'_>| {
                let mut proposal: Proposal = json(row, 1)?;
                proposal.id = from_sql(row.get(0)?);
                Ok(proposal)
            };
            statement.query_map([], proposal)?.collect()
        };
        read().map_err(failed("read proposals"))
    }

    fn decide_proposal(
        &mut self,
        id: u64,
        state: ProposalState,
        written_to: Option<&str>,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction().map_err(failed("begin"))?;
        let decide = || -> rusqlite::Result<()> {
            let mut proposal: Proposal = transaction.query_row(
                "SELECT proposal FROM proposals WHERE id = ?",
                [to_sql(id)],
                |row| json(row, 0),
            )?;
            proposal.state = state;
            proposal.decided_ms = Some(audit.at_ms);
            proposal.written_to = written_to.map(ToOwned::to_owned);
            save_proposal(&transaction, id, &proposal)?;
            insert_audit(&transaction, audit)
        };
        decide().map_err(failed("decide a proposal"))?;
        transaction.commit().map_err(failed("decide a proposal"))
    }

    fn add_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        insert_audit(&self.connection, entry).map_err(failed("write the audit trail"))
    }

    fn audit(&mut self) -> Result<Vec<AuditEntry>, StoreError> {
        let read = || -> rusqlite::Result<Vec<AuditEntry>> {
            let mut statement = self
                .connection
                .prepare("SELECT at_ms, actor, action, subject, detail FROM audit ORDER BY id")?;
            let entry = |row: &Row<'_>| {
                Ok(AuditEntry {
                    at_ms: from_sql(row.get(0)?),
                    actor: row.get(1)?,
                    action: row.get(2)?,
                    subject: row.get(3)?,
                    detail: row.get(4)?,
                })
            };
            statement.query_map([], entry)?.collect()
        };
        read().map_err(failed("read the audit trail"))
    }

    fn revision(&mut self) -> Result<u64, StoreError> {
        self.connection
            .query_row("SELECT value FROM counters WHERE name = 'revision'", [], |row| row.get(0))
            .optional()
            .map(|value| value.map_or(0, from_sql))
            .map_err(failed("read the revision"))
    }

    fn set_revision(&mut self, revision: u64) -> Result<(), StoreError> {
        self.connection
            .execute(
                "INSERT INTO counters (name, value) VALUES ('revision', ?) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [to_sql(revision)],
            )
            .map(drop)
            .map_err(failed("remember the revision"))
    }
}

/// SQLite counts pages; an insertion beyond the bound fails.
fn bound_size(connection: &Connection, bytes_max: u64) -> rusqlite::Result<()> {
    let page_bytes: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages = to_sql(bytes_max) / page_bytes.max(1);
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}

fn append_one(
    transaction: &Transaction<'_>,
    room: &mut Room,
    batch: &Batch,
    is_full: bool,
) -> rusqlite::Result<Appended> {
    if !advance(transaction, batch)? {
        return Ok(Appended::Repeated);
    }
    let over_limit = edges::add_all(transaction, room, batch, is_full)?;
    if batch.dropped > 0 || over_limit > 0 {
        transaction.execute(
            "INSERT INTO losses (pod_uid, by_sidecar, by_controller, last_ms) VALUES (?1, ?2, ?3, ?5) ON CONFLICT (pod_uid) DO \
             UPDATE SET by_sidecar = min(by_sidecar + excluded.by_sidecar, ?4), \
             by_controller = min(by_controller + excluded.by_controller, ?4), \
             last_ms = excluded.last_ms",
            params![
                batch.pod_uid,
                to_sql(batch.dropped.min(COUNT_MAX)),
                to_sql(over_limit),
                to_sql(COUNT_MAX),
                to_sql(batch.received_ms)
            ],
        )?;
    }
    Ok(Appended::Stored)
}

/// Notes the number of the batch; false if it, or a later one of the same run, was noted before.
fn advance(transaction: &Transaction<'_>, batch: &Batch) -> rusqlite::Result<bool> {
    let last: Option<i64> = transaction
        .query_row(
            "SELECT sequence FROM runs WHERE pod_uid = ? AND instance = ?",
            params![batch.pod_uid, batch.instance],
            |row| row.get(0),
        )
        .optional()?;
    if last.is_some_and(|last| to_sql(batch.sequence) <= last) {
        return Ok(false);
    }
    transaction.execute(
        "INSERT INTO runs (pod_uid, instance, sequence, heard_ms) VALUES (?, ?, ?, ?) ON CONFLICT (pod_uid, instance) \
         DO UPDATE SET sequence = excluded.sequence, heard_ms = excluded.heard_ms",
        params![batch.pod_uid, batch.instance, to_sql(batch.sequence), to_sql(batch.received_ms)],
    )?;
    if last.is_none() {
        transaction.execute(
            "DELETE FROM runs WHERE pod_uid = ?1 AND instance NOT IN (SELECT instance FROM runs WHERE pod_uid = ?1 \
             ORDER BY heard_ms DESC, rowid DESC LIMIT ?2)",
            params![batch.pod_uid, to_sql(INSTANCES_PER_POD_MAX)],
        )?;
    }
    Ok(true)
}

fn seen_edge(row: &Row<'_>) -> rusqlite::Result<SeenEdge> {
    Ok(SeenEdge {
        day: from_sql(row.get(0)?),
        pod_uid: row.get(1)?,
        edge: json(row, 2)?,
        totals: Totals {
            count: from_sql(row.get(3)?),
            bytes_to_destination: from_sql(row.get(4)?),
            bytes_to_source: from_sql(row.get(5)?),
            first_seen_ms: from_sql(row.get(6)?),
            last_seen_ms: from_sql(row.get(7)?),
            revision: from_sql(row.get(8)?),
            sender_uid: row.get(9)?,
            report_id: row.get(10)?,
        },
    })
}

fn add_proposal(transaction: &Transaction<'_>, proposal: &Proposal) -> rusqlite::Result<u64> {
    let mut open = transaction.prepare("SELECT id, proposal FROM proposals WHERE collection = ? AND open")?;
    let older: Vec<(i64, Proposal)> = open
        .query_map([&proposal.collection], |row| Ok((row.get(0)?, json(row, 1)?)))?
        .collect::<Result<_, _>>()?;
    for (id, mut proposal) in older {
        proposal.state = ProposalState::Superseded;
        save_proposal(transaction, from_sql(id), &proposal)?;
    }
    transaction.execute(
        "INSERT INTO proposals (collection, open, proposal) VALUES (?, 1, ?)",
        params![proposal.collection, text(proposal)?],
    )?;
    let id = transaction.last_insert_rowid();
    transaction.execute(
        "DELETE FROM proposals WHERE collection = ?1 AND id NOT IN \
         (SELECT id FROM proposals WHERE collection = ?1 ORDER BY id DESC LIMIT ?2)",
        params![proposal.collection, to_sql(PROPOSALS_PER_COLLECTION_MAX)],
    )?;
    Ok(from_sql(id))
}

fn save_proposal(transaction: &Transaction<'_>, id: u64, proposal: &Proposal) -> rusqlite::Result<()> {
    let open = proposal.state == ProposalState::Open;
    transaction
        .execute(
            "UPDATE proposals SET open = ?, proposal = ? WHERE id = ?",
            params![open, text(proposal)?, to_sql(id)],
        )
        .map(drop)
}

fn insert_audit(connection: &Connection, entry: &AuditEntry) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO audit (at_ms, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?)",
        params![to_sql(entry.at_ms), entry.actor, entry.action, entry.subject, entry.detail],
    )?;
    let newest = from_sql(connection.last_insert_rowid());
    connection
        .execute("DELETE FROM audit WHERE id <= ?", [to_sql(newest.saturating_sub(AUDIT_ENTRIES_MAX))])
        .map(drop)
}

fn text(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

/// SQLite's integers are signed; what does not fit is held at the largest.
pub(super) fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { what },
        Some(_) | None => StoreError::Failed { what, problem: error.to_string() },
    }
}

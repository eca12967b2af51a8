//! Edges in the store, and how much room a pod and all flows together have.
//!
//! What a pod does outside of the cluster has a share of its own: it can name any number of addresses, and must not
//! crowd out what it does inside. Beyond that share, addresses of one network are one edge.

use super::Batch;
use super::sqlite::{COUNT_MAX, DAY_MS, from_sql, to_sql};
use crate::flows::{Edge, Totals};
use crate::limits::{
    EDGES_OUTSIDE_PER_POD_AND_DAY_MAX, EDGES_PER_POD_AND_DAY_MAX, NETWORKS_PER_POD_AND_DAY_MAX,
};
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;

/// Edges held per pod and day, so that the limits need no count at each insertion.
#[derive(Debug, Default)]
pub(super) struct Room(BTreeMap<(u64, String), [usize; 3]>);

/// Which limit an edge counts for; the number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Inside = 0,
    Outside = 1,
    Network = 2,
}

impl Share {
    fn limit(self) -> usize {
        match self {
            Self::Inside => EDGES_PER_POD_AND_DAY_MAX,
            Self::Outside => EDGES_OUTSIDE_PER_POD_AND_DAY_MAX,
            Self::Network => NETWORKS_PER_POD_AND_DAY_MAX,
        }
    }
}

impl Room {
    pub(super) fn forget(&mut self, before_day: u64) {
        self.0.retain(|(day, _), _| *day >= before_day);
    }

    fn held<'a>(
        &'a mut self,
        transaction: &Transaction<'_>,
        day: u64,
        pod_uid: &str,
    ) -> rusqlite::Result<&'a mut [usize; 3]> {
        let key = (day, pod_uid.to_owned());
        if !self.0.contains_key(&key) {
            let mut statement = transaction.prepare_cached(
                "SELECT share, count(*) FROM edges WHERE day = ? AND pod_uid = ? GROUP BY share",
            )?;
            let mut held = [0; 3];
            let mut rows = statement.query(params![to_sql(day), pod_uid])?;
            while let Some(row) = rows.next()? {
                let share = usize::try_from(row.get::<_, i64>(0)?).ok();
                if let Some(count) = share.and_then(|share| held.get_mut(share)) {
                    *count = usize::try_from(row.get::<_, i64>(1)?).unwrap_or(usize::MAX);
                }
            }
            self.0.insert(key.clone(), held);
        }
        Ok(self.0.entry(key).or_default())
    }
}

/// Adds the edges of a batch; returns how many found no room. Where flows have used up their part of the store
/// (`is_full`), edges that are there are still counted, new ones are not added.
pub(super) fn add_all(
    transaction: &Transaction<'_>,
    room: &mut Room,
    batch: &Batch,
    is_full: bool,
) -> rusqlite::Result<u64> {
    let mut lost = 0;
    for (edge, totals) in &batch.edges {
        let place =
            Place { transaction, day: totals.last_seen_ms / DAY_MS, pod_uid: &batch.pod_uid, is_full };
        let added = match edge.is_outside() {
            false => place.add(room, edge, totals, Share::Inside)?,
            true => {
                place.add(room, edge, totals, Share::Outside)?
                    || place.add(room, &edge.by_network(), totals, Share::Network)?
            }
        };
        lost += u64::from(!added);
    }
    Ok(lost)
}

/// Bytes of the store's file that hold something.
pub(super) fn used_bytes(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let number = |pragma: &str| transaction.query_row(pragma, [], |row| row.get::<_, i64>(0)).map(from_sql);
    let pages = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
    Ok(pages.saturating_mul(number("PRAGMA page_size")?))
}

struct Place<'a> {
    transaction: &'a Transaction<'a>,
    day: u64,
    pod_uid: &'a str,
    is_full: bool,
}

impl Place<'_> {
    /// Adds to an edge; false if it is a new one for which there is no room.
    fn add(&self, room: &mut Room, edge: &Edge, totals: &Totals, share: Share) -> rusqlite::Result<bool> {
        let key =
            serde_json::to_string(edge).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
        if self.update(&key, totals)? {
            return Ok(true);
        }
        let held = &mut room.held(self.transaction, self.day, self.pod_uid)?[share as usize];
        if self.is_full || *held >= share.limit() {
            return Ok(false);
        }
        self.insert(&key, totals, share)?;
        *held += 1;
        Ok(true)
    }

    fn update(&self, key: &str, totals: &Totals) -> rusqlite::Result<bool> {
        let update = "UPDATE edges SET count = min(count + ?4, ?12), \
             bytes_to_destination = min(bytes_to_destination + ?5, ?12), \
             bytes_to_source = min(bytes_to_source + ?6, ?12), first_seen_ms = min(first_seen_ms, ?7), \
             last_seen_ms = max(last_seen_ms, ?8), revision = max(revision, ?9), \
             sender_uid = coalesce(?10, sender_uid), report_id = coalesce(?11, report_id) \
             WHERE day = ?1 AND pod_uid = ?2 AND edge = ?3";
        self.write(update, key, totals, to_sql(COUNT_MAX)).map(|changed| changed > 0)
    }

    fn insert(&self, key: &str, totals: &Totals, share: Share) -> rusqlite::Result<()> {
        let insert = "INSERT INTO edges (day, pod_uid, edge, count, bytes_to_destination, bytes_to_source, first_seen_ms, \
             last_seen_ms, revision, sender_uid, report_id, share) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        self.write(insert, key, totals, share as i64).map(drop)
    }

    /// Runs a statement of twelve parameters, of which the last is its own; returns how many rows it changed.
    fn write(&self, statement: &str, key: &str, totals: &Totals, last: i64) -> rusqlite::Result<usize> {
        self.transaction.prepare_cached(statement)?.execute(params![
            to_sql(self.day),
            self.pod_uid,
            key,
            to_sql(totals.count.min(COUNT_MAX)),
            to_sql(totals.bytes_to_destination.min(COUNT_MAX)),
            to_sql(totals.bytes_to_source.min(COUNT_MAX)),
            to_sql(totals.first_seen_ms),
            to_sql(totals.last_seen_ms),
            to_sql(totals.revision),
            totals.sender_uid,
            totals.report_id,
            last,
        ])
    }
}

//! The first message of a connection (protocol documentation, section 55.7): a session, a cancellation, or a question whether
//! encryption is spoken.

use super::{malformed, statement::Classes};
use crate::contract::Refusal;
use crate::cursor::Cursor;
use crate::limits::{POSTGRES_NAME_BYTES_MAX, POSTGRES_STARTUP_BYTES_MAX};
use bulkhead_facts::{PostgresStatement, Reason};
use std::sync::Arc;

/// A first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// TLS or GSSAPI is asked for.
    Encryption,
    /// A running statement of another session is to be cancelled.
    Cancel,
    Session(Session),
}

/// Who a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) user: Arc<str>,
    pub(super) database: Arc<str>,
    /// What it is about from the start: replication is none of the classes.
    pub(super) classes: Classes,
}

/// Reads the message that `bytes` begins with, and its length; `None` while it is incomplete.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(First, usize)>, Refusal> {
    let mut cursor = Cursor::new(bytes);
    let Some(length) = cursor.u32().and_then(|length| usize::try_from(length).ok()) else { return Ok(None) };
    if !(8..=POSTGRES_STARTUP_BYTES_MAX).contains(&length) {
        return Err(malformed("first message of an impossible length"));
    }
    let Some(code) = cursor.u32() else { return Ok(None) };
    let first = match (code, length) {
        (80_877_103 | 80_877_104, 8) => First::Encryption,
        (80_877_102, 16..=268) => First::Cancel,
        (code, _) if code >> 16 == 3 => {
            let Some(body) = bytes.get(8..length) else { return Ok(None) };
            First::Session(session(body)?)
        }
        _ => {
            let detail = "first message of another protocol, or of another version";
            return Err(Refusal { reason: Reason::ProtocolMismatch, status: None, detail });
        }
    };
    Ok((bytes.len() >= length).then_some((first, length)))
}

/// Names and values, each ended by a zero byte, and one more.
fn session(body: &[u8]) -> Result<Session, Refusal> {
    let mut cursor = Cursor::new(body);
    let (mut user, mut database, mut replication) = (None, None, None);
    loop {
        let name = cursor.c_string().ok_or(malformed("parameter that does not end"))?;
        if name.is_empty() {
            break;
        }
        let value = cursor.c_string().ok_or(malformed("parameter that does not end"))?;
        let place = match name {
            b"user" => &mut user,
            b"database" => &mut database,
            b"replication" => &mut replication,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(malformed("parameter that comes twice"));
        }
    }
    if !cursor.is_empty() {
        return Err(malformed("bytes behind the parameters"));
    }
    let user = text(user.unwrap_or_default())?;
    if user.is_empty() {
        return Err(malformed("no user"));
    }
    let database = match text(database.unwrap_or_default())? {
        // The server then takes the user's name.
        database if database.is_empty() => Arc::clone(&user),
        database => database,
    };
    let replicates = !matches!(replication, None | Some(b"false" | b"off" | b"no" | b"0"));
    let classes = if replicates { Classes::of(PostgresStatement::Other) } else { Classes::default() };
    Ok(Session { user, database, classes })
}

/// A name that the server takes as it is: it cuts off what is longer.
fn text(bytes: &[u8]) -> Result<Arc<str>, Refusal> {
    if bytes.len() > POSTGRES_NAME_BYTES_MAX {
        return Err(malformed("name that the server would cut off"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(malformed("name that is no text")),
    }
}

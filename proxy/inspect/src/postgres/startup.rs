//! The first message of a connection (protocol documentation, section 55.7): a session, a cancellation, or a question whether
//! encryption is spoken.

use super::{classes::Classes, malformed};
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
    /// What it is about from the start: replication is none of the classes, a parameter that changes more than how values
    /// look is what `SET` is.
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
    let mut sets = false;
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
            b"options" => {
                sets |= !options_are_harmless(value);
                continue;
            }
            name => {
                sets |= !is_harmless(name);
                continue;
            }
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
    let mut classes = if sets { Classes::of(PostgresStatement::Session) } else { Classes::default() };
    if replicates {
        classes.add(PostgresStatement::Other);
    }
    Ok(Session { user, database, classes })
}

/// Parameters that drivers send of their own accord: how values look, how long something may take, who is there.
const HARMLESS: [&[u8]; 14] = [
    b"application_name",
    b"client_encoding",
    b"client_min_messages",
    b"datestyle",
    b"extra_float_digits",
    b"fallback_application_name",
    b"geqo",
    b"idle_in_transaction_session_timeout",
    b"intervalstyle",
    b"jit",
    b"lock_timeout",
    b"statement_timeout",
    b"tcp_user_timeout",
    b"timezone",
];

/// Options of the protocol (`_pq_.`) concern the protocol.
fn is_harmless(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with(b"_pq_.") || HARMLESS.contains(&name.as_slice())
}

/// Arguments of a server's command line. Only `-c NAME=VALUE`, `-cNAME=VALUE` and `--NAME=VALUE` are read.
fn options_are_harmless(text: &[u8]) -> bool {
    if text.contains(&b'\\') {
        return false;
    }
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word {
            b"-c" => words.next(),
            [b'-', b'c' | b'-', setting @ ..] => Some(setting),
            _ => None,
        };
        let name = setting.and_then(|setting| setting.split(|byte| *byte == b'=').next());
        let underscored = |name: &[u8]| -> Vec<u8> {
            name.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect()
        };
        if !name.is_some_and(|name| is_harmless(&underscored(name))) {
            return false;
        }
    }
    true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_change_more_than_how_values_look_are_what_a_set_is() {
        let classes = |name: &str, value: &str| {
            let body = format!("user\0u\0database\0d\0{name}\0{value}\0\0");
            session(body.as_bytes()).expect("a session").classes
        };
        for (name, value) in [
            ("application_name", "x"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("_pq_.x", "1"),
            ("options", ""),
            ("options", "-c statement_timeout=5s --lock-timeout=1 -cTimeZone=UTC"),
        ] {
            assert_eq!(classes(name, value), Classes::default(), "{name} {value}");
        }
        let session = Classes::of(PostgresStatement::Session);
        for (name, value) in [
            ("search_path", "evil"),
            ("role", "admin"),
            ("session_authorization", "admin"),
            ("options", "-c search_path=evil"),
            ("options", "--search-path=evil"),
            ("options", "-csearch_path=evil"),
            ("options", "-c statement_timeout=5s -c role=admin"),
            ("options", "-c"),
            ("options", "-c statement_timeout=1\\ -c\\ role=admin"),
            ("options", "-d 5"),
            ("options", "evil"),
        ] {
            assert_eq!(classes(name, value), session, "{name} {value}");
        }
    }
}

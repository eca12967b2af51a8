//! Messages of the client once a session was begun: what each is about, and how much of it has to be there to tell.

use super::classes::Classes;
use super::malformed;
use super::statement::classes;
use crate::contract::Refusal;
use crate::cursor::Cursor;
use crate::limits::{POSTGRES_MESSAGE_BYTES_MAX, POSTGRES_NAME_BYTES_MAX, POSTGRES_STATEMENT_BYTES_MAX};
use bulkhead_facts::Reason;

/// A message, borrowed from the bytes that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Query(Classes),
    /// A statement is prepared under a name.
    Parse(&'a [u8], Classes),
    /// A portal is made of a prepared statement.
    Bind {
        portal: &'a [u8],
        statement: &'a [u8],
    },
    /// A portal is executed.
    Execute(&'a [u8]),
    Describe,
    /// A prepared statement is given up.
    Close(&'a [u8]),
    ClosePortal(&'a [u8]),
    Sync,
    Flush,
    /// A function is called by number.
    Function,
    /// Data of a `COPY`, or its end.
    CopyData,
    CopyEnd,
    /// A password, or another step of authentication.
    Password,
    Terminate,
}

impl Message<'_> {
    /// The server expects it while it reads data of a `COPY`, or overlooks it.
    pub(super) fn may_stand_in_data(&self) -> bool {
        matches!(self, Self::CopyData | Self::CopyEnd | Self::Flush | Self::Sync | Self::Terminate)
    }
}

/// A message, and how many bytes hold it.
pub(super) struct Read<'a> {
    pub(super) message: Message<'a>,
    pub(super) length: usize,
}

/// Length of the header: type, and a length that counts itself but not the type.
pub(super) const HEADER_BYTES: usize = 5;

/// Reads the message that `bytes` begins with; `None` while too little of it is there. `plain`: as for [`classes`].
pub(super) fn read(bytes: &[u8], plain: bool) -> Result<Option<Read<'_>>, Refusal> {
    let Some((kind, length)) = header(bytes)? else { return Ok(None) };
    let message = match kind {
        b'd' => Message::CopyData,
        b'c' | b'f' => Message::CopyEnd,
        b'p' => Message::Password,
        b'F' => Message::Function,
        b'B' => {
            // Its values may be large and are of no interest.
            let known = bytes.get(HEADER_BYTES..length.min(bytes.len())).unwrap_or_default();
            match bind(known)? {
                Some(message) => message,
                None if bytes.len() < length => return Ok(None),
                None => return Err(malformed("message cut short")),
            }
        }
        b'Q' | b'P' | b'E' | b'D' | b'C' | b'S' | b'H' | b'X' => {
            if length > POSTGRES_STATEMENT_BYTES_MAX {
                let detail = "statement larger than what is kept to judge it";
                return Err(Refusal { reason: Reason::Limit, status: None, detail });
            }
            let Some(body) = bytes.get(HEADER_BYTES..length) else { return Ok(None) };
            whole(kind, body, plain).ok_or(malformed("message cut short, or too long"))?
        }
        _ => return Err(malformed("message of a type that no client sends")),
    };
    named(&message)?;
    Ok(Some(Read { message, length }))
}

/// Type and length with the header.
pub(super) fn header(bytes: &[u8]) -> Result<Option<(u8, usize)>, Refusal> {
    let mut cursor = Cursor::new(bytes);
    let Some((kind, length)) = cursor.u8().zip(cursor.u32()) else { return Ok(None) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(4..=POSTGRES_MESSAGE_BYTES_MAX).contains(&length) {
        return Err(malformed("message of an impossible length"));
    }
    Ok(Some((kind, length + 1)))
}

/// Reads a message that is there in full; `None` if it does not fill its length exactly.
fn whole(kind: u8, body: &[u8], plain: bool) -> Option<Message<'_>> {
    let mut cursor = Cursor::new(body);
    let message = match kind {
        b'Q' => Message::Query(classes(cursor.c_string()?, plain)),
        b'P' => {
            let (name, text) = (cursor.c_string()?, cursor.c_string()?);
            let types = cursor.u16()?;
            cursor.take(4 * usize::from(types))?;
            Message::Parse(name, classes(text, plain))
        }
        b'E' => {
            let portal = cursor.c_string()?;
            cursor.u32()?;
            Message::Execute(portal)
        }
        b'D' | b'C' => {
            let (what, name) = (cursor.u8()?, cursor.c_string()?);
            match (kind, what) {
                (b'D', b'S' | b'P') => Message::Describe,
                (_, b'S') => Message::Close(name),
                (_, b'P') => Message::ClosePortal(name),
                _ => return None,
            }
        }
        b'S' => Message::Sync,
        b'H' => Message::Flush,
        _ => Message::Terminate,
    };
    cursor.is_empty().then_some(message)
}

fn bind(body: &[u8]) -> Result<Option<Message<'_>>, Refusal> {
    let mut cursor = Cursor::new(body);
    match cursor.c_string().zip(cursor.c_string()) {
        Some((portal, statement)) => Ok(Some(Message::Bind { portal, statement })),
        None if body.len() > 2 * (POSTGRES_NAME_BYTES_MAX + 1) => Err(too_long()),
        None => Ok(None),
    }
}

/// Names that the server would cut off could be those of others.
fn named(message: &Message<'_>) -> Result<(), Refusal> {
    let names: [&[u8]; 2] = match message {
        Message::Parse(name, _)
        | Message::Execute(name)
        | Message::Close(name)
        | Message::ClosePortal(name) => [name, b""],
        Message::Bind { portal, statement } => [portal, statement],
        _ => return Ok(()),
    };
    if names.iter().any(|name| name.len() > POSTGRES_NAME_BYTES_MAX) { Err(too_long()) } else { Ok(()) }
}

fn too_long() -> Refusal {
    malformed("name that the server would cut off")
}

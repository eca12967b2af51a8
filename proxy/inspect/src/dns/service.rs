//! Keys for encrypted hellos in records of services (RFC 9460, RFC 9848), which are given to nobody whose hello has to be read.
//!
//! A message is changed in place: the parameter becomes one that nobody knows, last as its number has to be, so that nothing
//! else moves and no compressed name leads elsewhere. Where the record says that whoever uses it must know the key (`mandatory`),
//! it then says so of the unknown one, and a client leaves the record alone as one that does not encrypt would.

use super::message::{AUTHENTIC_DATA, Cursor, Header, Malformed, Record};
use super::name::WireName;
use super::record::{HTTPS, RRSIG, SVCB};
use std::collections::BTreeSet;
use std::ops::Range;

/// What became of the keys for encrypted hellos in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKeys {
    /// There are none.
    None,
    /// They are taken out.
    TakenOut,
    /// They are left: the records are signed, and whoever checks that would take the answer for a forgery.
    Signed,
}

/// The parameter `mandatory`: numbers of those that must be known.
const MANDATORY: u16 = 0;
/// The parameter `ech`.
const HELLO_KEYS: u16 = 5;
/// The number that no parameter has.
const INVALID: u16 = 65_535;

/// Takes keys for encrypted hellos out of an answer, wherever in it they stand. What cannot be read stays as it is.
pub fn take_out_hello_keys(message: &mut [u8]) -> HelloKeys {
    match changes(message) {
        Err(Malformed(_)) => HelloKeys::None,
        Ok(Changes { records, .. }) if records.is_empty() => HelloKeys::None,
        Ok(Changes { signed: true, .. }) => HelloKeys::Signed,
        Ok(Changes { records, .. }) => {
            for (place, content) in records {
                if let Some(place) = message.get_mut(place) {
                    place.copy_from_slice(&content);
                }
            }
            // Nobody has checked what it says now.
            if let Some(flags) = message.get_mut(3) {
                *flags &= !AUTHENTIC_DATA.to_be_bytes()[1];
            }
            HelloKeys::TakenOut
        }
    }
}

#[derive(Default)]
struct Changes {
    /// New contents of the same length.
    records: Vec<(Range<usize>, Vec<u8>)>,
    /// Some record of a service is signed.
    signed: bool,
}

fn changes(message: &[u8]) -> Result<Changes, Malformed> {
    let mut cursor = Cursor::new(message);
    let header = Header::read(&mut cursor)?;
    for _ in 0..header.questions {
        WireName::read_plain(&mut cursor)?;
        cursor.u32()?;
    }
    let mut changes = Changes::default();
    let count: usize = [header.answers, header.authorities, header.additionals].map(usize::from).iter().sum();
    for _ in 0..count {
        let record = Record::read(&mut cursor)?;
        let begin = record.content_cursor.at();
        match record.kind {
            SVCB | HTTPS => {
                let place = begin..begin + record.content.len();
                changes.records.extend(without_keys(record.content)?.map(|content| (place, content)));
            }
            // It begins with the type of what it signs (RFC 4034 section 3.1.1).
            RRSIG => {
                let signed = record.content.first_chunk().map(|kind| u16::from_be_bytes(*kind));
                changes.signed |= matches!(signed, Some(SVCB | HTTPS));
            }
            _ => {}
        }
    }
    Ok(changes)
}

/// The content of a record without the keys, as long as before; `None` if there are none.
fn without_keys(content: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut cursor = Cursor::new(content);
    cursor.u16()?;
    WireName::read_plain(&mut cursor)?;
    let mut changed = content.get(..cursor.at()).unwrap_or_default().to_vec();
    let mut parameters = Vec::new();
    while !cursor.is_at_end() {
        let (key, length) = (cursor.u16()?, cursor.u16()?);
        parameters.push((key, cursor.take(usize::from(length))?));
    }
    let known: BTreeSet<u16> = parameters.iter().map(|(key, _)| *key).collect();
    let unknown = (HELLO_KEYS..INVALID).rev().find(|key| !known.contains(key));
    let Some(unknown) = unknown.filter(|_| known.contains(&HELLO_KEYS)) else { return Ok(None) };
    for (key, value) in parameters.iter().filter(|(key, _)| *key != HELLO_KEYS) {
        match *key {
            MANDATORY => write(&mut changed, *key, &renamed(value, unknown)),
            _ => write(&mut changed, *key, value),
        }
    }
    for (_, value) in parameters.iter().filter(|(key, _)| *key == HELLO_KEYS) {
        write(&mut changed, unknown, &vec![0; value.len()]);
    }
    Ok(Some(changed))
}

/// The list of what must be known, with another number for the keys: last, as its number has to be.
fn renamed(list: &[u8], unknown: u16) -> Vec<u8> {
    let (keys, rest) = list.as_chunks();
    let (named, others): (Vec<[u8; 2]>, Vec<[u8; 2]>) =
        keys.iter().partition(|key| u16::from_be_bytes(**key) == HELLO_KEYS);
    let last = named.iter().map(|_| unknown.to_be_bytes());
    others.into_iter().chain(last).flatten().chain(rest.iter().copied()).collect()
}

fn write(to: &mut Vec<u8>, key: u16, value: &[u8]) {
    to.extend(key.to_be_bytes());
    to.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    to.extend(value);
}

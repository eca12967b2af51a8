//! What an asker is told instead of an answer (RFC 1035 section 4.1.1, RFC 8914).

use super::message::{Header, RECURSION_AVAILABLE, RECURSION_DESIRED, RESPONSE};
use super::query::{Query, write_options};
use crate::limits::DNS_REFUSAL_TEXT_BYTES_MAX;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseCode {
    /// Well, though there may be no records of the type.
    NoRecords,
    /// The question cannot be read.
    FormatError,
    /// It cannot be answered now.
    ServerFailure,
    /// There is no such name.
    NoSuchName,
    /// It will not be answered.
    Refused,
}

impl ResponseCode {
    fn number(self) -> u16 {
        match self {
            Self::NoRecords => 0,
            Self::FormatError => 1,
            Self::ServerFailure => 2,
            Self::NoSuchName => 3,
            Self::Refused => 5,
        }
    }
}

/// Why, for those who ask for it (RFC 8914 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendedError {
    /// An operator does not want it.
    Blocked,
    /// The answer was not passed on.
    Filtered,
    /// This asker may not.
    Prohibited,
    /// Whom we asked cannot be reached.
    NetworkError,
}

impl ExtendedError {
    fn number(self) -> u16 {
        match self {
            Self::Blocked => 15,
            Self::Filtered => 17,
            Self::Prohibited => 18,
            Self::NetworkError => 23,
        }
    }
}

/// What is told.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// How it went.
    pub code: ResponseCode,
    /// Why.
    pub error: ExtendedError,
    /// The same in words; cut at [`DNS_REFUSAL_TEXT_BYTES_MAX`].
    pub text: &'a str,
}

/// The message that refuses a question: its identifier, its own question, no records. Reasons go only to those who speak of
/// options themselves.
pub fn refusal(query: &Query, refusal: Refusal<'_>) -> Vec<u8> {
    let flags = RESPONSE | RECURSION_AVAILABLE | query.flags & RECURSION_DESIRED | refusal.code.number();
    let additionals = u16::from(query.options.is_some());
    let mut message = Vec::with_capacity(512);
    Header { id: query.id, flags, questions: 1, answers: 0, authorities: 0, additionals }.write(&mut message);
    query.write_question(&mut message);
    if let Some(options) = query.options {
        write_options(&mut message, options, &extended(refusal));
    }
    message
}

impl Refusal<'_> {
    /// The message that refuses what could not be read: a header and no more.
    pub fn of_malformed(id: u16) -> Vec<u8> {
        let flags = RESPONSE | RECURSION_AVAILABLE | ResponseCode::FormatError.number();
        let mut message = Vec::new();
        Header { id, flags, questions: 0, answers: 0, authorities: 0, additionals: 0 }.write(&mut message);
        message
    }
}

fn extended(refusal: Refusal<'_>) -> Vec<u8> {
    const EXTENDED_ERROR: u16 = 15;
    let text = refusal.text;
    let end = (0..=text.len().min(DNS_REFUSAL_TEXT_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
    let text = text.get(..end.unwrap_or(0)).unwrap_or_default();
    let length = u16::try_from(2 + text.len()).unwrap_or(2);
    let mut option = Vec::with_capacity(6 + text.len());
    option.extend(EXTENDED_ERROR.to_be_bytes());
    option.extend(length.to_be_bytes());
    option.extend(refusal.error.number().to_be_bytes());
    option.extend(text.as_bytes());
    option
}

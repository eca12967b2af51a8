//! A question on its way out.
//!
//! Exactly one question, no records but the options of the message, nothing behind: what a resolver would skip is room for
//! data. What leaves is written anew from what was decided on, so that options, unused flags and a second use of the
//! identifier stay here as well.

use super::message::{
    AUTHENTIC_DATA, CHECKING_DISABLED, Cursor, HEADER_BYTES, Header, Malformed, OPCODE, RECURSION_DESIRED,
    RESPONSE, Record,
};
use super::name::WireName;
use super::record::{IN, OPT};
use crate::limits::{DNS_OPTIONS_BYTES_MAX, DNS_UDP_BYTES_MIN};
use bulkhead_facts::{DnsQuestion, HostName, Request};

/// One question, ready to be decided on.
#[derive(Clone, Debug)]
pub struct Query {
    /// The sender's identifier.
    pub id: u16,
    /// The name that is asked for.
    pub name: WireName,
    /// Type of record.
    pub record: u16,
    pub(super) class: u16,
    pub(super) flags: u16,
    pub(super) options: Option<Options>,
    host: Option<HostName>,
}

/// What a message says of itself (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Bytes of an answer that the sender takes in one datagram.
    pub(super) udp_bytes: u16,
    /// Whether it wants signatures.
    pub(super) dnssec: bool,
}

/// Why a message is no question of which one could say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryFault {
    /// It has no header of a question: nobody could be answered.
    NoQuestion,
    /// It is none that any server has to understand alike.
    Malformed {
        /// The identifier to answer with.
        id: u16,
        /// What was wrong, in our words.
        detail: &'static str,
    },
}

impl Query {
    /// Reads the one question of a message.
    pub fn parse(bytes: &[u8]) -> Result<Self, QueryFault> {
        let mut cursor = Cursor::new(bytes);
        let header = Header::read(&mut cursor).map_err(|_| QueryFault::NoQuestion)?;
        if header.flags & RESPONSE != 0 {
            return Err(QueryFault::NoQuestion);
        }
        let id = header.id;
        read(header, cursor).map_err(|Malformed(detail)| QueryFault::Malformed { id, detail })
    }

    /// True if bytes may begin a question, however few there are: what else begins so is rare enough.
    pub fn may_begin(bytes: &[u8]) -> bool {
        let is = |at: usize, good: fn(u8) -> bool| bytes.get(at).is_none_or(|byte| good(*byte));
        // No answer, opcode 0; one question, no answers, no authorities, at most three further records.
        is(2, |byte| byte & 0xf8 == 0)
            && [(4, 0), (5, 1), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0)]
                .iter()
                .all(|(at, value)| bytes.get(*at).is_none_or(|byte| byte == value))
            && is(11, |byte| byte <= 3)
    }

    /// The form that rules are asked about. Another class than that of the Internet and what is no host name are opaque.
    pub fn request(&self) -> Request<'_> {
        match &self.host {
            Some(name) if self.class == IN => Request::Dns(DnsQuestion { name, record: self.record }),
            Some(_) | None => Request::Opaque,
        }
    }

    /// The name as rules know names.
    pub fn host(&self) -> Option<&HostName> {
        self.host.as_ref()
    }

    /// The host whose service it may ask for: without the labels in front that say port and protocol (RFC 9460 section 2.3).
    pub fn service_host(&self) -> Option<HostName> {
        let mut name = self.host.as_ref()?.as_str();
        while let Some((_, rest)) = name.split_once('.').filter(|(label, _)| label.starts_with('_')) {
            name = rest;
        }
        HostName::parse(name).ok()
    }

    /// The question as it leaves, under another identifier.
    pub fn released(&self, id: u16) -> Vec<u8> {
        let flags = self.flags & (RECURSION_DESIRED | AUTHENTIC_DATA | CHECKING_DISABLED);
        let additionals = u16::from(self.options.is_some());
        let mut message = Vec::with_capacity(HEADER_BYTES + 255 + 4 + 11);
        Header { id, flags, questions: 1, answers: 0, authorities: 0, additionals }.write(&mut message);
        self.write_question(&mut message);
        if let Some(options) = self.options {
            write_options(&mut message, options, &[]);
        }
        message
    }

    /// Bytes of an answer that the sender takes in one datagram.
    pub fn udp_bytes(&self) -> usize {
        self.options.map_or(DNS_UDP_BYTES_MIN, |options| options.udp_bytes.max(DNS_UDP_BYTES_MIN)).into()
    }

    /// The names in front of any further end that a list of search domains may have added, longest first:
    /// `a.test.shop.svc` gives `a.test.shop`, `a.test`, `a`.
    pub fn shortened(&self) -> impl Iterator<Item = HostName> {
        let text = self.host.as_ref().map_or("", HostName::as_str);
        let cuts = text.rmatch_indices('.').map(|(at, _)| at);
        cuts.filter_map(move |at| HostName::parse(text.get(..at)?).ok())
    }

    pub(super) fn write_question(&self, to: &mut Vec<u8>) {
        to.extend(self.name.as_wire());
        to.extend(self.record.to_be_bytes());
        to.extend(self.class.to_be_bytes());
    }
}

fn read(header: Header, mut cursor: Cursor<'_>) -> Result<Query, Malformed> {
    if header.flags & OPCODE != 0 {
        return Err(Malformed("another operation than a question"));
    }
    if header.questions != 1 {
        return Err(Malformed("not exactly one question"));
    }
    if header.answers != 0 || header.authorities != 0 || header.additionals > 1 {
        return Err(Malformed("a question with records"));
    }
    let name = WireName::read_plain(&mut cursor)?;
    let (record, class) = (cursor.u16()?, cursor.u16()?);
    let options = match header.additionals {
        0 => None,
        _ => Some(read_options(&mut cursor)?),
    };
    if !cursor.is_at_end() {
        return Err(Malformed("bytes behind the message"));
    }
    let host = name.host();
    Ok(Query { id: header.id, name, record, class, flags: header.flags, options, host })
}

fn read_options(cursor: &mut Cursor<'_>) -> Result<Options, Malformed> {
    let record = Record::read(cursor)?;
    if record.kind != OPT || record.owner.as_wire() != [0] {
        return Err(Malformed("a question with records"));
    }
    if record.content.len() > DNS_OPTIONS_BYTES_MAX {
        return Err(Malformed("more options than a question needs"));
    }
    let [_, version, flags, _] = record.ttl_s.to_be_bytes();
    if version != 0 {
        return Err(Malformed("options of an unknown version"));
    }
    Ok(Options { udp_bytes: record.class, dnssec: flags & 0x80 != 0 })
}

/// Writes the record of a message's options, with such content.
pub(super) fn write_options(to: &mut Vec<u8>, options: Options, content: &[u8]) {
    to.push(0);
    to.extend(OPT.to_be_bytes());
    to.extend(options.udp_bytes.to_be_bytes());
    to.extend([0, 0, if options.dnssec { 0x80 } else { 0 }, 0]);
    to.extend(u16::try_from(content.len()).unwrap_or(0).to_be_bytes());
    to.extend(content);
}

//! An answer on its way in: does it belong to the question, and which addresses does it give for it?
//!
//! Only the answer section counts, and there only what an unbroken chain of aliases leads to from the name that was asked
//! for (RFC 2181 section 5.4.1). Two aliases of one name lead nowhere.

use super::address::AddressKind;
use super::message::{
    Cursor, Header, Malformed, OPCODE, RECURSION_AVAILABLE, RECURSION_DESIRED, RESPONSE, RESPONSE_CODE,
    Record, TRUNCATED,
};
use super::name::WireName;
use super::query::Query;
use super::record::{A, AAAA, ANY, CNAME, HTTPS, IN, SVCB, is_transfer};
use crate::limits::{DNS_ADDRESSES_MAX, DNS_ALIASES_MAX, DNS_RECORDS_MAX};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it went: 0 is well, 3 that there is no such name.
    pub code: u8,
    /// It did not fit into a datagram; the sender asks again by TCP.
    pub truncated: bool,
    /// Addresses that the name has, each once, with the seconds that they may be kept: the shortest of the chain.
    pub addresses: Vec<(IpAddr, u32)>,
    /// The first address in the answer section, wherever in it, that is not [`AddressKind::Public`].
    pub inside: Option<(IpAddr, AddressKind)>,
    /// It is [`truncated`](Self::truncated), and not even what there is of it can be read.
    pub broken: bool,
    /// Some record, wherever in it, says how to reach a service, perhaps by an encrypted hello.
    pub names_service: bool,
}

/// Why bytes are no answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFault {
    /// They answer another question, or none: whoever sent them is not who was asked.
    Foreign,
    /// They answer it in a form that cannot be read.
    Malformed(&'static str),
}

impl Answer {
    /// Reads what answers the question, which left under the identifier `id`.
    pub fn parse(query: &Query, id: u16, bytes: &[u8]) -> Result<Self, AnswerFault> {
        let mut cursor = Cursor::new(bytes);
        let header = Header::read(&mut cursor).map_err(|_| AnswerFault::Foreign)?;
        if header.id != id || header.flags & RESPONSE == 0 || header.flags & OPCODE != 0 {
            return Err(AnswerFault::Foreign);
        }
        let [_, low] = (header.flags & RESPONSE_CODE).to_be_bytes();
        let truncated = header.flags & TRUNCATED != 0;
        let nothing = Self {
            code: low,
            truncated,
            addresses: Vec::new(),
            inside: None,
            broken: false,
            names_service: false,
        };
        // Some servers repeat no question where they refuse.
        if header.questions == 0 && low != 0 && header.answers == 0 {
            return Ok(nothing);
        }
        // Of a transfer only the first message has to repeat the question (RFC 5936 section 2.2.1).
        let goes_on = header.questions == 0 && is_transfer(query.record);
        if !goes_on && (header.questions != 1 || !is_question(query, &mut cursor).unwrap_or(false)) {
            return Err(AnswerFault::Foreign);
        }
        match read_records(query, header, cursor) {
            Ok(Read { addresses, inside, names_service }) => {
                Ok(Self { addresses, inside, names_service, ..nothing })
            }
            // What was cut off may be cut in the middle of a record.
            Err(_) if truncated => Ok(Self { broken: true, ..nothing }),
            Err(Malformed(detail)) => Err(AnswerFault::Malformed(detail)),
        }
    }

    /// What says that an answer was truncated, and nothing else of it: whoever reads what there is of a broken one reads what
    /// nobody has judged.
    pub fn only_truncated(query: &Query) -> Vec<u8> {
        let flags = RESPONSE | TRUNCATED | RECURSION_AVAILABLE | query.flags & RECURSION_DESIRED;
        let mut message = Vec::new();
        Header { id: query.id, flags, questions: 1, answers: 0, authorities: 0, additionals: 0 }
            .write(&mut message);
        query.write_question(&mut message);
        message
    }

    /// Gives an answer the identifier that its asker knows.
    pub fn restore_id(bytes: &mut [u8], id: u16) {
        if let Some(place) = bytes.get_mut(..2) {
            place.copy_from_slice(&id.to_be_bytes());
        }
    }
}

fn is_question(query: &Query, cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
    let name = WireName::read_plain(cursor)?;
    Ok(name == query.name && cursor.u16()? == query.record && cursor.u16()? == query.class)
}

/// Addresses with the seconds that they may be kept.
type Addresses = Vec<(IpAddr, u32)>;

/// What the records say.
struct Read {
    addresses: Addresses,
    inside: Option<(IpAddr, AddressKind)>,
    names_service: bool,
}

fn read_records(query: &Query, header: Header, mut cursor: Cursor<'_>) -> Result<Read, Malformed> {
    let all = [header.answers, header.authorities, header.additionals].map(usize::from);
    if all.iter().sum::<usize>() > DNS_RECORDS_MAX {
        return Err(Malformed("more records than an answer needs"));
    }
    let mut records = Vec::with_capacity(all[0].min(64));
    for _ in 0..all[0] {
        records.push(Record::read(&mut cursor)?);
    }
    let is_service = |record: &Record<'_>| matches!(record.kind, SVCB | HTTPS);
    let mut names_service = records.iter().any(is_service);
    for _ in 0..all[1] + all[2] {
        names_service |= is_service(&Record::read(&mut cursor)?);
    }
    if !cursor.is_at_end() {
        return Err(Malformed("bytes behind the message"));
    }
    let asks_for_address = matches!(query.record, A | AAAA);
    if asks_for_address && records.iter().any(|record| !record.owner.is_read_alike()) {
        return Err(Malformed("a name that readers end at different bytes"));
    }
    let mut inside = None;
    for record in &records {
        // Not everybody looks at classes; in another one an address may be something else.
        let mut addresses = match addresses_of(record) {
            Err(_) if record.class != IN => Vec::new(),
            addresses => addresses?,
        };
        addresses.extend(taken_for_address(record));
        let mut not_public = addresses.into_iter().map(|address| (address, AddressKind::of(address)));
        inside = inside.or_else(|| not_public.find(|(_, kind)| *kind != AddressKind::Public));
    }
    records.retain(|record| record.class == IN);
    Ok(Read { addresses: chained_addresses(query, &records)?, inside, names_service })
}

/// What readers take for an address that look at the lower byte of the type and at no class, as C libraries for containers do.
fn taken_for_address(record: &Record<'_>) -> Option<IpAddr> {
    match record.kind & 0xff {
        A => <[u8; 4]>::try_from(record.content).ok().map(v4),
        AAAA => <[u8; 16]>::try_from(record.content).ok().map(v6),
        _ => None,
    }
}

/// What the chain of aliases that begins with the question leads to.
fn chained_addresses(query: &Query, records: &[Record<'_>]) -> Result<Addresses, Malformed> {
    let (mut name, mut ttl_s) = (query.name.clone(), u32::MAX);
    for _ in 0..=DNS_ALIASES_MAX {
        let mut aliases = records.iter().filter(|record| record.kind == CNAME && record.owner == name);
        match (aliases.next(), aliases.next()) {
            (None, _) => return addresses_at(query, &name, ttl_s, records),
            (Some(alias), None) => {
                ttl_s = ttl_s.min(alias.ttl_s);
                let mut cursor = alias.content_cursor.clone();
                name = WireName::read(&mut cursor)?;
                if cursor.at() != alias.content_cursor.at() + alias.content.len() {
                    return Err(Malformed("an alias of another length than its name has"));
                }
            }
            (Some(_), Some(_)) => break,
        }
    }
    Ok(Addresses::new())
}

fn addresses_at(
    query: &Query,
    name: &WireName,
    ttl_s: u32,
    records: &[Record<'_>],
) -> Result<Addresses, Malformed> {
    let mut found = Addresses::new();
    let wanted = |kind: u16| query.record == kind || query.record == ANY;
    for record in records.iter().filter(|record| wanted(record.kind) && record.owner == *name) {
        let ttl_s = ttl_s.min(record.ttl_s);
        for address in addresses_of(record)? {
            let has_room = found.len() < DNS_ADDRESSES_MAX;
            match found.iter_mut().find(|(known, _)| *known == address) {
                Some((_, known_ttl_s)) => *known_ttl_s = ttl_s.min(*known_ttl_s),
                None if has_room => found.push((address, ttl_s)),
                None => {}
            }
        }
    }
    Ok(found)
}

/// The addresses in a record, whatever its type.
fn addresses_of(record: &Record<'_>) -> Result<Vec<IpAddr>, Malformed> {
    let wrong = Malformed("an address of another length than addresses have");
    match record.kind {
        A => <[u8; 4]>::try_from(record.content).map(|octets| vec![v4(octets)]).map_err(|_| wrong),
        AAAA => <[u8; 16]>::try_from(record.content).map(|octets| vec![v6(octets)]).map_err(|_| wrong),
        SVCB | HTTPS => hints(record.content),
        _ => Ok(Vec::new()),
    }
}

fn v4(octets: [u8; 4]) -> IpAddr {
    Ipv4Addr::from(octets).into()
}

fn v6(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).into()
}

/// The addresses by which a service may be reached before its name is asked for (RFC 9460 sections 2.2 and 7.3).
fn hints(content: &[u8]) -> Result<Vec<IpAddr>, Malformed> {
    const IPV4_HINT: u16 = 4;
    const IPV6_HINT: u16 = 6;
    let mut cursor = Cursor::new(content);
    cursor.u16()?;
    WireName::read_plain(&mut cursor)?;
    let mut found = Vec::new();
    while !cursor.is_at_end() {
        let (key, length) = (cursor.u16()?, cursor.u16()?);
        let value = cursor.take(usize::from(length))?;
        match key {
            IPV4_HINT => found.extend(value.as_chunks().0.iter().map(|octets| v4(*octets))),
            IPV6_HINT => found.extend(value.as_chunks().0.iter().map(|octets| v6(*octets))),
            _ => {}
        }
    }
    Ok(found)
}

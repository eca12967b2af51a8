//! How others read messages of the name system.

use bulkhead_inspect::dns::{A, AAAA};
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::IpAddr;

/// The first question of a message as it stands there: name, type and class.
pub(crate) fn question(message: &[u8]) -> Option<&[u8]> {
    let rest = message.get(12..)?;
    let mut at = 0;
    loop {
        match usize::from(*rest.get(at)?) {
            0 => return rest.get(..at + 5),
            length @ 1..=63 => at += length + 1,
            _ => return None,
        }
    }
}

/// True if one message answers the other: as its asker sees it.
pub(crate) fn answers(told: &[u8], asked: &[u8]) -> bool {
    let is_answer = told.len() >= 12 && told[2] & 0x80 != 0 && told.get(..2) == asked.get(..2);
    let repeats =
        || question(told).zip(question(asked)).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other));
    is_answer && (told[4..6] == [0, 0] || repeats())
}

/// The addresses in the records of an answer, whoever they belong to.
pub(crate) fn addresses(message: &Message) -> Vec<IpAddr> {
    message.answers().iter().flat_map(|record| of(record.data())).collect()
}

/// The addresses that aliases lead to from the name that was asked for, with their seconds.
pub(crate) fn reached(message: &Message) -> Vec<(IpAddr, u32)> {
    let Some(query) = message.queries().first() else { return Vec::new() };
    let mut names: Vec<&Name> = vec![query.name()];
    while let Some(next) = message.answers().iter().find_map(|record| match record.data() {
        RData::CNAME(target) if names.contains(&record.name()) && !names.contains(&&target.0) => {
            Some(&target.0)
        }
        _ => None,
    }) {
        names.push(next);
    }
    let wanted = |kind: RecordType| query.query_type() == kind || query.query_type() == RecordType::ANY;
    let records = message.answers().iter();
    let own = records.filter(|record| names.contains(&record.name()) && wanted(record.record_type()));
    own.flat_map(|record| of(record.data()).into_iter().map(|address| (address, record.ttl()))).collect()
}

fn of(data: &RData) -> Vec<IpAddr> {
    match data {
        RData::A(address) => vec![address.0.into()],
        RData::AAAA(address) => vec![address.0.into()],
        RData::SVCB(service) => hints(service),
        RData::HTTPS(service) => hints(&service.0),
        _ => Vec::new(),
    }
}

fn hints(service: &SVCB) -> Vec<IpAddr> {
    let of_one = |value: &SvcParamValue| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hints) => hints.0.iter().map(|address| address.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hints) => hints.0.iter().map(|address| address.0.into()).collect(),
            _ => Vec::new(),
        }
    };
    service.svc_params().iter().flat_map(|(_, value)| of_one(value)).collect()
}

/// What the simplest of readers, those of C libraries for containers among them, take for addresses: names end at the first
/// byte that is 0 or no letter of ASCII, owners and classes do not count, and of a type only its lower byte does.
pub(crate) fn plain_addresses(message: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    if message.len() < 12 || message[3] & 15 != 0 {
        return found;
    }
    let count = |at: usize| usize::from(message[at]) << 8 | usize::from(message[at + 1]);
    let mut at = 12;
    let skip_name = |at: usize| {
        let end = message.get(at..)?.iter().position(|byte| !matches!(byte, 1..=127))?;
        Some(at + end + if message[at + end] == 0 { 1 } else { 2 })
    };
    for _ in 0..count(4) {
        let Some(end) = skip_name(at) else { return found };
        at = end + 4;
    }
    for _ in 0..count(6) {
        let Some(end) = skip_name(at) else { return found };
        let Some(&[_, kind, _, _, _, _, _, _, high, low]) = message.get(end..).and_then(<[u8]>::first_chunk)
        else {
            return found;
        };
        at = end + 10 + (usize::from(high) << 8 | usize::from(low));
        let Some(content) = message.get(end + 10..at) else { return found };
        match u16::from(kind) {
            A => found.extend(<[u8; 4]>::try_from(content).map(IpAddr::from)),
            AAAA => found.extend(<[u8; 16]>::try_from(content).map(IpAddr::from)),
            _ => {}
        }
    }
    found
}

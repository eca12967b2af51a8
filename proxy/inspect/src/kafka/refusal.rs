//! Refusals in the words of a broker: each topic, or each of its partitions, with the error of who may not.
//!
//! `Produce`, `Fetch`, `ListOffsets`, `OffsetFetch`, `CreateTopics` and `DeleteTopics` are answered here, and so are the first requests of
//! groups, transactions, idempotent producers and administrators, which name no topics: clients try anything else again and
//! again. `Metadata` has to name the brokers, which only a broker knows: it is
//! asked for those and the topics that are allowed, and the others are put into its answer. What else is refused ends the
//! connection.

use super::body::Body;
use super::topics::{
    self, CREATE_TOPICS, DELETE_TOPICS, FETCH, LIST_OFFSETS, METADATA, Named, OFFSET_FETCH, PRODUCE,
};
use crate::limits::KAFKA_TOPICS_MAX;

const FIND_COORDINATOR: u16 = 10;
const LIST_GROUPS: u16 = 16;
const INIT_PRODUCER_ID: u16 = 22;
const DESCRIBE_CLUSTER: u16 = 60;

/// TOPIC_AUTHORIZATION_FAILED.
const NOT_ALLOWED: i16 = 29;
/// GROUP_AUTHORIZATION_FAILED.
const GROUP_NOT_ALLOWED: i16 = 30;
/// CLUSTER_AUTHORIZATION_FAILED, which idempotent producers are told as well.
const CLUSTER_NOT_ALLOWED: i16 = 31;
/// TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
const TRANSACTION_NOT_ALLOWED: i16 = 53;
/// FETCH_SESSION_ID_NOT_FOUND: a client then names its topics anew.
const NO_SESSION: i16 = 70;

/// Writes fields in the form of a version.
struct Out {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Out {
    /// Begins an answer, without its length.
    fn answer(correlation: i32, flexible: bool) -> Self {
        let mut out = Self { bytes: vec![0; 4], flexible };
        out.bytes.extend(correlation.to_be_bytes());
        out.tags();
        out
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put_if(&mut self, condition: bool, bytes: &[u8]) {
        if condition {
            self.put(bytes);
        }
    }

    /// The count of an array; of bytes, if there are none.
    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if !self.flexible {
            return self.put(&count.to_be_bytes());
        }
        let mut rest = count.saturating_add(1);
        while rest >= 0x80 {
            self.bytes.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest.to_le_bytes()[0]);
    }

    fn string(&mut self, text: &str) {
        match self.flexible {
            true => self.count(text.len()),
            // Names of topics have at most 249 bytes.
            false => self.put(&u16::try_from(text.len()).unwrap_or_default().to_be_bytes()),
        }
        self.put(text.as_bytes());
    }

    fn no_text(&mut self) {
        self.put(if self.flexible { &[0] } else { &[0xff, 0xff] });
    }

    fn tags(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }

    fn done(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len() - 4).unwrap_or_default().to_be_bytes();
        self.bytes.splice(..4, length);
        self.bytes
    }
}

/// The answer to a request that is there in full; `None` where the protocol has none that could be given here.
pub(super) fn compose(api: u16, version: i16, correlation: i32, rest: &[u8]) -> Option<Vec<u8>> {
    let since = match api {
        FIND_COORDINATOR => return coordinator(version, correlation, rest),
        INIT_PRODUCER_ID => return producer(version, correlation, rest),
        LIST_GROUPS => return groups(version, correlation),
        DESCRIBE_CLUSTER => return cluster(version, correlation),
        PRODUCE => 3,
        FETCH => 4,
        LIST_OFFSETS | CREATE_TOPICS | DELETE_TOPICS => 1,
        OFFSET_FETCH => 2,
        _ => return None,
    };
    let named = topics::read_with(api, version, rest, true).ok()??;
    if version < since || named.unanswered {
        return None;
    }
    let mut out = Out::answer(correlation, topics::is_flexible(api, version));
    match api {
        PRODUCE => produce(&mut out, version, &named),
        FETCH => fetch(&mut out, version, &named),
        CREATE_TOPICS => created(&mut out, version, &named),
        DELETE_TOPICS => deleted(&mut out, version, &named),
        OFFSET_FETCH => offset_fetch(&mut out, version, &named, group(version, rest)?),
        _ => list_offsets(&mut out, version, &named),
    }
    out.tags();
    Some(out.done())
}

/// An array of topics, each with its partitions.
fn each(out: &mut Out, named: &Named<'_>, partition: impl Fn(&mut Out, i32)) {
    let groups = || named.partitions.chunk_by(|one, other| one.0 == other.0);
    out.count(groups().count());
    for group in groups() {
        out.string(group.first().map_or("", |(topic, _)| topic));
        out.count(group.len());
        for (_, number) in group {
            partition(out, *number);
            out.tags();
        }
        out.tags();
    }
}

const NONE: [u8; 8] = (-1i64).to_be_bytes();

fn produce(out: &mut Out, version: i16, named: &Named<'_>) {
    each(out, named, |out, number| {
        out.put(&number.to_be_bytes());
        out.put(&NOT_ALLOWED.to_be_bytes());
        // Offset, time, first offset.
        out.put(&NONE);
        out.put(&NONE);
        out.put_if(version >= 5, &NONE);
        if version >= 8 {
            out.count(0);
            out.no_text();
        }
    });
    out.put(&[0; 4]);
}

fn fetch(out: &mut Out, version: i16, named: &Named<'_>) {
    out.put(&[0; 4]);
    if version >= 7 {
        let error = if named.partitions.is_empty() { NO_SESSION } else { 0 };
        out.put(&error.to_be_bytes());
        out.put(&[0; 4]);
    }
    each(out, named, |out, number| {
        out.put(&number.to_be_bytes());
        out.put(&NOT_ALLOWED.to_be_bytes());
        // Two ends and, later, a begin.
        out.put(&NONE);
        out.put(&NONE);
        out.put_if(version >= 5, &NONE);
        out.count(0);
        out.put_if(version >= 11, &(-1i32).to_be_bytes());
        out.count(0);
    });
}

fn list_offsets(out: &mut Out, version: i16, named: &Named<'_>) {
    out.put_if(version >= 2, &[0; 4]);
    each(out, named, |out, number| {
        out.put(&number.to_be_bytes());
        out.put(&NOT_ALLOWED.to_be_bytes());
        out.put(&NONE);
        out.put(&NONE);
        out.put_if(version >= 4, &(-1i32).to_be_bytes());
    });
}

fn created(out: &mut Out, version: i16, named: &Named<'_>) {
    out.put_if(version >= 2, &[0; 4]);
    out.count(named.topics.len());
    for topic in &named.topics {
        out.string(topic);
        out.put_if(version >= 7, &[0; 16]);
        out.put(&NOT_ALLOWED.to_be_bytes());
        out.no_text();
        // Partitions, replicas, and a null for its settings.
        out.put_if(version >= 5, &[0xff; 6]);
        out.put_if(version >= 5, &[0]);
        out.tags();
    }
}

fn deleted(out: &mut Out, version: i16, named: &Named<'_>) {
    out.put(&[0; 4]);
    out.count(named.topics.len());
    for topic in &named.topics {
        out.string(topic);
        out.put(&NOT_ALLOWED.to_be_bytes());
        if version >= 5 {
            out.no_text();
        }
        out.tags();
    }
}

/// Of one group.
fn offset_fetch(out: &mut Out, version: i16, named: &Named<'_>, group: &str) {
    out.put_if(version >= 3, &[0; 4]);
    if version >= 8 {
        out.count(1);
        out.string(group);
    }
    each(out, named, |out, number| {
        out.put(&number.to_be_bytes());
        out.put(&NONE);
        out.put_if(version >= 5, &(-1i32).to_be_bytes());
        out.string("");
        out.put(&NOT_ALLOWED.to_be_bytes());
    });
    // Whoever names no topic asks for all of the group.
    let error = if named.partitions.is_empty() { GROUP_NOT_ALLOWED } else { 0 };
    out.put(&error.to_be_bytes());
    if version >= 8 {
        out.tags();
    }
}

/// The only group whose offsets are asked for.
fn group(version: i16, rest: &[u8]) -> Option<&str> {
    let mut body = Body::new(rest, topics::is_flexible(OFFSET_FETCH, version));
    body.tags()?;
    if version >= 8 && body.items()?? != 1 {
        return None;
    }
    body.string()
}

/// True for a request without topics that is answered here if it is denied, for which it has to be there in full.
pub(super) fn answers(api: u16) -> bool {
    matches!(api, FIND_COORDINATOR | INIT_PRODUCER_ID | LIST_GROUPS | DESCRIBE_CLUSTER)
}

/// Who leads a group, or several, or a transaction.
fn coordinator(version: i16, correlation: i32, rest: &[u8]) -> Option<Vec<u8>> {
    if !(0..=6).contains(&version) {
        return None;
    }
    let mut body = Body::new(rest, version >= 3);
    body.tags()?;
    let of = |kind: u8| if kind == 1 { TRANSACTION_NOT_ALLOWED } else { GROUP_NOT_ALLOWED }.to_be_bytes();
    let mut out = Out::answer(correlation, version >= 3);
    out.put_if(version >= 1, &[0; 4]);
    if version >= 4 {
        let error = of(body.byte()?);
        let count = body.items()??;
        let key = |_| body.string().filter(|key| !key.is_empty());
        let keys = (0..count.min(KAFKA_TOPICS_MAX)).map(key).collect::<Option<Vec<_>>>()?;
        out.count(keys.len());
        for key in keys {
            out.string(key);
            nobody(&mut out);
            out.put(&error);
            out.no_text();
            out.tags();
        }
    } else {
        body.string()?;
        out.put(&of(if version >= 1 { body.byte()? } else { 0 }));
        if version >= 1 {
            out.no_text();
        }
        nobody(&mut out);
    }
    out.tags();
    Some(out.done())
}

fn groups(version: i16, correlation: i32) -> Option<Vec<u8>> {
    if !(0..=5).contains(&version) {
        return None;
    }
    let mut out = Out::answer(correlation, version >= 3);
    out.put_if(version >= 1, &[0; 4]);
    out.put(&CLUSTER_NOT_ALLOWED.to_be_bytes());
    out.count(0);
    out.tags();
    Some(out.done())
}

fn cluster(version: i16, correlation: i32) -> Option<Vec<u8>> {
    if !(0..=2).contains(&version) {
        return None;
    }
    let mut out = Out::answer(correlation, true);
    out.put(&[0; 4]);
    out.put(&CLUSTER_NOT_ALLOWED.to_be_bytes());
    out.no_text();
    // Brokers are what it lists.
    out.put_if(version >= 1, &[1]);
    out.string("");
    out.put(&(-1i32).to_be_bytes());
    out.count(0);
    out.put(&i32::MIN.to_be_bytes());
    out.tags();
    Some(out.done())
}

/// Number, host and port of a broker that there is not.
fn nobody(out: &mut Out) {
    out.put(&(-1i32).to_be_bytes());
    out.string("");
    out.put(&(-1i32).to_be_bytes());
}

fn producer(version: i16, correlation: i32, rest: &[u8]) -> Option<Vec<u8>> {
    if !(0..=5).contains(&version) {
        return None;
    }
    let mut body = Body::new(rest, version >= 2);
    body.tags()?;
    let error = match body.nullable_string()? {
        Some(_) => TRANSACTION_NOT_ALLOWED,
        None => CLUSTER_NOT_ALLOWED,
    };
    let mut out = Out::answer(correlation, version >= 2);
    out.put(&[0; 4]);
    out.put(&error.to_be_bytes());
    // Number and epoch.
    out.put(&NONE);
    out.put(&(-1i16).to_be_bytes());
    out.tags();
    Some(out.done())
}

/// A `Metadata` request for these topics only in the place of this one; `None` where none can be.
pub(super) fn about(version: i16, bytes: &[u8], rest: &[u8], topics: &[Box<str>]) -> Option<Vec<u8>> {
    if version < 1 {
        return None;
    }
    let flexible = topics::is_flexible(METADATA, version);
    let mut body = Body::new(rest, flexible);
    body.tags()?;
    for _ in 0..body.items()?.unwrap_or_default() {
        if version >= 10 {
            body.skip(16)?;
        }
        body.nullable_string()?;
        body.tags()?;
    }
    let mut out = Out { bytes: bytes.get(..bytes.len() - rest.len())?.to_vec(), flexible };
    out.tags();
    out.count(topics.len());
    for topic in topics {
        out.put_if(version >= 10, &[0; 16]);
        out.string(topic);
        out.tags();
    }
    out.put(rest.get(rest.len() - body.left()..)?);
    Some(out.done())
}

/// The answer to it, with those topics as well; as it is if it does not read as its version says.
pub(super) fn with_topics(version: i16, answer: &[u8], topics: &[Box<str>]) -> Vec<u8> {
    let flexible = topics::is_flexible(METADATA, version);
    let place = place_of_topics(version, answer, flexible);
    let parts = place.and_then(|(at, end, count)| Some((answer.get(..at)?, answer.get(end..)?, count)));
    let Some((before, after, count)) = parts else { return answer.to_vec() };
    let mut out = Out { bytes: before.to_vec(), flexible };
    out.count(count + topics.len());
    for topic in topics {
        out.put(&NOT_ALLOWED.to_be_bytes());
        out.string(topic);
        out.put_if(version >= 10, &[0; 16]);
        out.put(&[0]);
        out.count(0);
        out.put_if(version >= 8, &i32::MIN.to_be_bytes());
        out.tags();
    }
    out.put(after);
    out.done()
}

/// Where the count of topics begins and ends, and what it is.
fn place_of_topics(version: i16, answer: &[u8], flexible: bool) -> Option<(usize, usize, usize)> {
    let mut body = Body::new(answer.get(8..)?, flexible);
    body.tags()?;
    if version >= 3 {
        body.skip(4)?;
    }
    for _ in 0..body.items()?? {
        body.skip(4)?;
        body.string()?;
        body.skip(4)?;
        body.nullable_string()?;
        body.tags()?;
    }
    if version >= 2 {
        body.nullable_string()?;
    }
    body.skip(4)?;
    let at = answer.len() - body.left();
    let count = body.items()??;
    Some((at, answer.len() - body.left(), count))
}

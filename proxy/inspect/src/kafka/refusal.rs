//! Refusals in the words of a broker: each topic, or each of its partitions, with the error of who may not.
//!
//! `Produce`, `Fetch` and `ListOffsets` are answered here. `Metadata` has to name the brokers, which only a broker knows: it is
//! asked for those and the topics that are allowed, and the others are put into its answer. What else is refused ends the
//! connection.

use super::body::Body;
use super::topics::{self, FETCH, LIST_OFFSETS, METADATA, Named, PRODUCE};

/// TOPIC_AUTHORIZATION_FAILED.
const NOT_ALLOWED: i16 = 29;
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
        PRODUCE => 3,
        FETCH => 4,
        LIST_OFFSETS => 1,
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
            // No text: a null.
            out.put(if out.flexible { &[0] } else { &[0xff, 0xff] });
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

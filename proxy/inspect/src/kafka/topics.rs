//! Requests that name topics: their layout, version by version (message definitions of the protocol guide).
//!
//! Versions that are not known here, among them those that name topics by number, have no topics that can be told; clients that
//! ask for versions are offered those that are.

use super::body::Body;
use super::malformed;
use crate::contract::Refusal;
use crate::limits::KAFKA_TOPICS_MAX;
use bulkhead_facts::Reason;

pub(super) const PRODUCE: u16 = 0;
pub(super) const FETCH: u16 = 1;
pub(super) const LIST_OFFSETS: u16 = 2;
pub(super) const METADATA: u16 = 3;
const OFFSET_COMMIT: u16 = 8;
pub(super) const OFFSET_FETCH: u16 = 9;
pub(super) const CREATE_TOPICS: u16 = 19;
pub(super) const DELETE_TOPICS: u16 = 20;
const DELETE_RECORDS: u16 = 21;
const OFFSET_FOR_LEADER_EPOCH: u16 = 23;
const ADD_PARTITIONS_TO_TXN: u16 = 24;
const TXN_OFFSET_COMMIT: u16 = 28;
const CREATE_PARTITIONS: u16 = 37;
const DESCRIBE_TOPIC_PARTITIONS: u16 = 75;

/// Requests with topics: the first flexible version, and the last one that is known.
const LAYOUTS: [(u16, i16, i16); 14] = [
    (PRODUCE, 9, 12),
    (FETCH, 12, 12),
    (LIST_OFFSETS, 6, 9),
    (METADATA, 9, 12),
    (OFFSET_COMMIT, 8, 9),
    (OFFSET_FETCH, 6, 9),
    (CREATE_TOPICS, 5, 7),
    (DELETE_TOPICS, 4, 5),
    (DELETE_RECORDS, 2, 2),
    (OFFSET_FOR_LEADER_EPOCH, 4, 4),
    (ADD_PARTITIONS_TO_TXN, 3, 3),
    (TXN_OFFSET_COMMIT, 3, 5),
    (CREATE_PARTITIONS, 2, 3),
    (DESCRIBE_TOPIC_PARTITIONS, 0, 0),
];

/// True if lengths in it are of variable size.
pub(super) fn is_flexible(api: u16, version: i16) -> bool {
    layout(api).is_some_and(|(flexible, _)| version >= flexible)
}

/// The last version of a request with topics that can be read; `None` for a request without.
pub(super) fn last_version(api: u16) -> Option<i16> {
    layout(api).map(|(_, last)| last)
}

fn layout(api: u16) -> Option<(i16, i16)> {
    LAYOUTS.iter().find(|layout| layout.0 == api).map(|layout| (layout.1, layout.2))
}

/// What a request with topics says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// All topics that it names; empty where it means all, or none that can be told.
    pub(super) topics: Vec<&'a str>,
    /// Nobody answers it: a `Produce` that asks for no acknowledgement.
    pub(super) unanswered: bool,
    /// Number and epoch of a fetch session.
    pub(super) session: Option<(i32, i32)>,
    /// Partitions that it names, each with its topic, where they are asked for.
    pub(super) partitions: Vec<(&'a str, i32)>,
    /// A `Metadata` that says of itself that it is about no topic: brokers are all it asks for.
    pub(super) brokers_only: bool,
}

/// Reads what follows the client's name in the header; `None` for a request without topics, or in a version that is not known.
pub(super) fn read(api: u16, version: i16, rest: &[u8]) -> Result<Option<Named<'_>>, Refusal> {
    read_with(api, version, rest, false)
}

/// As [`read`], with the partitions where `counts` says so.
pub(super) fn read_with(
    api: u16,
    version: i16,
    rest: &[u8],
    counts: bool,
) -> Result<Option<Named<'_>>, Refusal> {
    let Some((flexible, last)) = layout(api) else { return Ok(None) };
    if version < 0 || version > last {
        return Ok(None);
    }
    let mut reader = Reader {
        body: Body::new(rest, version >= flexible),
        version,
        named: Named::default(),
        unknown: false,
        counts,
    };
    match reader.request(api) {
        Some(()) if reader.named.topics.len() > KAFKA_TOPICS_MAX => {
            let detail = "request with more topics than are kept to judge it";
            Err(Refusal { reason: Reason::Limit, status: None, detail })
        }
        // Librdkafka writes a list of the older form behind a request for all topics; what means all hides nothing.
        Some(())
            if (reader.body.left() == 0 || reader.unknown)
                && reader.named.topics.iter().all(|name| is_topic(name)) =>
        {
            if reader.unknown {
                reader.named.topics.clear();
            }
            Ok(Some(reader.named))
        }
        Some(()) | None => Err(malformed("request that does not read as its version says")),
    }
}

fn is_topic(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= 249 && name.bytes().all(sound)
}

struct Reader<'a> {
    body: Body<'a>,
    version: i16,
    named: Named<'a>,
    /// One of them is named by number alone, so it could be any, or all are meant.
    unknown: bool,
    /// Partitions are kept.
    counts: bool,
}

impl<'a> Reader<'a> {
    fn request(&mut self, api: u16) -> Option<()> {
        // The header ends with tagged fields where the body does.
        self.body.tags()?;
        match api {
            PRODUCE => self.produce(),
            FETCH => self.fetch(),
            LIST_OFFSETS => self.list_offsets(),
            METADATA => self.metadata(),
            OFFSET_COMMIT => self.offset_commit(),
            OFFSET_FETCH => self.offset_fetch(),
            CREATE_TOPICS => self.create_topics(),
            DELETE_TOPICS => self.delete_topics(),
            DELETE_RECORDS => {
                self.topics(|reader| reader.partitions(12))?;
                self.body.skip(4)
            }
            OFFSET_FOR_LEADER_EPOCH => {
                self.skip_if(self.version >= 3, 4)?;
                let size = if self.version >= 2 { 12 } else { 8 };
                self.topics(|reader| reader.partitions(size))
            }
            ADD_PARTITIONS_TO_TXN => {
                self.body.string()?;
                self.body.skip(10)?;
                self.topics(|reader| reader.body.skip_items(4))
            }
            TXN_OFFSET_COMMIT => self.txn_offset_commit(),
            DESCRIBE_TOPIC_PARTITIONS => self.describe_topic_partitions(),
            _ => self.create_partitions(),
        }?;
        self.body.tags()
    }

    /// An array of topics, each with its name first; `each` reads what follows the name. Null means all, whatever another
    /// array of the request names.
    fn topics(&mut self, each: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        let items = self.body.items()?;
        self.unknown |= items.is_none();
        for _ in 0..items.unwrap_or_default() {
            let name = self.body.string()?;
            self.named.topics.push(name);
            each(self)?;
            self.body.tags()?;
        }
        Some(())
    }

    /// An array of items of this size, each with tagged fields.
    fn partitions(&mut self, size: usize) -> Option<()> {
        for _ in 0..self.body.items()?.unwrap_or_default() {
            self.partition()?;
            self.body.skip(size.checked_sub(4)?)?;
            self.body.tags()?;
        }
        Some(())
    }

    /// The number of a partition, with which each begins.
    fn partition(&mut self) -> Option<()> {
        let partition = self.body.i32()?;
        if let Some(topic) = self.named.topics.last().filter(|_| self.counts) {
            self.named.partitions.push((topic, partition));
        }
        Some(())
    }

    fn skip_if(&mut self, condition: bool, count: usize) -> Option<()> {
        if condition { self.body.skip(count) } else { Some(()) }
    }

    fn produce(&mut self) -> Option<()> {
        if self.version >= 3 {
            self.body.nullable_string()?;
        }
        self.named.unanswered = self.body.i16()? == 0;
        self.body.skip(4)?;
        self.topics(|reader| {
            for _ in 0..reader.body.items()?.unwrap_or_default() {
                reader.partition()?;
                reader.body.skip_bytes()?;
                reader.body.tags()?;
            }
            Some(())
        })
    }

    fn fetch(&mut self) -> Option<()> {
        let version = self.version;
        self.body.skip(12)?;
        self.skip_if(version >= 3, 4)?;
        self.skip_if(version >= 4, 1)?;
        if version >= 7 {
            self.named.session = Some((self.body.i32()?, self.body.i32()?));
        }
        let size = [(0, 16), (5, 8), (9, 4), (12, 4)];
        let size = size.iter().filter(|(since, _)| version >= *since).map(|(_, size)| size).sum();
        self.topics(|reader| reader.partitions(size))?;
        if version >= 7 {
            // Topics that a session is to forget: reading is no harm, but they are named.
            self.topics(|reader| reader.body.skip_items(4))?;
        }
        if version >= 11 {
            self.body.string()?;
        }
        Some(())
    }

    fn list_offsets(&mut self) -> Option<()> {
        self.body.skip(4)?;
        self.skip_if(self.version >= 2, 1)?;
        let size = match self.version {
            0 => 16,
            1..=3 => 12,
            _ => 16,
        };
        self.topics(|reader| reader.partitions(size))
    }

    fn metadata(&mut self) -> Option<()> {
        let version = self.version;
        // A null means all topics, and so did an empty list at first.
        let mut ahead = self.body;
        let count = ahead.items()?;
        self.named.brokers_only = version >= 1 && count == Some(0);
        self.unknown = count.is_none();
        if version >= 10 {
            for _ in 0..self.body.items()?.unwrap_or_default() {
                self.body.skip(16)?;
                match self.body.nullable_string()? {
                    Some(name) => self.named.topics.push(name),
                    None => self.unknown = true,
                }
                self.body.tags()?;
            }
        } else {
            self.names()?;
        }
        self.skip_if(version >= 4, 1)?;
        self.skip_if((8..=10).contains(&version), 1)?;
        self.skip_if(version >= 8, 1)
    }

    /// An array of names.
    fn names(&mut self) -> Option<()> {
        for _ in 0..self.body.items()?.unwrap_or_default() {
            let name = self.body.string()?;
            self.named.topics.push(name);
            // In flexible versions these are items with nothing but a name, in `DeleteTopics` strings.
            if self.version >= 9 {
                self.body.tags()?;
            }
        }
        Some(())
    }

    fn offset_commit(&mut self) -> Option<()> {
        let version = self.version;
        self.body.string()?;
        if version >= 1 {
            self.body.skip(4)?;
            self.body.string()?;
        }
        if version >= 7 {
            self.body.nullable_string()?;
        }
        self.skip_if((2..=4).contains(&version), 8)?;
        let size = 12 + if version >= 6 { 4 } else { 0 } + if version == 1 { 8 } else { 0 };
        self.topics(|reader| reader.offsets(size))
    }

    /// Partitions with an offset and a comment.
    fn offsets(&mut self, size: usize) -> Option<()> {
        for _ in 0..self.body.items()?.unwrap_or_default() {
            self.body.skip(size)?;
            self.body.nullable_string()?;
            self.body.tags()?;
        }
        Some(())
    }

    fn offset_fetch(&mut self) -> Option<()> {
        let version = self.version;
        let groups = if version >= 8 { self.body.items()?.unwrap_or_default() } else { 1 };
        for _ in 0..groups {
            self.body.string()?;
            if version >= 9 {
                self.body.nullable_string()?;
                self.body.skip(4)?;
            }
            self.topics(|reader| {
                for _ in 0..reader.body.items()?.unwrap_or_default() {
                    reader.partition()?;
                }
                Some(())
            })?;
            if version >= 8 {
                self.body.tags()?;
            }
        }
        self.skip_if(version >= 7, 1)
    }

    fn create_topics(&mut self) -> Option<()> {
        self.topics(|reader| {
            reader.body.skip(6)?;
            for _ in 0..reader.body.items()?.unwrap_or_default() {
                reader.body.skip(4)?;
                reader.body.skip_items(4)?;
                reader.body.tags()?;
            }
            for _ in 0..reader.body.items()?.unwrap_or_default() {
                reader.body.string()?;
                reader.body.nullable_string()?;
                reader.body.tags()?;
            }
            Some(())
        })?;
        self.body.skip(4)?;
        self.skip_if(self.version >= 1, 1)
    }

    fn delete_topics(&mut self) -> Option<()> {
        self.names()?;
        self.body.skip(4)
    }

    fn txn_offset_commit(&mut self) -> Option<()> {
        let version = self.version;
        self.body.string()?;
        self.body.string()?;
        self.body.skip(10)?;
        if version >= 3 {
            self.body.skip(4)?;
            self.body.string()?;
            self.body.nullable_string()?;
        }
        let size = if version >= 2 { 16 } else { 12 };
        self.topics(|reader| reader.offsets(size))
    }

    fn create_partitions(&mut self) -> Option<()> {
        self.topics(|reader| {
            reader.body.skip(4)?;
            for _ in 0..reader.body.items()?.unwrap_or_default() {
                reader.body.skip_items(4)?;
                reader.body.tags()?;
            }
            Some(())
        })?;
        self.body.skip(5)
    }

    /// No topics at all means all of them. A page begins with the topic that the last one ended in.
    fn describe_topic_partitions(&mut self) -> Option<()> {
        self.topics(|_| Some(()))?;
        self.unknown |= self.named.topics.is_empty();
        self.body.skip(4)?;
        if self.body.byte()? == 0xff {
            return Some(());
        }
        let name = self.body.string()?;
        self.named.topics.push(name);
        self.body.skip(4)?;
        self.body.tags()
    }
}

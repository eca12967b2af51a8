//! Messages for tests, written record by record.

use bulkhead_inspect::dns::IN;

/// A message in the making. Sections have to be written in order.
#[derive(Clone)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub(crate) fn new(id: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 12];
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        Self { bytes }
    }

    /// A question as resolvers send it.
    pub(crate) fn question(name: &str, record: u16) -> Self {
        Self::new(0x1234, 0x0100).ask(name, record, IN)
    }

    /// An answer to such a question.
    pub(crate) fn answer(name: &str, record: u16) -> Self {
        Self::new(0x4321, 0x8180).ask(name, record, IN)
    }

    pub(crate) fn ask(mut self, name: &str, record: u16, class: u16) -> Self {
        self.count(0);
        self.bytes.extend(wire(name));
        self.bytes.extend(record.to_be_bytes());
        self.bytes.extend(class.to_be_bytes());
        self
    }

    /// A record in the answer (1), authority (2) or additional section (3).
    pub(crate) fn record(self, section: usize, owner: &str, record: u16, ttl_s: u32, content: &[u8]) -> Self {
        self.record_of(section, &wire(owner), [record, IN], ttl_s, content)
    }

    /// The same with an owner on the wire, a type and a class.
    pub(crate) fn record_of(
        mut self,
        section: usize,
        owner: &[u8],
        [record, class]: [u16; 2],
        ttl_s: u32,
        content: &[u8],
    ) -> Self {
        self.count(section);
        self.bytes.extend(owner);
        self.bytes.extend(record.to_be_bytes());
        self.bytes.extend(class.to_be_bytes());
        self.bytes.extend(ttl_s.to_be_bytes());
        self.bytes.extend(u16::try_from(content.len()).expect("short").to_be_bytes());
        self.bytes.extend(content);
        self
    }

    /// The record of options, with such content.
    pub(crate) fn options(mut self, udp_bytes: u16, content: &[u8]) -> Self {
        self.count(3);
        self.bytes.extend([0, 0, 41]);
        self.bytes.extend(udp_bytes.to_be_bytes());
        self.bytes.extend([0, 0, 0x80, 0]);
        self.bytes.extend(u16::try_from(content.len()).expect("short").to_be_bytes());
        self.bytes.extend(content);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        self.bytes
    }

    fn count(&mut self, section: usize) {
        let at = 4 + 2 * section;
        let count = u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]) + 1;
        self.bytes[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }
}

/// A name on the wire, uncompressed.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("short"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

//! Netlink messages and attributes as bytes: writing them, and reading them without trusting lengths.
//!
//! Message headers are in host order, netfilter attributes in network order unless said otherwise.
//! Source: `include/uapi/linux/netlink.h`, `nfnetlink.h`.

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes of `struct nfgenmsg`.
pub(crate) const FAMILY_HEADER_BYTES: usize = 4;

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_EXCL`: refuse if it exists.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR`: the dump was disturbed by a change and is not consistent.
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_ACK_TLVS`: an acknowledgement with attributes.
pub(crate) const ACK_ATTRIBUTES: u16 = 0x200;

/// `NLMSG_ERROR`.
pub(crate) const MESSAGE_ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub(crate) const MESSAGE_DONE: u16 = 3;

const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Subsystems of nfnetlink, in the high byte of a message's type.
pub(crate) mod subsystem {
    pub(crate) const CONNTRACK: u16 = 1;
    pub(crate) const LOG: u16 = 4;
    pub(crate) const TABLES: u16 = 10;
}

/// A growing run of messages or attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends already encoded, aligned bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.align();
    }

    /// A message with a plain body header.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, sequence: u32, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        fill(self);
        self.align();
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// A netfilter message: `subsystem << 8 | command`, address family, resource id.
    pub(crate) fn netfilter_message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        (family, resource): (u8, u16),
        fill: impl FnOnce(&mut Self),
    ) {
        self.message(kind, flags, sequence, |e| {
            e.family_header(family, resource);
            fill(e);
        });
    }

    /// `struct nfgenmsg`.
    pub(crate) fn family_header(&mut self, family: u8, resource: u16) {
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        debug_assert_eq!(usize::from(length), value.len() + 4, "attribute too long");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.align();
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.attribute(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "nested attribute too long");
        let length = u16::try_from(length).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One received message.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after the netfilter header.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.body.get(FAMILY_HEADER_BYTES..).unwrap_or_default())
    }

    /// The address family of the netfilter header.
    pub(crate) fn family(&self) -> u8 {
        self.body.first().copied().unwrap_or(0)
    }

    /// For `MESSAGE_ERROR` and `MESSAGE_DONE`: the error number (0: success) and the kernel's text.
    pub(crate) fn outcome(&self) -> Option<(i32, Option<String>)> {
        let errno = i32::from_ne_bytes(self.body.get(..4)?.try_into().ok()?);
        let after_header = match self.kind {
            MESSAGE_ERROR => 4 + HEADER_BYTES,
            _ => 4,
        };
        let text = (self.flags & ACK_ATTRIBUTES != 0)
            .then(|| Attributes(self.body.get(after_header..).unwrap_or_default()))
            .and_then(|mut attributes| attributes.find(|(kind, _)| *kind == 1))
            .map(|(_, text)| text_of(text));
        Some((errno.wrapping_neg(), text))
    }
}

/// The messages of a datagram; ends at the first that is malformed.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header = self.0.get(..HEADER_BYTES)?;
        let length = usize::try_from(u32::from_ne_bytes(header[..4].try_into().ok()?)).ok()?;
        let body = self.0.get(HEADER_BYTES..length)?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes(header[8..12].try_into().ok()?),
            body,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes of a body as (type, value); ends at the first that is malformed.
#[derive(Clone)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// Like the iterator, with the nested flag kept.
    pub(crate) fn next_with_nesting(&mut self) -> Option<(u16, bool, &'a [u8])> {
        let header = self.0.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE_MASK, kind & NESTED != 0, value))
    }

    /// The value of the first attribute of that type.
    pub(crate) fn value(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The attributes inside the first attribute of that type; none if it is absent.
    pub(crate) fn inside(&self, kind: u16) -> Attributes<'a> {
        Attributes(self.value(kind).unwrap_or_default())
    }

    pub(crate) fn u32(&self, kind: u16) -> Option<u32> {
        self.value(kind).and_then(u32_of)
    }

    pub(crate) fn u64(&self, kind: u16) -> Option<u64> {
        self.value(kind)?.try_into().ok().map(u64::from_be_bytes)
    }

    pub(crate) fn text(&self, kind: u16) -> Option<String> {
        self.value(kind).map(text_of)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        self.next_with_nesting().map(|(kind, _, value)| (kind, value))
    }
}

/// A network-order number of 4 bytes.
pub(crate) fn u32_of(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A network-order number of 2 bytes.
pub(crate) fn u16_of(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

/// Text up to its terminating zero.
pub(crate) fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_read_back_as_written() {
        let mut encoder = Encoder::default();
        encoder.netfilter_message(0x0a06, ACK, 7, (1, 10), |e| {
            e.text(1, "bulkhead");
            e.nest(2, |e| e.u32(3, 0xdead_beef));
            e.u8(4, 9);
        });
        let message = Messages(encoder.bytes()).next().expect("one message");
        assert_eq!((message.kind, message.flags, message.sequence), (0x0a06, ACK | REQUEST, 7));
        assert_eq!(message.family(), 1);
        let attributes = message.attributes();
        assert_eq!(attributes.text(1).as_deref(), Some("bulkhead"));
        assert_eq!(attributes.inside(2).u32(3), Some(0xdead_beef));
        assert_eq!(attributes.value(4), Some(&[9][..]));
    }

    #[test]
    fn every_prefix_and_every_flipped_length_reads_without_panic() {
        let mut encoder = Encoder::default();
        encoder.netfilter_message(0x0a06, 0, 7, (1, 10), |e| e.nest(2, |e| e.u64(3, 5)));
        let whole = encoder.bytes().to_vec();
        let count = |bytes: &[u8]| Messages(bytes).map(|m| m.attributes().count()).sum::<usize>();
        assert_eq!(count(&whole), 1);
        for end in 0..whole.len() {
            assert!(count(&whole[..end]) <= 1);
        }
        for position in 0..whole.len() {
            for value in [0, 1, 3, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[position] = value;
                assert!(count(&bytes) <= whole.len() / 4);
            }
        }
    }
}

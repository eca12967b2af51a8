//! Frames of a WebSocket (RFC 6455 section 5), followed without keeping any payload.
//!
//! What a frame says of itself is checked before it passes: who masks, reserved bits and opcodes, lengths, the order of
//! fragments, the code and text of a close. What it carries is nobody's business here. [`Frames::next`] is for bytes
//! that are shown again until they are let go, [`Frames::follow`] for those that leave as they come.

use crate::contract::Side;
use crate::limits::WEBSOCKET_FRAME_BYTES_MAX;

/// Both ways of one WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    /// `permessage-deflate` was agreed on: the first reserved bit may be set (RFC 7692 section 6).
    compressed: bool,
    client: Way,
    server: Way,
}

#[derive(Clone, Debug, Default)]
struct Way {
    /// Bytes of the payload that is passing. INVARIANT: at most [`WEBSOCKET_FRAME_BYTES_MAX`].
    left: u32,
    /// A message is begun and not complete.
    in_message: bool,
    /// A close was said: nothing follows.
    closed: bool,
    /// The begin of a frame that could not be told yet, of bytes that have left.
    begun: Box<[u8]>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Code of the close (RFC 6455 section 7.4.1).
    pub(crate) code: u16,
    pub(crate) detail: &'static str,
}

const PROTOCOL_ERROR: u16 = 1002;
pub(crate) const TOO_LARGE: u16 = 1009;
const WRONG_TEXT: u16 = 1007;

/// Bytes that a control frame carries at most (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;
const CLOSE: u8 = 8;

/// A frame as far as its header says.
struct Head {
    /// With the key of the mask.
    bytes: usize,
    payload: u64,
    opcode: u8,
    last: bool,
    mask: [u8; 4],
}

impl Frames {
    pub(crate) fn new(compressed: bool) -> Self {
        Self { compressed, client: Way::default(), server: Way::default() }
    }

    /// How many of these bytes may pass; 0 if more have to be there.
    pub(crate) fn next(&mut self, side: Side, bytes: &[u8]) -> Result<usize, Fault> {
        let compressed = self.compressed;
        let way = self.way(side);
        if way.left > 0 {
            return Ok(way.payload(bytes));
        }
        Ok(way.begin(side, compressed, bytes)?.unwrap_or(0))
    }

    /// Bytes that leave as they come.
    pub(crate) fn follow(&mut self, side: Side, mut bytes: &[u8]) -> Result<(), Fault> {
        let compressed = self.compressed;
        let way = self.way(side);
        while !bytes.is_empty() {
            let count = if way.left > 0 {
                way.payload(bytes)
            } else if way.begun.is_empty() {
                let begun = way.begin(side, compressed, bytes)?;
                if begun.is_none() {
                    way.begun = bytes.into();
                }
                begun.unwrap_or(bytes.len())
            } else {
                let mut begun = std::mem::take(&mut way.begun).into_vec();
                begun.extend(bytes.first());
                if way.begin(side, compressed, &begun)?.is_none() {
                    way.begun = begun.into();
                }
                1
            };
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// True where nothing has to be known of what went before.
    pub(crate) fn is_between_messages(&self) -> bool {
        [&self.client, &self.server]
            .iter()
            .all(|way| way.left == 0 && way.begun.is_empty() && !way.in_message && !way.closed)
    }

    /// Bytes of a payload that may leave without being looked at.
    pub(crate) fn passable(&self, side: Side) -> u64 {
        match side {
            Side::Client => self.client.left.into(),
            Side::Server => self.server.left.into(),
        }
    }

    /// So many of them left.
    pub(crate) fn passed(&mut self, side: Side, count: u64) {
        let way = self.way(side);
        way.left = way.left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// True where a frame of our own has a place.
    pub(crate) fn is_between(&self, side: Side) -> bool {
        let way = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        way.left == 0 && way.begun.is_empty() && !way.closed
    }

    fn way(&mut self, side: Side) -> &mut Way {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

impl Way {
    /// Bytes at the front that belong to the payload that is passing.
    fn payload(&mut self, bytes: &[u8]) -> usize {
        let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= u32::try_from(count).unwrap_or(self.left);
        count
    }

    /// Bytes at the front that may pass: the header, and all of a close. `None` if more have to be there.
    fn begin(&mut self, side: Side, compressed: bool, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        if self.closed && !bytes.is_empty() {
            return Err(wrong("frame behind a close"));
        }
        let Some(head) = self.head(side, compressed, bytes)? else { return Ok(None) };
        let mut count = head.bytes;
        if head.opcode == CLOSE {
            // At most 125 bytes.
            let end = count + usize::try_from(head.payload).unwrap_or_default();
            let Some(payload) = bytes.get(count..end) else { return Ok(None) };
            check_close(payload, head.mask)?;
            count = end;
            self.closed = true;
        } else {
            // Longer ones are refused.
            self.left = u32::try_from(head.payload).unwrap_or(u32::MAX);
        }
        if head.opcode < CLOSE {
            self.in_message = !head.last;
        }
        Ok(Some(count))
    }

    fn head(&self, side: Side, compressed: bool, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let Some(first) = bytes.first() else { return Ok(None) };
        let (last, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        // Compressed is a message, which its first frame says.
        let compressed = compressed && matches!(opcode, 1 | 2);
        match opcode {
            _ if reserved & 0x30 != 0 || reserved != 0 && !compressed => {
                return Err(wrong("reserved bit that nobody agreed on"));
            }
            0 if !self.in_message => return Err(wrong("continuation of nothing")),
            1 | 2 if self.in_message => return Err(wrong("message within a message")),
            8..=10 if !last => return Err(wrong("fragment of a control frame")),
            0..=2 | 8..=10 => {}
            _ => return Err(wrong("opcode that is reserved")),
        }
        let Some(second) = bytes.get(1) else { return Ok(None) };
        let masked = second & 0x80 != 0;
        match (side, masked) {
            (Side::Client, false) => return Err(wrong("frame of a client without a mask")),
            (Side::Server, true) => return Err(wrong("frame of a server with a mask")),
            (Side::Client, true) | (Side::Server, false) => {}
        }
        let short = u64::from(second & 0x7f);
        if opcode >= CLOSE && short > CONTROL_BYTES_MAX {
            return Err(wrong("control frame of more than 125 bytes"));
        }
        let Some((extension, payload)) = length(short, bytes.get(2..).unwrap_or_default())? else {
            return Ok(None);
        };
        let key = 2 + extension;
        let mask = match masked {
            false => [0; 4],
            true => match bytes.get(key..).and_then(|rest| rest.first_chunk()) {
                None => return Ok(None),
                Some(mask) => *mask,
            },
        };
        let bytes = key + if masked { 4 } else { 0 };
        Ok(Some(Head { bytes, payload, opcode, last, mask }))
    }
}

/// Bytes that say the length beside the first seven bits, and the length, which has one form only.
fn length(short: u64, bytes: &[u8]) -> Result<Option<(usize, u64)>, Fault> {
    let (extension, length) = match short {
        126 => match bytes.first_chunk() {
            None => return Ok(None),
            Some(long) => (2, u64::from(u16::from_be_bytes(*long))),
        },
        127 => match bytes.first_chunk() {
            None => return Ok(None),
            Some(long) => (8, u64::from_be_bytes(*long)),
        },
        short => return Ok(Some((0, short))),
    };
    let shortest = if extension == 2 { 126 } else { 1 << 16 };
    if length < shortest {
        return Err(wrong("length that is not written as short as it can be"));
    }
    if length > WEBSOCKET_FRAME_BYTES_MAX {
        return Err(Fault { code: TOO_LARGE, detail: "frame of more than 1 GiB" });
    }
    Ok(Some((extension, length)))
}

/// A code that may be sent, and text (RFC 6455 sections 5.5.1 and 7.4).
fn check_close(payload: &[u8], mask: [u8; 4]) -> Result<(), Fault> {
    let plain: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    let Some((code, text)) = plain.split_first_chunk() else {
        return if plain.is_empty() { Ok(()) } else { Err(wrong("close with half a code")) };
    };
    if !matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(wrong("close with a code that nobody sends"));
    }
    match std::str::from_utf8(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(Fault { code: WRONG_TEXT, detail: "close with a reason that is no text" }),
    }
}

/// A close of our own, without a mask as to a client, or with one as to a server.
pub(crate) fn close(code: u16, text: &str, side: Side) -> Vec<u8> {
    let text = text.as_bytes().get(..text.len().min(123)).unwrap_or_default();
    let length = u8::try_from(text.len() + 2).unwrap_or(2);
    let mut frame = match side {
        Side::Client => vec![0x80 | CLOSE, length],
        // A key of zeros leaves the bytes as they are.
        Side::Server => vec![0x80 | CLOSE, 0x80 | length, 0, 0, 0, 0],
    };
    frame.extend(code.to_be_bytes());
    frame.extend(text);
    frame
}

/// True if an extension of this list (RFC 6455 section 9.1) is `permessage-deflate`.
pub(crate) fn is_compressed(list: &[u8]) -> bool {
    let name = |item: &[u8]| {
        let name = item.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"permessage-deflate")
    };
    list.split(|byte| *byte == b',').any(name)
}

const fn wrong(detail: &'static str) -> Fault {
    Fault { code: PROTOCOL_ERROR, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a key of its own where a client sends it.
    fn frame(side: Side, first: u8, payload: &[u8]) -> Vec<u8> {
        let masked = side == Side::Client;
        let bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match payload.len() {
            short @ ..126 => bytes.push(bit | u8::try_from(short).unwrap()),
            middle @ ..65_536 => {
                bytes.push(bit | 126);
                bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                bytes.push(bit | 127);
                bytes.extend(u64::try_from(long).unwrap().to_be_bytes());
            }
        }
        let key = [7, 11, 13, 17];
        if masked {
            bytes.extend(key);
        }
        let zeros = [0; 4];
        let key = if masked { &key } else { &zeros };
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    fn close_of(code: u16, text: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes()[..], text].concat()
    }

    /// What passes of a stream that comes in pieces of this size, and what is wrong behind it.
    fn run(compressed: bool, side: Side, bytes: &[u8], piece: usize) -> (usize, Option<u16>) {
        let mut frames = Frames::new(compressed);
        let (mut passed, mut shown) = (0, 0);
        loop {
            match frames.next(side, &bytes[passed..shown]) {
                Err(fault) => return (passed, Some(fault.code)),
                Ok(0) if shown == bytes.len() => return (passed, None),
                Ok(0) => shown = bytes.len().min(shown + piece),
                Ok(count) => passed += count,
            }
        }
    }

    /// Every cut says the same, shown again or followed as it leaves; nothing of a wrong frame passes where it can be held.
    fn check(compressed: bool, side: Side, good: &[u8], bad: &[u8], code: Option<u16>) {
        let all = [good, bad].concat();
        for piece in (1..40).chain([all.len()]) {
            let (passed, found) = run(compressed, side, &all, piece);
            assert_eq!(found, code, "piece {piece} of {bad:?}");
            if code.is_some() {
                assert_eq!(passed, good.len(), "piece {piece} of {bad:?}");
            }
            let mut frames = Frames::new(compressed);
            let followed = all.chunks(piece).try_for_each(|part| frames.follow(side, part));
            assert_eq!(followed.err().map(|fault| fault.code), code, "piece {piece} of {bad:?}");
        }
        for end in 0..good.len() {
            assert_eq!(run(compressed, side, &good[..end], 7).1, None, "{end} bytes of what is right");
        }
    }

    const SIDES: [Side; 2] = [Side::Client, Side::Server];

    #[test]
    fn messages_of_every_length_and_kind_pass_however_they_are_cut() {
        for side in SIDES {
            let long = vec![b'x'; 70_000];
            let message = [
                frame(side, 0x81, b"hello"),
                frame(side, 0x01, b"one"),
                frame(side, 0x89, b"ping within"),
                frame(side, 0x00, b""),
                frame(side, 0x80, &long[..300]),
                frame(side, 0x82, &long[..126]),
                frame(side, 0x8a, &[0; 125]),
                frame(side, 0x88, &close_of(1000, "bye \u{20ac}".as_bytes())),
            ]
            .concat();
            check(false, side, &message, &[], None);
            let (passed, fault) = run(false, side, &frame(side, 0x82, &long), 4_096);
            assert!(passed > 70_000 && fault.is_none());
        }
    }

    #[test]
    fn what_a_frame_says_wrong_of_itself_is_refused_before_anything_of_it_passes() {
        let good = |side| [frame(side, 0x81, b"a"), frame(side, 0x89, b"")].concat();
        for side in SIDES {
            let other = if side == Side::Client { Side::Server } else { Side::Client };
            let mut not_shortest = frame(side, 0x81, &[0; 200]);
            not_shortest[2..4].copy_from_slice(&[0, 125]);
            let bit = if side == Side::Client { 0x80 } else { 0 };
            let cases: Vec<(&str, Vec<u8>, u16)> = vec![
                ("mask", frame(other, 0x81, b"a"), 1002),
                ("first bit", frame(side, 0xc1, b"a"), 1002),
                ("second bit", frame(side, 0xa1, b"a"), 1002),
                ("third bit", frame(side, 0x91, b"a"), 1002),
                ("opcode 3", frame(side, 0x83, b"a"), 1002),
                ("opcode 11", frame(side, 0x8b, b""), 1002),
                ("continuation", frame(side, 0x80, b"a"), 1002),
                ("fragment", frame(side, 0x09, b""), 1002),
                ("long ping", frame(side, 0x89, &[0; 126]), 1002),
                ("half a code", frame(side, 0x88, &[3]), 1002),
                ("code 1005", frame(side, 0x88, &close_of(1005, b"")), 1002),
                ("code 1015", frame(side, 0x88, &close_of(1015, b"")), 1002),
                ("code 999", frame(side, 0x88, &close_of(999, b"")), 1002),
                ("code 2999", frame(side, 0x88, &close_of(2999, b"")), 1002),
                ("code 5000", frame(side, 0x88, &close_of(5000, b"")), 1002),
                ("no text", frame(side, 0x88, &close_of(1000, &[0xff])), 1007),
                ("cut text", frame(side, 0x88, &close_of(1000, &[0xe2, 0x82])), 1007),
                ("16 bits", not_shortest, 1002),
                ("64 bits", [&[0x82, bit | 127][..], &[0, 0, 0, 0, 0, 0, 0xff, 0xff]].concat(), 1002),
                ("too large", [&[0x82, bit | 127][..], &[0, 0, 0, 0, 0x40, 0, 0, 1]].concat(), 1009),
                ("huge", [&[0x82, bit | 127][..], &[0xff; 8]].concat(), 1009),
            ];
            for (what, bad, code) in cases {
                println!("{side:?} {what}");
                check(false, side, &good(side), &bad, Some(code));
            }
        }
    }

    #[test]
    fn messages_do_not_mix_and_nothing_follows_a_close() {
        for side in SIDES {
            check(false, side, &frame(side, 0x01, b"a"), &frame(side, 0x81, b"b"), Some(1002));
            check(false, side, &frame(side, 0x88, b""), &frame(side, 0x89, b""), Some(1002));
        }
    }

    #[test]
    fn the_first_reserved_bit_is_for_the_first_frame_of_a_message_where_compression_was_agreed_on() {
        for side in SIDES {
            let message =
                [frame(side, 0x41, b"a"), frame(side, 0x80, b"b"), frame(side, 0xc2, b"c")].concat();
            check(true, side, &message, &[], None);
            check(true, side, &frame(side, 0x41, b"a"), &frame(side, 0xc0, b"b"), Some(1002));
            check(true, side, &[], &frame(side, 0xc9, b""), Some(1002));
            check(true, side, &[], &frame(side, 0xe1, b"a"), Some(1002));
        }
    }

    #[test]
    fn a_close_of_our_own_is_one_and_compression_is_told_from_its_likes() {
        for (to, from) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
            let bytes = close(1002, &"x".repeat(300), to);
            assert_eq!(run(false, from, &bytes, 1), (bytes.len(), None));
        }
        for (list, expected) in [
            (&b"permessage-deflate"[..], true),
            (b"x, Permessage-Deflate ; server_no_context_takeover", true),
            (b"permessage-deflate-x", false),
            (b"x; a=permessage-deflate", false),
            (b"", false),
        ] {
            assert_eq!(is_compressed(list), expected);
        }
    }
}

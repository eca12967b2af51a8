//! HTTP/2 against another reader of it: whatever is changed in a client's bytes, h2 reads from what is released no request
//! that was not asked about and allowed.
//!
//! A sample of what the fuzz target `http2` does; with `BULKHEAD_LONG` it takes twenty times as long.

use super::http2_agree::{Outcome, SETTINGS, check};

#[test]
fn h2_reads_from_what_is_released_no_more_than_was_allowed() {
    let rounds = if std::env::var_os("BULKHEAD_LONG").is_some() { 40_000 } else { 2_000 };
    let script = script();
    let whole = check(0, &script.concat(), SETTINGS);
    assert_eq!((whole.allowed.len(), whole.denied, whole.refused), (4, 1, None), "{whole:?}");
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut allowed = 0;
    for _ in 0..rounds {
        let frames = changed(&script, &mut random);
        let Outcome { allowed: lines, .. } =
            check(random.byte(), &frames.concat(), &script[random.below(script.len())]);
        allowed += lines.len();
    }
    assert!(allowed > rounds, "{allowed} requests allowed in {rounds} rounds");
    println!("http2: {rounds} changed conversations, {allowed} requests allowed, all read alike");
}

/// Frames of a busy client.
fn script() -> Vec<Vec<u8>> {
    let head = |path: &str| {
        let mut block = vec![0x82, 0x86, 0x41, 9];
        block.extend(b"shop.test");
        block.extend([0x44, u8::try_from(path.len()).expect("a short path")]);
        block.extend(path.as_bytes());
        block
    };
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let [_, length @ ..] = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
        let mut frame = length.to_vec();
        frame.extend([kind, flags, 0, 0, 0, stream]);
        frame.extend(payload);
        frame
    };
    let padded = [&[2, 0, 0, 0, 0, 7][..], &head("/b"), &[0, 0]].concat();
    vec![
        frame(4, 1, 0, &[]),
        frame(1, 5, 1, &head("/a")),
        frame(1, 0x2c, 3, &padded),
        frame(0, 0, 3, b"body"),
        frame(0, 9, 3, b"\x02more\0\0"),
        frame(1, 5, 5, &head("/no")),
        // Everything from the client's table.
        frame(1, 5, 7, &[0x82, 0x86, 0xc1, 0xc0]),
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(1, 0, 9, &head("/c")[..7]),
        frame(9, 4, 9, &head("/c")[7..]),
        frame(6, 0, 0, b"whatever"),
        frame(1, 5, 9, &[0, 1, b'x', 1, b'y']),
        frame(3, 0, 7, &[0, 0, 0, 8]),
    ]
}

/// The same with one to three changes.
fn changed(script: &[Vec<u8>], random: &mut Random) -> Vec<Vec<u8>> {
    let mut frames = script.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(frames.len());
        match random.below(6) {
            0 => drop(frames.remove(at)),
            1 => frames.insert(random.below(frames.len()), frames[at].clone()),
            2 => {
                let other = random.below(frames.len());
                frames.swap(at, other);
            }
            3 => frames[at].truncate(random.below(script[0].len() + 8)),
            _ => {
                let frame = &mut frames[at];
                let byte = random.below(frame.len().max(1));
                if let Some(byte) = frame.get_mut(byte) {
                    *byte = if random.byte().is_multiple_of(2) {
                        *byte ^ 1 << (random.byte() % 8)
                    } else {
                        random.byte()
                    };
                }
            }
        }
    }
    frames
}

/// The same numbers each time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(count.max(1)).expect("small")).expect("small")
    }
}

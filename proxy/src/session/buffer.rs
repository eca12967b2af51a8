//! Bytes on their way from one side to the other, in buffers that go back to a pool when empty.
//!
//! Two cursors run through the bytes: how far they were judged and how far they were sent. Under the gate sending
//! stays behind judging; under the tee it does not wait, and the bytes stay until they were judged too. Where other bytes
//! leave than came, all that may leave is copied together until it is out.

use super::grown::Grown;
use super::limits::{BUFFERS_POOLED_MAX, REWRITTEN_BYTES_MAX};
use std::cell::{Cell, RefCell};

/// What fills less than this share of a buffer is kept in less, while nothing moves.
const SHRINK_BELOW_SHARE: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    /// Room for the next that is rewritten: it is needed for one connection at a time, where all of it leaves.
    static REWRITTEN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes read from one side.
// INVARIANT: sent <= end and judged <= end <= bytes.len(); under the gate sent <= judged, except for the part of
// a head that had left before a tee became a gate. While something was rewritten, sent == judged.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    /// Size at first, to which it returns when empty.
    base: usize,
    size: usize,
    sent: usize,
    judged: usize,
    end: usize,
    /// What leaves before anything else, since some of it was rewritten; and how much of it has.
    rewritten: Vec<u8>,
    rewritten_sent: usize,
    /// What it has grown by.
    grown: Grown,
}

impl Buffer {
    /// An empty buffer that will hold up to `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        Self {
            bytes: Box::default(),
            base: size,
            size,
            sent: 0,
            judged: 0,
            end: 0,
            rewritten: Vec::new(),
            rewritten_sent: 0,
            grown: Grown::default(),
        }
    }

    /// Room to read into; empty if there is none before something was sent and judged.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.bytes.len() < self.size {
            self.expand();
        }
        let start = self.sent.min(self.judged);
        if start == self.end {
            (self.sent, self.judged, self.end) = (0, 0, 0);
        } else if self.end == self.bytes.len() && start > 0 {
            self.bytes.copy_within(start..self.end, 0);
            (self.sent, self.judged, self.end) = (self.sent - start, self.judged - start, self.end - start);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were read into [`space`](Self::space).
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Bytes that were not judged.
    pub(super) fn unjudged(&self) -> &[u8] {
        self.bytes.get(self.judged..self.end).unwrap_or_default()
    }

    /// So many more bytes may leave; the count.
    pub(super) fn approve(&mut self, count: usize) -> u64 {
        let before = self.judged;
        self.judged = (before + count).min(self.end);
        if !self.rewritten.is_empty() {
            self.rewritten.extend_from_slice(self.bytes.get(before..self.judged).unwrap_or_default());
            self.sent = self.judged;
        }
        u64::try_from(self.judged - before).unwrap_or_default()
    }

    /// All bytes may leave; the count of those that might not before.
    pub(super) fn approve_all(&mut self) -> u64 {
        self.approve(self.unjudged().len())
    }

    /// So many bytes, the next to be judged, must not leave. False if some of them have.
    pub(super) fn discard(&mut self, count: usize) -> bool {
        let until = (self.judged + count).min(self.end);
        if self.sent > self.judged {
            return false;
        }
        if self.sent == self.judged {
            (self.sent, self.judged) = (until, until);
            return true;
        }
        self.bytes.copy_within(until..self.end, self.judged);
        self.end -= until - self.judged;
        true
    }

    /// Bytes that were not judged and have left all the same.
    pub(super) fn left(&self) -> usize {
        self.sent.saturating_sub(self.judged)
    }

    /// Puts bytes of our own behind those that may leave. False if bytes have left that were not judged.
    pub(super) fn insert(&mut self, bytes: &[u8]) -> bool {
        if self.sent > self.judged {
            return false;
        }
        if self.rewritten.capacity() == 0 {
            self.rewritten = REWRITTEN.take();
        }
        self.rewritten.extend_from_slice(self.bytes.get(self.sent..self.judged).unwrap_or_default());
        self.rewritten.extend_from_slice(bytes);
        self.sent = self.judged;
        true
    }

    /// True while so much was rewritten that some of it should leave first.
    pub(super) fn holds_enough(&self) -> bool {
        self.rewritten.len() >= REWRITTEN_BYTES_MAX
    }

    /// Makes room for messages up to `size`, twice as much at a time. False if there is as much already, or if all that
    /// buffers may grow by is taken.
    pub(super) fn grow(&mut self, size: usize) -> bool {
        let larger = (self.size * 2).min(size);
        if self.size >= size || !self.grown.more(larger - self.size) {
            return false;
        }
        self.size = larger;
        let mut bytes = vec![0; self.size].into_boxed_slice();
        if let Some(front) = bytes.get_mut(..self.bytes.len()) {
            front.copy_from_slice(&self.bytes);
        }
        let old = std::mem::replace(&mut self.bytes, bytes);
        if old.len() == self.base {
            put(old);
        }
        true
    }

    /// Forgets what was not judged.
    pub(super) fn drop_unjudged(&mut self) {
        self.end = self.judged.max(self.sent);
        self.judged = self.end;
    }

    /// Forgets what was not sent; the other side takes nothing any more.
    pub(super) fn drop_unsent(&mut self) {
        self.sent = self.end;
        self.rewritten.clear();
        self.rewritten_sent = 0;
    }

    /// Bytes to send now: under the gate those that were judged, else all.
    pub(super) fn unsent(&self, gate: bool) -> &[u8] {
        if !self.rewritten.is_empty() {
            return self.rewritten.get(self.rewritten_sent..).unwrap_or_default();
        }
        let until = if gate { self.judged } else { self.end };
        self.bytes.get(self.sent..until).unwrap_or_default()
    }

    /// So many bytes were sent.
    pub(super) fn sent(&mut self, count: usize) {
        if !self.rewritten.is_empty() {
            self.rewritten_sent += count;
            if self.rewritten_sent >= self.rewritten.len() {
                self.rewritten.clear();
                self.rewritten_sent = 0;
            }
            return;
        }
        self.sent = (self.sent + count).min(self.end);
    }

    /// True if nothing waits to be judged or sent.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.end && self.judged == self.end && self.rewritten.is_empty()
    }

    /// True if there is no room before something is judged and sent.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.sent.min(self.judged) >= self.size
    }

    /// True if it is full of bytes that nobody could judge.
    pub(super) fn is_stuck(&self) -> bool {
        self.unjudged().len() >= self.size
    }

    /// Gives back memory that what is in it does not need: whoever sends half a head must not hold a whole buffer.
    pub(super) fn release(&mut self) {
        let held = self.end - self.sent.min(self.judged);
        // Also of what was made smaller before, where most of it had to wait then.
        if held > 0 && held <= self.bytes.len() / SHRINK_BELOW_SHARE && self.bytes.len() <= self.base {
            self.shrink();
        }
        if self.rewritten.is_empty() {
            // Its room, too, where a part of the next message waits.
            put_rewritten(std::mem::take(&mut self.rewritten));
        }
        if self.is_empty() && !self.bytes.is_empty() {
            (self.sent, self.judged, self.end) = (0, 0, 0);
            let bytes = std::mem::take(&mut self.bytes);
            if bytes.len() == self.base {
                put(bytes);
            }
            self.size = self.base;
            self.grown.give_back();
        }
    }

    /// Holds what it holds in as little as that takes.
    fn shrink(&mut self) {
        let start = self.sent.min(self.judged);
        let held = self.bytes.get(start..self.end).unwrap_or_default().into();
        let old = std::mem::replace(&mut self.bytes, held);
        if old.len() == self.base {
            put(old);
        }
        (self.sent, self.judged, self.end) = (self.sent - start, self.judged - start, self.end - start);
    }

    /// Has room for as much as it may hold.
    fn expand(&mut self) {
        let mut bytes = take(self.size);
        if let (Some(front), Some(held)) = (bytes.get_mut(..self.end), self.bytes.get(..self.end)) {
            front.copy_from_slice(held);
        }
        self.bytes = bytes;
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.bytes.is_empty() && self.bytes.len() == self.base {
            put(std::mem::take(&mut self.bytes));
        }
    }
}

/// Keeps it for the next one, if it is empty, no larger than most, and larger than what there is.
fn put_rewritten(rewritten: Vec<u8>) {
    if rewritten.capacity() == 0 || rewritten.capacity() > 2 * REWRITTEN_BYTES_MAX {
        return;
    }
    // A thread that ends has none left.
    let _ = REWRITTEN.try_with(|spare| {
        let before = spare.take();
        spare.set(if before.capacity() > rewritten.capacity() { before } else { rewritten });
    });
}

fn take(size: usize) -> Box<[u8]> {
    POOL.with_borrow_mut(|pool| {
        let at = pool.iter().rposition(|buffer| buffer.len() == size)?;
        Some(pool.swap_remove(at))
    })
    .unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

fn put(buffer: Box<[u8]>) {
    // A thread that ends has no pool left; the buffer is then freed.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.iter().filter(|other| other.len() == buffer.len()).count() < BUFFERS_POOLED_MAX {
            pool.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffer: &mut Buffer, bytes: &[u8]) -> usize {
        let space = buffer.space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        buffer.filled(count);
        count
    }

    #[test]
    fn under_the_gate_only_judged_bytes_are_sent() {
        let mut buffer = Buffer::new(8);
        assert_eq!(read(&mut buffer, b"abcdefghij"), 8);
        assert!(buffer.is_full());
        assert_eq!(buffer.unsent(true), b"");
        buffer.approve(3);
        assert!(buffer.discard(2));
        buffer.approve(1);
        assert_eq!(buffer.unsent(true), b"abcf");
        buffer.sent(4);
        assert_eq!(buffer.unjudged(), b"gh");
        assert_eq!(read(&mut buffer, b"ijklmnop"), 2);
        assert_eq!(read(&mut buffer, b"klmnop"), 4, "what was sent makes room");
        assert_eq!(buffer.unjudged(), b"ghijklmn");
    }

    #[test]
    fn under_the_tee_bytes_stay_until_they_were_judged_too() {
        let mut buffer = Buffer::new(8);
        read(&mut buffer, b"abcd");
        assert_eq!(buffer.unsent(false), b"abcd");
        buffer.sent(4);
        assert_eq!(buffer.unjudged(), b"abcd");
        assert!(!buffer.is_empty());
        assert!(!buffer.discard(2), "what has left cannot be held back");
        buffer.approve(4);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_waits_is_held_in_as_little_as_it_takes_again_and_again() {
        let mut buffer = Buffer::new(1024);
        let bytes: Vec<u8> = (0..200).collect();
        read(&mut buffer, &bytes);
        buffer.release();
        assert_eq!((buffer.bytes.len(), buffer.unjudged()), (200, &bytes[..]));
        buffer.approve(197);
        buffer.sent(197);
        buffer.release();
        assert_eq!((buffer.bytes.len(), buffer.unjudged()), (3, &bytes[197..]));
        assert_eq!(read(&mut buffer, b"more"), 4);
        assert_eq!(buffer.unjudged(), [&bytes[197..], b"more"].concat());
    }

    #[test]
    fn what_is_inserted_leaves_in_its_place() {
        let mut buffer = Buffer::new(8);
        read(&mut buffer, b"abcdefgh");
        buffer.approve(2);
        assert!(buffer.discard(3) && buffer.insert(b"12345"));
        buffer.approve(1);
        assert!(buffer.discard(1) && buffer.insert(b"-"));
        buffer.approve(1);
        assert_eq!(buffer.unsent(true), b"ab12345f-h");
        buffer.sent(9);
        assert!(!buffer.is_empty());
        assert_eq!(buffer.unsent(true), b"h");
        buffer.sent(1);
        assert!(buffer.is_empty());
        read(&mut buffer, b"ij");
        buffer.approve(2);
        assert_eq!(buffer.unsent(true), b"ij");
    }

    #[test]
    fn a_long_message_gets_room_and_the_room_is_given_back() {
        let mut buffer = Buffer::new(8);
        read(&mut buffer, b"abcdefgh");
        assert!(buffer.is_stuck() && buffer.grow(20) && !buffer.is_stuck());
        assert_eq!(read(&mut buffer, b"ijklmnopqrstuvwx"), 8);
        assert!(buffer.grow(20) && !buffer.grow(20));
        assert_eq!(read(&mut buffer, b"qrstuvwx"), 4);
        assert_eq!(buffer.unjudged(), b"abcdefghijklmnopqrst");
        buffer.approve_all();
        buffer.sent(20);
        buffer.release();
        assert_eq!(buffer.space().len(), 8);
    }

    #[test]
    fn a_little_is_held_in_little_and_grows_again() {
        let mut buffer = Buffer::new(64);
        read(&mut buffer, b"abcdefgh");
        buffer.approve(4);
        buffer.sent(2);
        buffer.release();
        assert_eq!(
            (buffer.bytes.len(), buffer.unsent(true), buffer.unjudged()),
            (6, &b"cd"[..], &b"efgh"[..])
        );
        assert!(!buffer.is_full());
        assert_eq!(read(&mut buffer, &[b'x'; 100]), 58);
        assert_eq!(buffer.bytes.len(), 64);
        assert_eq!(&buffer.unjudged()[..5], b"efghx");
        buffer.release();
        assert_eq!(buffer.bytes.len(), 64, "much stays where it is");
    }

    #[test]
    fn an_empty_buffer_gives_its_memory_back() {
        let mut buffer = Buffer::new(32);
        read(&mut buffer, b"abcd");
        buffer.release();
        assert_eq!(buffer.unjudged(), b"abcd");
        buffer.approve_all();
        buffer.sent(4);
        buffer.release();
        assert!(buffer.bytes.is_empty());
        assert!(POOL.with_borrow(|pool| pool.iter().any(|other| other.len() == 32)));
    }
}

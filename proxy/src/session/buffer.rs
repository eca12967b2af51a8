//! Bytes on their way from one side to the other, in buffers that go back to a pool when empty.
//!
//! Two cursors run through the bytes: how far they were judged and how far they were sent. Under the gate sending
//! stays behind judging; under the tee it does not wait, and the bytes stay until they were judged too.

use super::limits::BUFFERS_POOLED_MAX;
use std::cell::RefCell;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes read from one side.
// INVARIANT: sent <= end and judged <= end <= bytes.len(); under the gate sent <= judged, except for the part of
// a head that had left before a tee became a gate.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    size: usize,
    sent: usize,
    judged: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer that will hold up to `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        Self { bytes: Box::default(), size, sent: 0, judged: 0, end: 0 }
    }

    /// Room to read into; empty if there is none before something was sent and judged.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = take(self.size);
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
        self.bytes.copy_within(until..self.end, self.judged);
        self.end -= until - self.judged;
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
    }

    /// Bytes to send now: under the gate those that were judged, else all.
    pub(super) fn unsent(&self, gate: bool) -> &[u8] {
        let until = if gate { self.judged } else { self.end };
        self.bytes.get(self.sent..until).unwrap_or_default()
    }

    /// So many bytes were sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.end);
    }

    /// True if nothing waits to be judged or sent.
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.end && self.judged == self.end
    }

    /// True if there is no room before something is judged and sent.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.sent.min(self.judged) >= self.size
    }

    /// True if it is full of bytes that nobody could judge.
    pub(super) fn is_stuck(&self) -> bool {
        self.unjudged().len() >= self.size
    }

    /// Gives the memory back if there is nothing in it.
    pub(super) fn release(&mut self) {
        if self.is_empty() && !self.bytes.is_empty() {
            (self.sent, self.judged, self.end) = (0, 0, 0);
            put(std::mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            put(std::mem::take(&mut self.bytes));
        }
    }
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

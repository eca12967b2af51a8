//! What buffers of the whole process may hold beyond their first size, for messages that are judged in full.
//!
//! Each such message has a limit of its own (`bulkhead_inspect::limits`). Some clients send large ones and most never do: so
//! there is room for a few at a time, and many clients at once cannot use up the memory of the process.

use super::limits::GROWN_BYTES_MAX;
use std::sync::atomic::{AtomicUsize, Ordering};

static PROCESS: Room = Room { taken: AtomicUsize::new(0), max: GROWN_BYTES_MAX };

/// Bytes that are shared by all who grow.
#[derive(Debug)]
struct Room {
    taken: AtomicUsize,
    max: usize,
}

/// A part of the room; given back when dropped.
#[derive(Debug)]
pub(super) struct Grown {
    bytes: usize,
    room: &'static Room,
}

impl Default for Grown {
    /// Nothing of it yet.
    fn default() -> Self {
        Self { bytes: 0, room: &PROCESS }
    }
}

impl Grown {
    /// Takes so many bytes more; false, and nothing taken, if there are not as many.
    pub(super) fn more(&mut self, bytes: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.room.max);
        let taken = self.room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Gives all of it back.
    pub(super) fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            self.room.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Grown {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared_by_all_and_comes_back() {
        static ROOM: Room = Room { taken: AtomicUsize::new(0), max: 100 };
        let own = || Grown { bytes: 0, room: &ROOM };
        let (mut one, mut other) = (own(), own());
        assert!(one.more(60) && other.more(30) && one.more(10));
        assert!(!other.more(1), "all of it is taken");
        assert!(!own().more(usize::MAX));
        one.give_back();
        one.give_back();
        assert!(other.more(70));
        drop(other);
        assert!(one.more(100));
    }
}

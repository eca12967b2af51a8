//! A hash table from (space, text) to a number, looked up without allocating.
//!
//! Built once from a policy, then only read. Keys come from policies; text from the network is only compared,
//! never kept, so nobody outside can fill it or make it collide by inserting.

/// Hash table with open addressing; every text lives in one arena.
#[derive(Clone, Debug, Default)]
pub(super) struct TextTable {
    slots: Vec<Option<Slot>>,
    arena: String,
    used: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u64,
    space: u32,
    value: u32,
    start: usize,
    end: usize,
}

impl TextTable {
    /// The value of `text` in `space`, or `None`.
    pub(super) fn find(&self, space: u32, text: &str) -> Option<u32> {
        if self.used == 0 {
            return None;
        }
        let hash = hash(space, text);
        let mut at = self.home(hash);
        while let Some(slot) = self.slots.get(at).copied().flatten() {
            if slot.hash == hash && slot.space == space && self.arena.get(slot.start..slot.end) == Some(text)
            {
                return Some(slot.value);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    /// Adds a key that is not there yet.
    pub(super) fn insert(&mut self, space: u32, text: &str, value: u32) {
        debug_assert!(self.find(space, text).is_none(), "a key is inserted once");
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let start = self.arena.len();
        self.arena.push_str(text);
        let slot = Slot { hash: hash(space, text), space, value, start, end: self.arena.len() };
        self.place(slot);
        self.used += 1;
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![None; (old.len() * 2).max(8)];
        for slot in old.into_iter().flatten() {
            self.place(slot);
        }
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.hash);
        while self.slots[at].is_some() {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = Some(slot);
    }

    fn home(&self, hash: u64) -> usize {
        // The upper half is the better mixed one; the table is far smaller than 2^32 slots.
        usize::try_from(hash >> 32).unwrap_or_default() & (self.slots.len() - 1)
    }
}

/// Multiply and rotate over eight bytes at a time: a few nanoseconds for a path segment.
fn hash(space: u32, text: &str) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = u64::from(space).wrapping_add(text.len() as u64).wrapping_mul(FACTOR);
    let (chunks, rest) = text.as_bytes().as_chunks::<8>();
    for chunk in chunks {
        state = (state.rotate_left(23) ^ u64::from_le_bytes(*chunk)).wrapping_mul(FACTOR);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    state = (state.rotate_left(23) ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    state ^ (state >> 29).wrapping_mul(FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_key_that_was_inserted_and_no_other() {
        let mut table = TextTable::default();
        assert_eq!(table.find(0, ""), None);
        for number in 0..5_000u32 {
            table.insert(number % 7, &format!("segment-{number}"), number);
        }
        for number in 0..5_000u32 {
            let text = format!("segment-{number}");
            assert_eq!(table.find(number % 7, &text), Some(number));
            assert_eq!(table.find(number % 7 + 1, &text), None);
            assert_eq!(table.find(number % 7, &text[1..]), None);
        }
    }
}

//! A hash table from (space, text) to a number, looked up without allocating.
//!
//! Built once from a policy, then only read. Keys come from policies; text from the network is only compared,
//! never kept, so nobody outside can fill it or make it collide by inserting.

/// Hash table with open addressing; every text lives in one arena.
#[derive(Clone, Debug, Default)]
pub(super) struct TextTable {
    slots: Vec<Slot>,
    arena: Vec<u8>,
    used: usize,
}

/// Small, so that a large table touches little memory. `hash` 0 is a free slot.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u32,
    space: u32,
    value: u32,
    start: u32,
    length: u32,
}

impl TextTable {
    /// The value of `text` in `space`, or `None`.
    pub(super) fn find(&self, space: u32, text: &[u8]) -> Option<u32> {
        if self.used == 0 {
            return None;
        }
        let hash = hash(space, text);
        let mut at = self.home(hash);
        while let Some(slot) = self.slots.get(at).filter(|slot| slot.hash != 0) {
            if slot.hash == hash && slot.space == space && self.text(slot) == text {
                return Some(slot.value);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }

    /// Adds a key that is not there yet.
    pub(super) fn insert(&mut self, space: u32, text: &[u8], value: u32) {
        debug_assert!(self.find(space, text).is_none(), "a key is inserted once");
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        // Texts of one program are bounded far below 4 GiB; what would not fit is never found.
        let start = u32::try_from(self.arena.len()).unwrap_or(u32::MAX);
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.arena.extend_from_slice(text);
        self.place(Slot { hash: hash(space, text), space, value, start, length });
        self.used += 1;
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![Slot::default(); (old.len() * 2).max(8)];
        for slot in old.into_iter().filter(|slot| slot.hash != 0) {
            self.place(slot);
        }
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.hash);
        while self.slots[at].hash != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    fn text(&self, slot: &Slot) -> &[u8] {
        let start = slot.start as usize;
        self.arena.get(start..start + slot.length as usize).unwrap_or_default()
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }
}

/// Multiply and rotate over eight bytes at a time: a few nanoseconds for a path segment.
fn hash(space: u32, text: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = u64::from(space).wrapping_add(text.len() as u64).wrapping_mul(FACTOR);
    let (chunks, rest) = text.as_chunks::<8>();
    for chunk in chunks {
        state = (state.rotate_left(23) ^ u64::from_le_bytes(*chunk)).wrapping_mul(FACTOR);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    state = (state.rotate_left(23) ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    // The upper half is the better mixed one; 0 marks a free slot.
    u32::try_from(state >> 32).unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_key_that_was_inserted_and_no_other() {
        let mut table = TextTable::default();
        assert_eq!(table.find(0, b""), None);
        for number in 0..5_000u32 {
            table.insert(number % 7, format!("segment-{number}").as_bytes(), number);
        }
        for number in 0..5_000u32 {
            let text = format!("segment-{number}");
            let text = text.as_bytes();
            assert_eq!(table.find(number % 7, text), Some(number));
            assert_eq!(table.find(number % 7 + 1, text), None);
            assert_eq!(table.find(number % 7, &text[1..]), None);
        }
    }
}

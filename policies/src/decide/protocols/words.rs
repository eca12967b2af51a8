//! Numbers for the words that alternatives ask for: names, commands, users, topics, and how keys begin.

use super::super::text_table::TextTable;
use super::filed::FIRST;
use bulkhead_facts::{HostName, NamePattern};

const EXACT: u32 = 0;
const PREFIX: u32 = 1;
const ONE_BELOW: u32 = 2;
const BELOW: u32 = 3;

/// Words with their numbers, from [`FIRST`] on.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    table: TextTable,
    count: u32,
    /// Which kinds of words there are, one bit each.
    kinds: u8,
    /// Lengths of the prefixes, ascending, each once.
    prefix_lengths: Vec<usize>,
    /// Bytes of the longest name below which others are meant.
    below_bytes_max: usize,
}

impl Words {
    /// The number of a whole word, made if it has none.
    pub(super) fn add_exact(&mut self, word: &[u8]) -> u32 {
        self.add(EXACT, word)
    }

    /// The number of how a word begins.
    pub(super) fn add_prefix(&mut self, prefix: &[u8]) -> u32 {
        if let Err(at) = self.prefix_lengths.binary_search(&prefix.len()) {
            self.prefix_lengths.insert(at, prefix.len());
        }
        self.add(PREFIX, prefix)
    }

    /// The number of a pattern of names.
    pub(super) fn add_name(&mut self, pattern: &NamePattern) -> u32 {
        match pattern {
            NamePattern::Exact(name) => self.add(EXACT, name.as_str().as_bytes()),
            NamePattern::OneBelow(base) => self.add(ONE_BELOW, base.as_str().as_bytes()),
            NamePattern::Below(base) => {
                self.below_bytes_max = self.below_bytes_max.max(base.as_str().len());
                self.add(BELOW, base.as_str().as_bytes())
            }
        }
    }

    fn add(&mut self, space: u32, word: &[u8]) -> u32 {
        let number = self.table.find(space, word).unwrap_or_else(|| {
            self.table.insert(space, word, self.count);
            self.count += 1;
            self.count - 1
        });
        self.kinds |= 1 << space;
        FIRST.saturating_add(number)
    }

    /// The number of a whole word.
    pub(super) fn exact(&self, word: &[u8]) -> Option<u32> {
        self.find(EXACT, word)
    }

    /// Tells the number of every prefix that the word begins with.
    pub(super) fn each_prefix(&self, word: &[u8], mut tell: impl FnMut(u32)) {
        for length in &self.prefix_lengths {
            let Some(front) = word.get(..*length) else { return };
            self.find(PREFIX, front).into_iter().for_each(&mut tell);
        }
    }

    /// Tells the number of every pattern that means the name.
    pub(super) fn each_name(&self, name: &HostName, mut tell: impl FnMut(u32)) {
        let text = name.as_str();
        self.find(EXACT, text.as_bytes()).into_iter().for_each(&mut tell);
        let mut parents = std::iter::successors(parent(text), |text| parent(text));
        let Some(first) = parents.next() else { return };
        self.find(ONE_BELOW, first.as_bytes()).into_iter().for_each(&mut tell);
        let near = |text: &&str| text.len() <= self.below_bytes_max;
        for base in std::iter::once(first).chain(parents).filter(near) {
            self.find(BELOW, base.as_bytes()).into_iter().for_each(&mut tell);
        }
    }

    fn find(&self, space: u32, word: &[u8]) -> Option<u32> {
        if self.kinds & (1 << space) == 0 {
            return None;
        }
        self.table.find(space, word).map(|number| FIRST.saturating_add(number))
    }
}

/// The name without its first label.
fn parent(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_the_patterns_that_mean_them() {
        let mut words = Words::default();
        let patterns = ["a.test", "*.a.test", "**.a.test", "**.test", "x.b.test", "*.test"];
        let patterns: Vec<_> = patterns.iter().map(|text| NamePattern::parse(text).unwrap()).collect();
        let numbers: Vec<u32> = patterns.iter().map(|pattern| words.add_name(pattern)).collect();
        for text in ["a.test", "b.a.test", "c.b.a.test", "test", "x.b.test", "xa.test", "other"] {
            let name = HostName::parse(text).unwrap();
            let mut found = Vec::new();
            words.each_name(&name, |number| found.push(number));
            found.sort_unstable();
            let meant = patterns.iter().zip(&numbers).filter(|(pattern, _)| pattern.matches(&name));
            let mut expected: Vec<u32> = meant.map(|(_, number)| *number).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn words_are_found_by_how_they_begin() {
        let mut words = Words::default();
        let prefixes = ["", "cart:", "cart:7", "user:", "c"];
        let numbers: Vec<u32> = prefixes.iter().map(|prefix| words.add_prefix(prefix.as_bytes())).collect();
        let exact = words.add_exact(b"cart:");
        let mut found = Vec::new();
        words.each_prefix(b"cart:71", |number| found.push(number));
        assert_eq!(found, [numbers[0], numbers[4], numbers[1], numbers[2]]);
        assert_eq!((words.exact(b"cart:"), words.exact(b"cart")), (Some(exact), None));
    }
}

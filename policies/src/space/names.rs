//! One name for each kind that patterns tell apart, and texts that no rule names.

use crate::decide::Judge;
use bulkhead_facts::{HostName, NamePattern};
use std::collections::BTreeSet;

/// One name of each kind that the rules of these programs tell apart, of those that some rule means.
pub(crate) fn names_told_apart(judges: &[&Judge]) -> Vec<HostName> {
    let patterns = || {
        let named = judges.iter().flat_map(|judge| &judge.program().names);
        named.flat_map(|rule| &rule.names)
    };
    let found = names(patterns()).into_iter().filter_map(|name| HostName::parse(&name).ok());
    found.filter(|name| patterns().any(|pattern| pattern.matches(name))).collect()
}

/// Every name that a pattern is built on, one and two labels below each, and one that is none of these.
pub(super) fn names<'p>(patterns: impl Iterator<Item = &'p NamePattern>) -> Vec<String> {
    let bases: BTreeSet<String> = patterns
        .map(|pattern| {
            let (NamePattern::Exact(name) | NamePattern::OneBelow(name) | NamePattern::Below(name)) = pattern;
            name.as_str().to_owned()
        })
        .collect();
    let taken = |text: &str| bases.contains(text);
    let mut found: Vec<String> = bases.iter().cloned().collect();
    for base in &bases {
        let below = fresh("x", |label| taken(&format!("{label}.{base}"))) + "." + base;
        let deeper = fresh("x", |label| taken(&format!("{label}.{below}"))) + "." + &below;
        // A name may be too long to have others below it.
        found.extend([below, deeper].into_iter().filter(|name| HostName::parse(name).is_ok()));
    }
    found.push(fresh("elsewhere", taken));
    found
}

/// A text that begins with `stem` and is not taken. Of texts with a number behind the stem not all may be taken.
pub(super) fn fresh(stem: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (1u32..).map(|number| format!("{stem}{number}"));
    std::iter::once(stem.to_owned()).chain(numbered).find(|text| !taken(text)).unwrap_or_default()
}

/// For each stem, and for the empty one, a text that begins with it, with no longer one, and is none of the named. One
/// without such a text is left out: then longer stems and named texts are all that begins with it, as far as `legal` goes.
pub(super) fn beginnings(stems: &BTreeSet<&str>, named: &BTreeSet<&str>, legal: &str) -> Vec<String> {
    let behind = |stem: &str| -> Option<String> {
        let texts = || legal.chars().map(|sign| format!("{stem}{sign}"));
        // Behind a sign that no longer stem goes on with, everything will do.
        if let Some(text) = texts().find(|text| !stems.iter().any(|other| other.starts_with(text.as_str()))) {
            return Some(fresh(&text, |text| named.contains(text)));
        }
        texts().find(|text| !stems.contains(text.as_str()) && !named.contains(text.as_str()))
    };
    let all: BTreeSet<&str> = stems.iter().copied().chain([""]).collect();
    all.into_iter().filter_map(behind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_below_and_beside_each_pattern_are_found() {
        let patterns = ["*.a.test", "x.a.test", "**.test"].map(|text| NamePattern::parse(text).unwrap());
        let found = names(patterns.iter());
        let matching = |name: &str| -> Vec<bool> {
            let name = HostName::parse(name).unwrap();
            patterns.iter().map(|pattern| pattern.matches(&name)).collect()
        };
        let kinds: BTreeSet<Vec<bool>> = found.iter().map(|name| matching(name)).collect();
        for name in ["a.test", "x.a.test", "y.a.test", "z.y.a.test", "y.x.a.test", "test", "b.test", "other"]
        {
            assert!(kinds.contains(&matching(name)), "{name} in {found:?}");
        }
    }

    #[test]
    fn a_text_behind_each_stem_ends_even_where_stems_take_the_usual_signs() {
        let stems = BTreeSet::from(["~", "a", "ab", "~~"]);
        let found = beginnings(&stems, &BTreeSet::from(["aa", "b"]), "~abc");
        assert_eq!(found, ["b1", "a~", "ab~", "~a", "~~~"]);
        assert_eq!(beginnings(&BTreeSet::from(["aa", "ba"]), &BTreeSet::new(), "ab"), ["a", "aaa", "baa"]);
    }
}

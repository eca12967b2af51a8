//! One path for each kind that templates tell apart.

use super::names::fresh;
use bulkhead_facts::PathTemplate;
use std::collections::BTreeSet;

/// A path and how it is shown: `{any}` stands for segments that no template names, a last `…` for everything below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathKind {
    pub(super) text: String,
    pub(super) shown: String,
}

/// Paths in normal form; with `spelled` also those with an empty segment ([`super::spelled`]).
pub(super) fn paths(templates: &[&PathTemplate], spelled: bool, max: usize) -> Option<Vec<PathKind>> {
    let segments: Vec<Vec<Option<&str>>> =
        templates.iter().map(|template| template.segments().collect()).collect();
    let literals: BTreeSet<&str> = segments.iter().flatten().flatten().copied().collect();
    let fresh = fresh("any", |text| literals.contains(text));
    let mut walk = Walk { segments, fresh: fresh.clone(), found: Vec::new(), max };
    let all: Vec<usize> = (0..walk.segments.len()).collect();
    walk.go(&mut Vec::new(), &all)?;
    let mut found = walk.found;
    if spelled {
        found.extend(super::spelled::spelled(templates, &literals, &fresh, &found)?);
    }
    (found.len() <= max).then_some(found)
}

struct Walk<'t> {
    segments: Vec<Vec<Option<&'t str>>>,
    fresh: String,
    found: Vec<PathKind>,
    max: usize,
}

impl<'t> Walk<'t> {
    /// All that goes on behind a prefix that these templates still match.
    fn go(&mut self, prefix: &mut Vec<&'t str>, alive: &[usize]) -> Option<()> {
        let depth = prefix.len();
        let longer: Vec<usize> =
            alive.iter().copied().filter(|at| self.segments[*at].len() > depth).collect();
        if longer.is_empty() {
            // Whatever follows is alike.
            return self.push(prefix, Some("any"));
        }
        let literals: BTreeSet<&'t str> = longer.iter().filter_map(|at| self.segments[*at][depth]).collect();
        for literal in literals.into_iter().chain((!self.names_empty(&longer, depth)).then_some("")) {
            let matching = |at: &usize| match self.segments[*at][depth] {
                Some(text) => text == literal,
                None => !literal.is_empty(),
            };
            let next: Vec<usize> = longer.iter().copied().filter(matching).collect();
            prefix.push(literal);
            self.push(prefix, None)?;
            if !literal.is_empty() {
                self.go(prefix, &next)?;
            }
            prefix.pop();
        }
        let next: Vec<usize> =
            longer.iter().copied().filter(|at| self.segments[*at][depth].is_none()).collect();
        prefix.push(OTHER);
        self.push(prefix, None)?;
        self.go(prefix, &next)?;
        prefix.pop();
        Some(())
    }

    fn names_empty(&self, longer: &[usize], depth: usize) -> bool {
        longer.iter().any(|at| self.segments[*at][depth] == Some(""))
    }

    fn push(&mut self, prefix: &[&str], below: Option<&str>) -> Option<()> {
        let (mut text, mut shown) = (String::new(), String::new());
        for segment in prefix.iter().copied().chain(below.map(|_| OTHER)) {
            text.push('/');
            shown.push('/');
            text.push_str(if segment == OTHER { &self.fresh } else { segment });
            shown.push_str(if segment == OTHER { "{any}" } else { segment });
        }
        if below.is_some() {
            shown.truncate(shown.len() - "{any}".len());
            shown.push('…');
        }
        self.found.push(PathKind { text, shown });
        (self.found.len() <= self.max).then_some(())
    }
}

/// Marks a segment that no template names; no segment holds this byte.
const OTHER: &str = "\u{0}";

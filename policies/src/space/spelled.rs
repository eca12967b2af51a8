//! Paths that are sent with an empty segment: what a rule for everything below takes as sent, others do not.
//!
//! A path is judged in normal form and as sent. As sent it either is like some path in normal form, and then nothing is
//! new; or it has a segment without a name, and then only templates for everything below go on, those that end before it. So
//! all that counts of the form as sent is what stands before its first empty segment, and of the normal form whatever can
//! come of it: a name may be escaped, `.` is nothing, `..` takes the segment before it away. Each pair is built once.

use super::paths::PathKind;
use crate::limits::REQUEST_KINDS_MAX;
use bulkhead_facts::{PathTemplate, UrlPath};
use std::collections::{BTreeMap, BTreeSet};

/// One path for each pair of what templates say of the form as sent, with an empty segment, and of the normal form; `None`
/// if there are too many to look at. `literals` are the names that templates know, and `unknown` is none of them.
pub(super) fn spelled(
    templates: &[&PathTemplate],
    literals: &BTreeSet<&str>,
    unknown: &str,
    normal: &[PathKind],
) -> Option<Vec<PathKind>> {
    let mut fronts: BTreeMap<Vec<bool>, Vec<Vec<&str>>> = BTreeMap::new();
    let own = normal.iter().map(|path| names(&path.text)).filter(|names| !names.contains(&""));
    for front in std::iter::once(Vec::new()).chain(own) {
        // Names behind it that no template knows can each be one that takes a name away.
        let longer: Vec<&str> = front.iter().copied().chain(front.iter().map(|_| unknown)).collect();
        for front in [front, longer] {
            let sent: String = front.iter().map(|name| format!("/{name}")).collect();
            fronts.entry(said(templates, &format!("{sent}//{unknown}"))).or_default().push(front);
        }
    }
    let looks = fronts.values().map(Vec::len).sum::<usize>().saturating_mul(normal.len());
    if looks > REQUEST_KINDS_MAX {
        return None;
    }
    let mut found = Vec::new();
    for fronts in fronts.values() {
        let mut known: BTreeSet<Vec<bool>> = BTreeSet::new();
        for front in fronts {
            for path in normal {
                let meant = said(templates, &path.text);
                if known.contains(&meant) {
                    continue;
                }
                if let Some(text) = joined(front, &names(&path.text), literals, &path.text) {
                    known.insert(meant);
                    found.push(PathKind { shown: text.clone(), text });
                }
            }
        }
    }
    Some(found)
}

fn names(path: &str) -> Vec<&str> {
    path.split('/').skip(1).collect()
}

fn said(templates: &[&PathTemplate], text: &str) -> Vec<bool> {
    templates.iter().map(|template| template.matches_text(text)).collect()
}

/// A path that begins with this front, goes on with an empty segment, and comes to these names.
fn joined(front: &[&str], names: &[&str], literals: &BTreeSet<&str>, normal: &str) -> Option<String> {
    let mut walk = Walk { front, names, literals, sent: Vec::new(), failed: BTreeSet::new() };
    let used = walk.go(0, 0, 0)?;
    let rest = names.get(used..)?;
    let text: String = walk.sent.iter().map(|name| format!("/{name}")).collect();
    let text = format!("{text}//{}", rest.join("/"));
    UrlPath::parse(&text).is_ok_and(|path| path.normal() == normal).then_some(text)
}

/// The search for segments that are sent for a front so that they come to the first of some names.
struct Walk<'w> {
    front: &'w [&'w str],
    names: &'w [&'w str],
    literals: &'w BTreeSet<&'w str>,
    sent: Vec<String>,
    failed: BTreeSet<(usize, usize, usize)>,
}

impl Walk<'_> {
    /// From a segment of the front on, with so many names come to, and so many behind them that have to be taken away: how
    /// many names it comes to.
    fn go(&mut self, at: usize, depth: usize, wrong: usize) -> Option<usize> {
        let Some(segment) = self.front.get(at).copied() else {
            // Something has to follow the empty segment.
            return (wrong == 0 && depth < self.names.len()).then_some(depth);
        };
        if self.failed.contains(&(at, depth, wrong)) {
            return None;
        }
        let name = self.names.get(depth).copied().filter(|name| wrong == 0 && !name.is_empty());
        let found = if self.literals.contains(segment) {
            // It stands as it is.
            let next = if name == Some(segment) { (depth + 1, 0) } else { (depth, wrong + 1) };
            self.send(at, segment.to_owned(), next)
        } else {
            let escaped = |name: &str| match self.literals.contains(name) {
                true => escaped(name),
                false => Some(name.to_owned()),
            };
            let named = name.and_then(escaped).and_then(|text| self.send(at, text, (depth + 1, 0)));
            let away = match (wrong, depth) {
                (0, 0) => None,
                (0, depth) => Some((depth - 1, 0)),
                (wrong, depth) => Some((depth, wrong - 1)),
            };
            named
                .or_else(|| self.send(at, ".".to_owned(), (depth, wrong)))
                .or_else(|| self.send(at, "..".to_owned(), away?))
        };
        if found.is_none() {
            self.failed.insert((at, depth, wrong));
        }
        found
    }

    fn send(&mut self, at: usize, segment: String, (depth, wrong): (usize, usize)) -> Option<usize> {
        self.sent.push(segment);
        let found = self.go(at + 1, depth, wrong);
        if found.is_none() {
            self.sent.pop();
        }
        found
    }
}

/// The same name with its first sign escaped, which no template is written with.
fn escaped(name: &str) -> Option<String> {
    let at = name.bytes().position(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'~'))?;
    let sign = *name.as_bytes().get(at)?;
    Some(format!("{}%{sign:02X}{}", &name[..at], &name[at + 1..]))
}

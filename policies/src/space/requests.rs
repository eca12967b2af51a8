//! One request for each kind that chains tell apart, of every protocol that they speak of.
//!
//! Exact, since rules compare for equality, for prefixes and for what lies below: of all values that a rule does not name
//! itself, those are alike that have the same longest prefix, and those names that have the same longest parent. A protocol
//! that no rule speaks of is to all of them what bytes are that nobody can read.

use super::{Gate, Sent, http, others};
use crate::decide::Around;
use crate::limits::{REQUEST_KINDS_MAX, help};
use crate::model::L7Section;
use crate::questions::RequestQuestion;
use bulkhead_facts::Effect;
use std::collections::BTreeSet;
use std::fmt;

/// Bytes, or a request that stands for all of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKind {
    /// The request; `None` for bytes that nobody can read.
    pub request: Option<RequestQuestion>,
    /// What is around it.
    pub around: Around,
    /// The kind, as `POST /v1/charges/{any}`.
    pub shown: String,
}

impl RequestKind {
    /// As it is sent.
    pub fn sent(&self) -> Sent<'_> {
        self.request.as_ref().map_or(Sent::Opaque, |request| Sent::Among(request, self.around))
    }
}

/// Rules tell more kinds apart than a comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyKinds;

impl fmt::Display for TooManyKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let help = help("REQUEST_KINDS_MAX", "split them");
        write!(f, "rules tell more than {REQUEST_KINDS_MAX} kinds of requests apart: {help}")
    }
}

impl std::error::Error for TooManyKinds {}

/// A section with the way in which it is asked: for a deny what is possible counts, else what is certain.
pub(super) type Asked<'s> = (bool, &'s L7Section);

/// Bytes that nobody can read, and one request for each kind that the chains of these gates, and further sections, tell
/// apart. The further ones count as denies do. With `spelled`, paths that are not in normal form count as well.
pub fn requests(
    gates: &[Gate<'_>],
    further: Option<&L7Section>,
    spelled: bool,
) -> Result<Vec<RequestKind>, TooManyKinds> {
    let mut sections: BTreeSet<Asked<'_>> = further.into_iter().map(|section| (true, section)).collect();
    for gate in gates {
        for chain in gate.chains() {
            let entries = chain.enforced.iter().chain(&chain.shadow).flat_map(|stage| &stage.entries);
            let asked = |entry: &'_ crate::program::L7Entry| entry.effect == Some(Effect::Deny);
            sections.extend(entries.filter_map(|entry| Some((asked(entry), entry.section.as_ref()?))));
        }
    }
    of_sections(&sections.into_iter().collect::<Vec<_>>(), spelled)
}

/// The same of sections alone.
pub(super) fn of_sections(sections: &[Asked<'_>], spelled: bool) -> Result<Vec<RequestKind>, TooManyKinds> {
    let opaque = RequestKind {
        request: None,
        around: Around::default(),
        shown: "bytes that cannot be read".to_owned(),
    };
    let mut found = Kinds(vec![opaque]);
    http::add(sections, spelled, &mut found)?;
    others::add(sections, &mut found)?;
    Ok(found.0)
}

/// Kinds that were found, within their limit.
pub(super) struct Kinds(Vec<RequestKind>);

impl Kinds {
    /// An error if there is no room for so many more.
    pub(super) fn room_for(&self, lengths: &[usize]) -> Result<(), TooManyKinds> {
        let more = lengths.iter().try_fold(1usize, |product, length| product.checked_mul(*length));
        let fits = more.is_some_and(|more| self.0.len().saturating_add(more) <= REQUEST_KINDS_MAX);
        if fits { Ok(()) } else { Err(TooManyKinds) }
    }

    pub(super) fn push(&mut self, request: RequestQuestion, shown: Option<String>) {
        let shown = shown.unwrap_or_else(|| request.to_string());
        self.0.push(RequestKind { request: Some(request), around: Around::default(), shown });
    }

    /// So many of the last ones again, and in their WebSockets something else than frames.
    pub(super) fn again_unframed(&mut self, count: usize) {
        self.again(count, |kind| {
            kind.around.unframed = true;
            kind.shown.push_str(" and then no frames");
        });
    }

    /// So many of the last ones again, behind a header of the PROXY protocol.
    pub(super) fn again_proxied(&mut self, count: usize) {
        self.again(count, |kind| {
            kind.around.proxied = true;
            kind.shown.push_str(" behind a PROXY header");
        });
    }

    fn again(&mut self, count: usize, change: impl Fn(&mut RequestKind)) {
        let mut more = self.0[self.0.len().saturating_sub(count)..].to_vec();
        more.iter_mut().for_each(change);
        self.0.append(&mut more);
    }
}

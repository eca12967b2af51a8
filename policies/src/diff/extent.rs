//! What of the traffic through given gates changes.

use super::ChangeKind;
use crate::limits::KINDS_LISTED_MAX;
use crate::questions::Version;
use crate::space::{Gate, RequestKind, Sent, allows, requests};
use bulkhead_facts::{Direction, Effect, Reason};

/// How much of the traffic changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every byte.
    Everything,
    /// Some kinds of requests.
    Kinds {
        /// The first of them.
        listed: Vec<RequestKind>,
        /// How many more.
        more: usize,
    },
    /// Rules tell too many kinds apart to compare them.
    Undecided,
}

impl Extent {
    /// What is sent in an example.
    pub(super) fn example(&self) -> Option<&RequestKind> {
        match self {
            Self::Kinds { listed, .. } => listed.first(),
            Self::Everything | Self::Undecided => None,
        }
    }
}

/// What one set of policies says of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Allow or deny.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// `policy/rule`, where a rule decided.
    pub rule: Option<String>,
    /// The end that settled it.
    pub direction: Option<Direction>,
}

/// One way in which a cell changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) kind: ChangeKind,
    pub(super) extent: Extent,
    pub(super) before: Said,
    pub(super) after: Said,
}

/// Gates with the side that each stands on, old and new.
pub(super) struct Gates<'j> {
    pub(super) directions: Vec<Direction>,
    pub(super) old: Vec<Gate<'j>>,
    pub(super) new: Vec<Gate<'j>>,
}

impl<'j> Gates<'j> {
    /// Old and new, each with the answer that counts.
    fn both(&self, versions: [Version; 2]) -> [(&[Gate<'j>], Version); 2] {
        [(&self.old, versions[0]), (&self.new, versions[1])]
    }
}

/// What changes, widened first; empty if nothing does.
pub(super) fn compare(gates: &Gates<'_>, versions: [Version; 2]) -> Vec<Delta> {
    let kinds = [ChangeKind::Widened, ChangeKind::Narrowed];
    let extents = if gates.old.iter().chain(&gates.new).any(Gate::inspects) {
        inspected(gates, versions)
    } else {
        let [before, after] =
            gates.both(versions).map(|(gates, version)| allows(gates, Sent::Opaque, version));
        [!before && after, before && !after].map(|changed| changed.then_some(Extent::Everything))
    };
    let delta = |(kind, extent): (ChangeKind, Option<Extent>)| {
        let extent = extent?;
        let sent = extent.example().map_or(Sent::Opaque, RequestKind::sent);
        let [before, after] =
            gates.both(versions).map(|(side, version)| said(side, &gates.directions, sent, version));
        Some(Delta { kind, extent, before, after })
    };
    kinds.into_iter().zip(extents).filter_map(delta).collect()
}

/// Requests in normal form first; what differs only for paths that are spelled otherwise is looked for where these are alike.
fn inspected(gates: &Gates<'_>, versions: [Version; 2]) -> [Option<Extent>; 2] {
    let all: Vec<Gate<'_>> = gates.old.iter().chain(&gates.new).copied().collect();
    let mut found = [None, None];
    for spelled in [false, true] {
        let Ok(kinds) = requests(&all, None, spelled) else {
            return [Some(Extent::Undecided), None];
        };
        let total = kinds.len();
        let mut changed: [Vec<RequestKind>; 2] = [Vec::new(), Vec::new()];
        for kind in kinds {
            let [before, after] =
                gates.both(versions).map(|(side, version)| allows(side, kind.sent(), version));
            match (before, after) {
                (false, true) => changed[0].push(kind),
                (true, false) => changed[1].push(kind),
                (true, true) | (false, false) => {}
            }
        }
        for (extent, kinds) in found.iter_mut().zip(changed) {
            *extent = extent.take().or_else(|| extent_of(kinds, total));
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found
}

fn extent_of(mut kinds: Vec<RequestKind>, total: usize) -> Option<Extent> {
    if kinds.is_empty() {
        return None;
    }
    if kinds.len() == total {
        return Some(Extent::Everything);
    }
    // A request says more than bytes that are none.
    kinds.sort_by_key(|kind| kind.request.is_none());
    let more = kinds.len().saturating_sub(KINDS_LISTED_MAX);
    kinds.truncate(KINDS_LISTED_MAX);
    Some(Extent::Kinds { listed: kinds, more })
}

/// The first end that denies settles it, else the last.
fn said(gates: &[Gate<'_>], directions: &[Direction], sent: Sent<'_>, version: Version) -> Said {
    let mut said = Said { effect: Effect::Allow, reason: Reason::NotIsolated, rule: None, direction: None };
    for (gate, direction) in gates.iter().zip(directions) {
        let answer = gate.answer(sent, version);
        let rule = answer.rule.map(|rule| {
            let rule = gate.judge.rule(rule);
            format!("{}/{}", rule.policy, rule.rule)
        });
        said = Said { effect: answer.effect, reason: answer.reason, rule, direction: Some(*direction) };
        if answer.effect == Effect::Deny {
            break;
        }
    }
    said
}

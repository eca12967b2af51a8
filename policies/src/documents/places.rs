//! Where policies and their parts stand, so that what is found later can still be shown in the source.

use crate::diagnostics::Span;
use bulkhead_facts::{Direction, PolicyRef};
use std::collections::BTreeMap;
use std::fmt;

/// A place in a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the source.
    pub file: String,
    /// Line and column.
    pub span: Span,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.span.line, self.span.column)
    }
}

/// The places of a whole set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub(super) policies: BTreeMap<PolicyRef, PolicyPlace>,
    pub(super) collections: BTreeMap<String, Place>,
}

/// The places of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyPlace {
    pub(super) file: String,
    pub(super) name: Span,
    pub(super) subject: Span,
    pub(super) rules: [Vec<RulePlace>; 2],
}

/// The places of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RulePlace {
    pub(super) span: Span,
    /// One for each peer of the model.
    pub(super) peers: Vec<Span>,
    /// The section that the rule is written with.
    pub(super) section: Option<&'static str>,
}

impl Places {
    /// Where the name of a policy stands.
    pub fn policy(&self, policy: &PolicyRef) -> Option<Place> {
        let place = self.policies.get(policy)?;
        Some(Place { file: place.file.clone(), span: place.name })
    }

    /// Where a rule of a policy begins.
    pub fn rule(&self, policy: &PolicyRef, direction: Direction, index: usize) -> Option<Place> {
        let place = self.policies.get(policy)?;
        let rule = place.rules[direction as usize].get(index)?;
        Some(Place { file: place.file.clone(), span: rule.span })
    }

    /// The section that a rule is written with, as its document names it: `grpc` is `http` in the model.
    pub fn section(&self, policy: &PolicyRef, direction: Direction, index: usize) -> Option<&'static str> {
        self.policies.get(policy)?.rules[direction as usize].get(index)?.section
    }

    /// Where the name of a collection stands.
    pub fn collection(&self, name: &str) -> Option<&Place> {
        self.collections.get(name)
    }

    pub(super) fn peer(
        &self,
        policy: &PolicyRef,
        direction: Direction,
        rule: usize,
        peer: usize,
    ) -> Option<Place> {
        let place = self.policies.get(policy)?;
        let span = place.rules[direction as usize].get(rule)?.peers.get(peer)?;
        Some(Place { file: place.file.clone(), span: *span })
    }
}

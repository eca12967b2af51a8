//! Cases beside policies: what must be allowed and what must be denied, and by which rule.
//!
//! A `PolicyTest` lists flows. [`load`] reads them, [`run()`] asks both ends of each flow, for every pod and address that the
//! names stand for, and explains every difference.

mod read;
mod requests;
mod run;

pub use read::load;
pub use run::{Outcome, run};

use crate::diagnostics::Span;
use crate::questions::{RequestQuestion, Version};
use bulkhead_facts::{Effect, L4Protocol, Reason};

/// One `PolicyTest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Name of the document.
    pub name: String,
    /// Name of the source.
    pub file: String,
    /// Its cases, allows first.
    pub cases: Vec<Case>,
}

/// Flows that must all have one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Name, given or made of what it asks.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// Who opens the flow: names or addresses, as alternatives that all must hold.
    pub from: Vec<(String, Span)>,
    /// Towards whom, likewise.
    pub to: Vec<(String, Span)>,
    /// On which ports, likewise.
    pub ports: Vec<(L4Protocol, u16)>,
    /// With which request.
    pub request: Option<RequestQuestion>,
    /// What must come out.
    pub expected: Expected,
}

/// What must come out of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Allow or deny.
    pub effect: Effect,
    /// The enforced answer, or the shadow one.
    pub version: Version,
    /// The rule that settles it: its name, or `policy/rule`.
    pub rule: Option<String>,
    /// The reason.
    pub reason: Option<Reason>,
}

#[cfg(test)]
mod tests;

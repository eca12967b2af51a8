//! The whole space of flows and requests, cut where rules cut it.
//!
//! Programs tell apart finitely many things: boxes of protocols and ports for each class of peers, and the methods, paths,
//! hosts and headers that their chains name. [`overlay`] lays boxes over each other; [`requests()`] gives one request for
//! each kind that no chain tells apart. What holds for these holds for all, so [`crate::diff`] and [`crate::prove`] decide
//! and do not sample. Every answer comes from [`Judge`].

mod cells;
mod hops;
mod http;
mod names;
mod others;
mod paths;
mod requests;
mod sets;
mod shown;
mod spelled;

pub use cells::{Block, Cell, ProtocolRange, overlay};
pub(crate) use cells::{boxes, class_of, segments};
pub(crate) use hops::{Hop, Through, Ways};
pub(crate) use names::names_told_apart;
pub use requests::{RequestKind, TooManyKinds, requests};
pub use shown::shown_block;

use crate::compile::Compiler;
use crate::decide::{Around, Judge};
use crate::inventory::{Inventory, ObjectName};
use crate::matrix::MatrixError;
use crate::program::{Action, Answer, L7Chain, L7ChainId};
use crate::questions::{RequestQuestion, Version, answer};
use bulkhead_facts::Effect;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The programs of all pods that have one.
pub struct Programs {
    judges: Vec<Judge>,
    by_pod: BTreeMap<ObjectName, usize>,
}

impl Programs {
    /// Compiles every program once.
    pub fn new(compiler: &Compiler<'_>) -> Result<Self, MatrixError> {
        let mut programs = Self { judges: Vec::new(), by_pod: BTreeMap::new() };
        for group in compiler.programs(1).map_err(MatrixError::Compile)? {
            let at = programs.judges.len();
            programs.judges.push(Judge::new(group.program).map_err(MatrixError::Invalid)?);
            programs.by_pod.extend(group.pods.into_iter().map(|pod| (pod, at)));
        }
        Ok(programs)
    }

    /// The judge of a pod with its number; `None` for a pod in its node's network namespace.
    pub fn judge(&self, pod: &ObjectName) -> Option<(usize, &Judge)> {
        let at = *self.by_pod.get(pod)?;
        Some((at, self.judges.get(at)?))
    }
}

/// What one end does with a flow.
#[derive(Clone, Copy)]
pub struct Gate<'j> {
    /// The end.
    pub judge: &'j Judge,
    /// What holds at layer 4.
    pub action: Action,
}

/// What is sent on a flow.
#[derive(Clone, Copy)]
pub enum Sent<'q> {
    /// Bytes that nobody can read.
    Opaque,
    /// A request.
    Request(&'q RequestQuestion),
    /// A request and what is around it.
    Among(&'q RequestQuestion, Around),
}

impl<'j> Gate<'j> {
    /// The chains that may be asked.
    pub(crate) fn chains(&self) -> Vec<&'j L7Chain> {
        let endpoints = match self.action {
            Action::Choose { choice, .. } => self.judge.choice(choice),
            Action::Answer(_) | Action::Learn(_) | Action::Inspect { .. } => &[],
        };
        let actions = endpoints.iter().map(|endpoint| endpoint.action).chain([self.action]);
        let mut chains: Vec<L7ChainId> = actions
            .filter_map(|action| match action {
                Action::Inspect { chain, .. } => Some(chain),
                Action::Answer(_) | Action::Learn(_) | Action::Choose { .. } => None,
            })
            .collect();
        chains.sort_unstable();
        chains.dedup();
        chains.into_iter().map(|chain| &self.judge.program().l7_chains[chain.0 as usize]).collect()
    }

    /// The answer for what is sent.
    pub fn answer(&self, sent: Sent<'_>, version: Version) -> Answer {
        let pair = match sent {
            Sent::Opaque => answer(self.judge, self.action, None, Around::default()),
            Sent::Request(request) => answer(self.judge, self.action, Some(request), Around::default()),
            Sent::Among(request, around) => answer(self.judge, self.action, Some(request), around),
        };
        match version {
            Version::Enforced => pair.enforced,
            Version::Shadow => pair.shadow,
        }
    }

    /// True if the bytes decide.
    pub fn inspects(&self) -> bool {
        matches!(self.action, Action::Inspect { .. } | Action::Choose { .. })
    }
}

/// True if every end lets it pass.
pub fn allows(gates: &[Gate<'_>], sent: Sent<'_>, version: Version) -> bool {
    gates.iter().all(|gate| gate.answer(sent, version).effect == Effect::Allow)
}

/// Addresses that pods and Services hold: every other one is outside, those of nodes among them.
pub(crate) fn held(inventory: &Inventory) -> BTreeSet<IpAddr> {
    let pods = inventory.pods.values().filter(|pod| !pod.host_network).flat_map(|pod| &pod.addresses);
    let services = inventory.services.values().flat_map(|service| &service.addresses);
    pods.chain(services).map(IpAddr::to_canonical).collect()
}

#[cfg(test)]
mod tests;

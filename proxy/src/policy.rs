//! The program in force, as sessions see it.
//!
//! One owner ([`crate::enforcement`]) replaces it after the kernel has taken the same program; everybody else
//! holds a `watch::Receiver` and re-judges what is open when it changes. There is no value for "no program yet":
//! until there is a first one the kernel table denies everything and no listener accepts.

use bulkhead_facts::{Direction, Effect, L4Protocol, Mode, Reason, WorkloadRef};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, Answer, AnswerPair, ClassId, DirectionProgram, Program};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// The program in force and the generation under which the kernel knows it.
#[derive(Clone, Debug)]
pub struct Current {
    /// Answers every question about packets and requests.
    pub judge: Arc<Judge>,
    /// Bits 31 to 20 of the connection mark; never 0.
    pub generation: u16,
    /// Addresses that names lead to.
    pub named: NamedClasses,
}

impl Current {
    /// What holds at layer 4 for a peer, by name where names lead to it.
    pub fn action(&self, direction: Direction, peer: IpAddr, protocol: L4Protocol, port: u16) -> Action {
        let class = if direction == Direction::Egress { self.named.class_of(peer) } else { None };
        match class {
            Some(class) => self.judge.action_of_class(direction, class, protocol, port),
            None => self.judge.action(direction, peer, protocol, port),
        }
    }

    /// The revision of the program.
    pub fn revision(&self) -> u64 {
        self.judge.program().revision
    }
}

/// The classes that addresses have in one program by names that lead to them. What the kernel admits, it admits by the
/// same classes; here are those for what is open as well. Clones share one table; changed by the owner of the kernel's alone.
#[derive(Clone, Debug, Default)]
pub struct NamedClasses(Arc<RwLock<HashMap<IpAddr, ClassId>>>);

impl NamedClasses {
    /// The class of an address that names lead to.
    pub fn class_of(&self, address: IpAddr) -> Option<ClassId> {
        let classes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if classes.is_empty() { None } else { classes.get(&address.to_canonical()).copied() }
    }

    /// Gives an address a class, or takes it away.
    pub(crate) fn set(&self, address: IpAddr, class: Option<ClassId>) {
        let mut classes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match class {
            Some(class) => classes.insert(address, class),
            None => classes.remove(&address),
        };
    }
}

/// Receives every program after the first.
pub type CurrentReceiver = watch::Receiver<Arc<Current>>;

/// What the closed table does, as a judge: everything is denied since there is no policy. Its revision is 0.
pub fn closed() -> Arc<Judge> {
    let denied = Answer { effect: Effect::Deny, rule: None, reason: Reason::NoPolicy };
    let program = Program {
        revision: 0,
        workload: WorkloadRef { namespace: String::new(), name: String::new() },
        collection: None,
        mode: Mode::Enforce,
        rules: Vec::new(),
        answers: vec![AnswerPair { enforced: denied, shadow: denied }],
        l7_chains: Vec::new(),
        ingress: DirectionProgram::default(),
        egress: DirectionProgram::default(),
        names: vec![],
        choices: vec![],
    };
    // INVARIANT: the smallest valid program; a test builds it.
    #[expect(clippy::unwrap_used, reason = "a constant program, held valid by a test")]
    Arc::new(Judge::new(program).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_facts::Request;

    #[test]
    fn the_closed_program_denies_everything() {
        let answer = closed().decide(
            Direction::Ingress,
            std::net::Ipv4Addr::LOCALHOST.into(),
            L4Protocol::TCP,
            80,
            &Request::Opaque,
        );
        assert_eq!((answer.enforced.effect, answer.enforced.reason), (Effect::Deny, Reason::NoPolicy));
    }
}

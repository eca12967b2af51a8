//! The program in force, as sessions see it.
//!
//! One owner ([`crate::enforcement`]) replaces it after the kernel has taken the same program; everybody else
//! holds a `watch::Receiver` and re-judges what is open when it changes. There is no value for "no program yet":
//! until there is a first one the kernel table denies everything and no listener accepts.

use bulkhead_facts::{Effect, Mode, Reason, WorkloadRef};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Answer, AnswerPair, DirectionProgram, Program};
use std::sync::Arc;
use tokio::sync::watch;

/// The program in force and the generation under which the kernel knows it.
#[derive(Clone, Debug)]
pub struct Current {
    /// Answers every question about packets and requests.
    pub judge: Arc<Judge>,
    /// Bits 31 to 20 of the connection mark; never 0.
    pub generation: u16,
}

impl Current {
    /// The revision of the program.
    pub fn revision(&self) -> u64 {
        self.judge.program().revision
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
    };
    // INVARIANT: the smallest valid program; a test builds it.
    #[expect(clippy::unwrap_used, reason = "a constant program, held valid by a test")]
    Arc::new(Judge::new(program).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_facts::{Direction, L4Protocol, Request};

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

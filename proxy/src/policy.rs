//! The program in force, as sessions see it.
//!
//! One owner ([`crate::enforcement`]) replaces it after the kernel has taken the same program; everybody else
//! holds a `watch::Receiver` and re-judges what is open when it changes. There is no value for "no program yet":
//! until there is a first one the kernel table denies everything and no listener accepts.

use bulkhead_policies::decide::Judge;
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

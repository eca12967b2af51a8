//! Where no table can be loaded: nothing is enforced, and every program is refused with that reason.
//!
//! What `init` left in the kernel stays in force: the closed table, if it could load one. The sidecar stays attached, so
//! that the controller shows a pod without protection instead of none.

use crate::enforcement::Table;
use bulkhead_policies::decide::Judge;
use std::sync::Arc;

/// A table that is none.
#[derive(Debug)]
pub struct Advisory {
    reason: String,
}

/// Why a program is not enforced.
#[derive(Debug, thiserror::Error)]
#[error("advisory: {0}")]
pub struct NothingEnforced(String);

impl Advisory {
    /// Since the kernel refused for that reason.
    pub fn new(reason: String) -> Self {
        Self { reason }
    }
}

impl Table for Advisory {
    type Error = NothingEnforced;

    fn apply(&mut self, _: &Arc<Judge>) -> Result<u16, NothingEnforced> {
        Err(NothingEnforced(self.reason.clone()))
    }

    fn heartbeat(&mut self) -> Result<(), NothingEnforced> {
        Ok(())
    }

    fn restore_if_changed(&mut self) -> Result<Option<String>, NothingEnforced> {
        Ok(None)
    }

    fn collect(&mut self) -> Result<(), NothingEnforced> {
        Ok(())
    }
}

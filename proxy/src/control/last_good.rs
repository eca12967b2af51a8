//! The last program that was enforced, on disk.
//!
//! With it a sidecar that starts again enforces at once, whether or not there is a controller. What cannot be read
//! whole is discarded: then the closed table stays until the controller sends a program.

use super::sealed::{self, Damage, Kind, StateError};
use crate::clock;
use bulkhead_api::v1;
use bulkhead_policies::program::Program;
use prost::Message;
use std::path::{Path, PathBuf};

/// Where the last good program lies.
#[derive(Clone, Debug)]
pub struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// The one in a state directory.
    pub fn within(state: &Path) -> Self {
        Self { path: state.join("program") }
    }

    /// Reads it; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If there is one that cannot be used.
    pub fn read(&self) -> Result<Option<Program>, StateError> {
        let Some(sealed) = sealed::read(&self.path, Kind::Program)? else { return Ok(None) };
        let unreadable = || StateError::Damaged { path: self.path.clone(), damage: Damage::Content };
        let wire = v1::Program::decode(sealed.payload.as_slice()).map_err(|_| unreadable())?;
        Program::try_from(wire).map(Some).map_err(|_| unreadable())
    }

    /// Replaces it.
    ///
    /// # Errors
    ///
    /// If the system refuses; the one before stays.
    pub fn write(&self, program: &Program) -> Result<(), StateError> {
        sealed::write(
            &self.path,
            Kind::Program,
            &v1::Program::from(program).encode_to_vec(),
            clock::unix_ms(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_directory::TestDirectory;
    use crate::test_program;

    #[test]
    fn a_program_survives_a_restart() {
        let directory = TestDirectory::new();
        let program = test_program::allowing_nothing(7);
        LastGood::within(directory.path()).write(&program).expect("write");
        assert_eq!(LastGood::within(directory.path()).read().expect("read"), Some(program));
    }

    #[test]
    fn a_whole_file_that_holds_no_program_is_damaged() {
        let directory = TestDirectory::new();
        sealed::write(&directory.path().join("program"), Kind::Program, b"\xff\xff\xff", 1).expect("write");
        let error = LastGood::within(directory.path()).read().expect_err("nonsense was read");
        assert!(matches!(error, StateError::Damaged { damage: Damage::Content, .. }), "{error}");
    }
}

//! Approval: a proposal becomes a file of the policy folder, if it is valid together with what lies there.
//!
//! The folder watch then picks it up like any other change. Where the folder is not ours to write, the proposal stays
//! approved but not applied, and a person puts the document where the policies are kept.

use crate::identity::secret::write_public;
use crate::watch::{self, FolderError};
use crate::world::{compile_diagnostic, diagnostic};
use bulkhead_api::rest::Diagnostic;
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents;
use bulkhead_policies::inventory::Inventory;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where approved documents go.
#[derive(Clone, Debug)]
pub struct Approval {
    /// Folders that are read for policies.
    pub policy_folders: Vec<PathBuf>,
    /// The folder to write to.
    pub approved_folder: PathBuf,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// The name of the collection cannot be a file's.
    #[error("`{0}` cannot be the name of a file")]
    BadName(String),
    /// The present policies cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The documents would not be valid together with those that are there.
    #[error("the policies would not be valid with it")]
    Invalid(Vec<Diagnostic>),
    /// The folder is not ours to write.
    #[error("cannot write `{path}`: {error}")]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl Approval {
    /// Checks the document with all others and writes `<approved>/<collection>.yaml`, whole or not at all. Blocks.
    pub fn apply(
        &self,
        collection: &str,
        document: &str,
        inventory: &Inventory,
    ) -> Result<PathBuf, ApprovalError> {
        let path = self.path(collection)?;
        self.check(&path, document, inventory)?;
        let written =
            fs::create_dir_all(&self.approved_folder).and_then(|()| write_public(&path, document.as_bytes()));
        match written {
            Ok(()) => Ok(path),
            Err(error) => Err(ApprovalError::NotWritable { path, error }),
        }
    }

    fn path(&self, collection: &str) -> Result<PathBuf, ApprovalError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if collection.is_empty() || collection.starts_with('.') || !collection.bytes().all(good) {
            return Err(ApprovalError::BadName(collection.to_owned()));
        }
        Ok(self.approved_folder.join(format!("{collection}.yaml")))
    }

    /// The set as it would be: what lies in the folders now, with this document in place of the file of before.
    fn check(&self, path: &Path, document: &str, inventory: &Inventory) -> Result<(), ApprovalError> {
        let mut sources = watch::read(&self.policy_folders)?;
        sources.retain(|source| !is_same_file(Path::new(&source.name), path));
        sources.push(Source { name: path.display().to_string(), text: document.to_owned() });
        let loaded = documents::load(&sources);
        if loaded.has_errors() {
            return Err(ApprovalError::Invalid(loaded.diagnostics.iter().map(diagnostic).collect()));
        }
        let compiled = Compiler::new(&loaded.set, inventory)
            .and_then(|compiler| compiler.programs(0).map_err(|error| vec![error]));
        match compiled {
            Ok(_) => Ok(()),
            Err(errors) => Err(ApprovalError::Invalid(errors.iter().map(compile_diagnostic).collect())),
        }
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Ok(_) | Err(_), _) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLLECTION: &str = "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {name: shop}\nspec: {covers: \
        {namespaces: {name: shop}}, mode: enforce}\n";
    const POLICY: &str = "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {name: web, namespace: \
        shop}\nspec: {workloads: {app: web}, ingress: [{name: all, from: [{workloads: {}}], ports: [80]}]}\n";

    #[test]
    fn a_valid_document_is_written_and_the_next_one_takes_its_place() {
        let folder = folder();
        let approval = approval(folder.path());
        let path = approval.apply("shop", POLICY, &Inventory::default()).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), POLICY);
        let wider = POLICY.replace("80", "81");
        approval.apply("shop", &wider, &Inventory::default()).expect("its own policy is no duplicate");
        assert_eq!(fs::read_to_string(&path).expect("there"), wider);
    }

    #[test]
    fn what_would_not_be_valid_together_changes_nothing() {
        let folder = folder();
        fs::write(folder.path().join("web.yaml"), POLICY).expect("written");
        let approval = approval(folder.path());
        let refused = approval.apply("shop", POLICY, &Inventory::default());
        assert!(matches!(refused, Err(ApprovalError::Invalid(_))), "the policy is there twice");
        assert!(!folder.path().join("approved").exists());
    }

    #[test]
    fn a_collection_cannot_name_a_file_elsewhere() {
        let folder = folder();
        for name in ["", "..", "../web", "a/b", ".hidden"] {
            let refused = approval(folder.path()).apply(name, POLICY, &Inventory::default());
            assert!(matches!(refused, Err(ApprovalError::BadName(_))), "{name}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_said() {
        let folder = folder();
        fs::write(folder.path().join("approved"), "a file, no folder").expect("written");
        let refused = approval(folder.path()).apply("shop", POLICY, &Inventory::default());
        assert!(matches!(refused, Err(ApprovalError::NotWritable { .. })));
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("collection.yaml"), COLLECTION).expect("written");
        folder
    }

    fn approval(folder: &Path) -> Approval {
        Approval { policy_folders: vec![folder.to_owned()], approved_folder: folder.join("approved") }
    }
}

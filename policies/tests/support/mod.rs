//! What the integration tests share: folders to sources, expected files, the third-party suites.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod random;

use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::Inventory;
use bulkhead_policies::model::PolicySet;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of this crate.
pub(crate) fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file as a source, named as given below the crate.
pub(crate) fn source(path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.strip_prefix(here()).unwrap_or(path).display().to_string();
    Source { name, text }
}

/// Files with an extension in a folder and below it, sorted.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A third-party suite's folder, from `BULKHEAD_SUITES`; `None`, said aloud, where the suites are not there.
pub(crate) fn suite(name: &str) -> Option<PathBuf> {
    let root =
        std::env::var_os("BULKHEAD_SUITES").map_or_else(|| here().join("../../shared/suites"), PathBuf::from);
    let folder = root.join(name);
    if !folder.is_dir() {
        // Past the harness, which hides what passing tests print.
        let text = format!("skipped: no suite `{name}` in {}: set BULKHEAD_SUITES\n", root.display());
        let _ = std::io::stderr().write_all(text.as_bytes());
        return None;
    }
    Some(folder)
}

/// A set and an inventory without errors.
pub(crate) fn sound(policies: &[Source], inventory: &[Source]) -> (PolicySet, Inventory) {
    let loaded = load(policies);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    let inventory = load_inventory(inventory).unwrap_or_else(|found| panic!("{found:#?}"));
    (loaded.set, inventory)
}

/// The compiler, or what it refuses.
pub(crate) fn compiler<'a>(set: &'a PolicySet, inventory: &'a Inventory) -> Compiler<'a> {
    Compiler::new(set, inventory).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// Compares with an expected file; `UPDATE=1` writes it instead.
pub(crate) fn expect(path: &Path, found: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, found).expect("a writable expected file");
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs: look at it, then refresh with UPDATE=1", path.display());
}

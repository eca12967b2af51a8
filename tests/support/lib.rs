//! What the tests of the whole product share: where the sources lie and how to walk them.
//!
//! Fakes and builders for one crate stay in that crate; here is only what more than one test target needs.

use std::io::Write;
use std::path::{Path, PathBuf};

/// The root of the workspace.
///
/// # Panics
/// If the crate was moved out of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the workspace").to_owned()
}

/// Says that a test did not run, past the harness, which hides what passing tests print. `make test` counts it.
pub fn skip(why: &str) {
    // A terminal that is gone is no reason to fail.
    let _ = std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}

/// Every file below the root that git would track and whose name ends in `.extension`, sorted.
///
/// # Panics
/// If a folder of the workspace cannot be read.
pub fn sources(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root(), extension, &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable source folder") {
        let path = entry.expect("a readable folder entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | ".git" | "node_modules" | "testdata" | "dist") {
                collect(&path, extension, found);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

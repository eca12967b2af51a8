//! Who may import whom (`docs/ARCHITECTURE.md`), read from the manifests, and what pure crates never touch.
//!
//! A new edge here is an architectural decision: write a page in `docs/decisions/` first.

use bulkhead_tests::{root, sources};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Crate, folder, and which of our crates it may depend on.
const WALLS: &[(&str, &str, &[&str])] = &[
    ("facts", "policies/facts", &[]),
    ("netfilter", "proxy/netfilter", &[]),
    ("policies", "policies", &["facts"]),
    ("inspect", "proxy/inspect", &["facts"]),
    ("index", "controller/index", &["facts", "policies"]),
    ("api", "controller/api", &["facts", "policies"]),
    ("proxy", "proxy", &["facts", "policies", "inspect", "netfilter", "api"]),
    ("controller", "controller", &["facts", "policies", "index", "api"]),
    ("lab", "deploy/lab", &["facts", "policies", "netfilter", "api"]),
    ("cli", "controller/cli", &["facts", "policies", "index", "api", "lab"]),
];

/// Pure crates with every foreign crate that they may use.
const PURE: &[(&str, &[&str])] = &[
    ("policies/facts", &["ipnetwork"]),
    ("policies", &["saphyr-parser", "serde", "serde_json"]),
    ("proxy/inspect", &["memchr"]),
    ("controller/index", &[]),
];

/// What no source of a pure crate may name. Hash maps are there for look-ups, keyed against collisions as always; that
/// their order never shows is held by the tests of permuted input.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::time::Instant",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "std::thread",
    "std::process",
    "std::env::",
    "println!",
    "eprintln!",
    "tokio",
    "async fn",
    "rand::",
    "getrandom",
];

#[test]
fn crates_import_only_what_their_wall_allows() {
    for (name, folder, allowed) in WALLS {
        let used: BTreeSet<String> = dependencies(folder)
            .into_iter()
            .filter_map(|d| d.strip_prefix("bulkhead-").map(ToOwned::to_owned))
            .collect();
        for dependency in used {
            assert!(
                allowed.contains(&dependency.as_str()),
                "`{name}` imports `{dependency}`: not among {allowed:?}"
            );
        }
    }
}

#[test]
fn every_member_of_the_workspace_has_a_wall() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the workspace manifest");
    let members: BTreeSet<&str> = manifest
        .lines()
        .skip_while(|l| !l.starts_with("members"))
        .skip(1)
        .take_while(|l| !l.starts_with(']'))
        .map(|l| l.trim().trim_matches([',', '"']))
        .collect();
    let walled: BTreeSet<&str> = WALLS.iter().map(|w| w.1).chain(["tests", "benches"]).collect();
    for member in members {
        assert!(walled.contains(member), "`{member}` is missing in the table of walls");
    }
}

#[test]
fn nobody_imports_tests_or_benches() {
    for manifest in sources("toml").iter().filter(|p| p.ends_with("Cargo.toml")) {
        let text = std::fs::read_to_string(manifest).expect("a manifest");
        for line in text.lines().filter(|l| !l.starts_with("name")) {
            let imports = line.starts_with("bulkhead-tests") || line.starts_with("bulkhead-benches");
            assert!(!imports, "{} imports tests or benches", manifest.display());
        }
    }
}

#[test]
fn pure_crates_depend_on_nothing_that_does_io() {
    for (folder, allowed) in PURE {
        for dependency in dependencies(folder).iter().filter(|d| !d.starts_with("bulkhead-")) {
            assert!(allowed.contains(&dependency.as_str()), "pure `{folder}` depends on `{dependency}`");
        }
    }
}

#[test]
fn pure_sources_name_no_io_clock_randomness_or_task() {
    let root = root();
    let folders: BTreeMap<_, _> = PURE.iter().map(|(f, _)| (root.join(f).join("src"), *f)).collect();
    let files = sources("rs");
    let tests: Vec<PathBuf> = files.iter().flat_map(|f| test_modules(f)).collect();
    for file in files {
        let Some((_, folder)) = folders.iter().find(|(path, _)| file.starts_with(path)) else { continue };
        if tests.iter().any(|t| file.starts_with(t) || file == t.with_extension("rs")) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a source file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for word in IMPURE {
                assert!(
                    !line.contains(word),
                    "{}:{}: pure `{folder}` names `{word}`",
                    file.display(),
                    number + 1
                );
            }
        }
    }
}

/// The modules that a file declares for tests only, as paths without ending.
fn test_modules(file: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(file).expect("a source file");
    let folder = match file.file_stem().and_then(|s| s.to_str()) {
        Some("lib" | "mod" | "main") | None => file.with_file_name(""),
        Some(_) => file.with_extension(""),
    };
    text.split("#[cfg(test)]")
        .skip(1)
        .filter_map(|after| after.trim_start().strip_prefix("mod "))
        .filter_map(|after| after.split_once(';').map(|(name, _)| folder.join(name.trim())))
        .collect()
}

/// Names in the `[dependencies]` table of a member.
fn dependencies(folder: &str) -> Vec<String> {
    let path = root().join(folder).join("Cargo.toml");
    let manifest = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    manifest
        .lines()
        .skip_while(|l| l.trim() != "[dependencies]")
        .skip(1)
        .take_while(|l| !l.starts_with('['))
        .filter_map(|l| l.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(ToOwned::to_owned)
        .collect()
}

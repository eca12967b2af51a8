//! House rules that a machine can hold: heads of files, marks of unfinished work, reasons for ignored tests,
//! promises that name a test which exists, reasons that have a page.

use bulkhead_tests::{root, sources};
use std::collections::BTreeSet;
use std::path::Path;

/// Lines of one source file. Longer: find the seam.
const FILE_LINES_MAX: usize = 800;

#[test]
fn every_source_file_says_what_it_is_for() {
    for (file, text) in rust_files() {
        assert!(text.starts_with("//!"), "{file}: does not begin with `//!`");
    }
}

#[test]
fn no_source_file_is_longer_than_the_limit() {
    for (file, text) in rust_files() {
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{file}: {lines} lines, at most {FILE_LINES_MAX}");
    }
}

#[test]
fn no_mark_of_unfinished_work_is_left() {
    let marks: Vec<String> =
        ["TO", "FIX", "XX"].iter().zip(["DO", "ME", "X"]).map(|(a, b)| format!("{a}{b}")).collect();
    for (file, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            for word in line.split(|c: char| !c.is_alphanumeric()) {
                assert!(!marks.iter().any(|m| m == word), "{file}:{}: `{word}`", number + 1);
            }
        }
    }
}

#[test]
fn ignored_tests_say_why() {
    let bare = format!("#[{}]", "ignore");
    for (file, text) in rust_files() {
        assert!(!text.contains(&bare), "{file}: an ignored test without a reason");
    }
}

#[test]
fn no_line_ends_in_white_space() {
    for extension in ["rs", "md", "toml", "yaml", "proto", "sh"] {
        for file in sources(extension) {
            let text = std::fs::read_to_string(&file).expect("a text file");
            for (number, line) in text.lines().enumerate() {
                assert_eq!(line.trim_end(), line, "{}:{}: ends in white space", file.display(), number + 1);
            }
        }
    }
}

#[test]
fn unsafe_code_stands_in_few_small_files() {
    let allowing: Vec<(String, usize)> = rust_files()
        .filter(|(_, text)| text.contains(&format!("#![allow({})]", "unsafe_code")))
        .map(|(file, text)| (file, text.lines().count()))
        .collect();
    for (file, lines) in allowing {
        assert!(lines <= 400, "{file}: {lines} lines with leave for unsafe code; keep the unsafe part small");
    }
}

#[test]
fn promises_name_tests_that_exist() {
    let promises = std::fs::read_to_string(root().join("docs/PROMISES.md")).expect("docs/PROMISES.md");
    let tests: BTreeSet<(String, String)> = rust_files()
        .flat_map(|(file, text)| test_functions(&text).into_iter().map(move |name| (file.clone(), name)))
        .collect();
    let mut rows = 0;
    for line in promises.lines().filter(|l| l.starts_with("| ") && l.contains('`')) {
        for name in line.split('`').skip(1).step_by(2).filter(|n| n.contains("::")) {
            let (place, function) = name.rsplit_once("::").unwrap_or_default();
            let held = tests
                .iter()
                .any(|(file, test)| test == function && file.split(['/', '.']).any(|p| p == place));
            assert!(held, "docs/PROMISES.md names `{name}`, which is no test there");
            rows += 1;
        }
    }
    assert!(rows > 0, "docs/PROMISES.md names no test at all");
}

#[test]
fn every_reason_has_a_page() {
    let page = std::fs::read_to_string(root().join("docs/reasons.md")).expect("docs/reasons.md");
    let source = std::fs::read_to_string(root().join("policies/facts/src/verdict.rs")).expect("verdict.rs");
    let reasons: Vec<&str> = source
        .split("reasons! {")
        .nth(1)
        .unwrap_or_default()
        .lines()
        .filter_map(|l| l.split_once(" = \"").and_then(|(_, r)| r.strip_suffix("\",")))
        .collect();
    assert!(reasons.len() > 10, "the list of reasons was not found");
    for reason in reasons {
        assert!(page.contains(&format!("## {reason}\n")), "docs/reasons.md has no section `{reason}`");
    }
}

fn rust_files() -> impl Iterator<Item = (String, String)> {
    let root = root();
    sources("rs").into_iter().map(move |path| {
        let text = std::fs::read_to_string(&path).expect("a source file");
        (display(&path, &root), text)
    })
}

fn display(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// Names of functions with a test attribute right above them.
fn test_functions(text: &str) -> Vec<String> {
    let mut attributed = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        let function = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        match function {
            Some(rest) if attributed => names.extend(rest.split(['(', '<']).next().map(ToOwned::to_owned)),
            Some(_) | None => {}
        }
        let attribute = line.starts_with("#[");
        attributed =
            (attribute && (attributed || line.contains("test"))) || (attributed && line.starts_with("//"));
    }
    names
}

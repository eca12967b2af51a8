//! The request cases of llhttp, the parser of Node: for each we reject, or agree on every request line.
//!
//! Looked for in `$BULKHEAD_SUITES`, else in `../shared/suites` beside the workspace; where the suite is not, the
//! test says so and checks nothing.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use support::{End, OK, World, run};

#[test]
fn every_request_case_is_rejected_or_read_alike() {
    let Some(folder) = suite("llhttp-tests/test/request") else { return };
    let (mut cases, mut accepted) = (0, 0);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        for case in read_cases(&text).filter(|case| case.strict && !case.unknown_method) {
            cases += 1;
            check(&file, &case);
            accepted += usize::from(check(&file, &case.with_host()));
        }
    }
    assert!(cases > 100, "only {cases} cases found in {}", folder.display());
    assert!(accepted > 20, "only {accepted} of {cases} cases accepted");
    println!("llhttp: {cases} cases, {accepted} read alike, {} rejected", cases - accepted);
}

/// True if we took all of it.
fn check(file: &Path, case: &Case) -> bool {
    let everything = World { allow: |_| true, answer: |_| OK };
    let name = format!("{}: {}", file.display(), case.name);
    let outcome = run(&everything, &case.input, case.input.len());
    for piece in [1, 3, 7] {
        assert_eq!(run(&everything, &case.input, piece), outcome, "{name} by {piece}");
    }
    let count = outcome.lines.len();
    assert!(count <= case.requests.len(), "{name}: we read {:?}, llhttp {:?}", outcome.lines, case.requests);
    assert_eq!(outcome.lines, case.requests[..count], "{name}");
    let took_all = outcome.end == End::Open && outcome.released == case.input;
    if case.error {
        assert!(!took_all, "{name}: llhttp refuses, we do not");
    }
    took_all
}

struct Case {
    name: String,
    /// Without leniency that its parser must be told to have.
    strict: bool,
    input: Vec<u8>,
    /// Method and target of each request whose head llhttp completed.
    requests: Vec<String>,
    error: bool,
    /// Refused for a method that is not in its closed list; for us every upper-case token is one.
    unknown_method: bool,
}

impl Case {
    /// Most cases have no host, for which we refuse them before anything else: the same with one.
    fn with_host(&self) -> Self {
        let input = String::from_utf8_lossy(&self.input).into_owned();
        let has_host = input.to_ascii_lowercase().contains("host:");
        let hosted = input.replace(" HTTP/1.1\r\n", " HTTP/1.1\r\nHost: a\r\n");
        let input = if has_host { self.input.clone() } else { hosted.into_bytes() };
        Self { name: format!("{} (with a host)", self.name), input, requests: self.requests.clone(), ..*self }
    }
}

fn read_cases(text: &str) -> impl Iterator<Item = Case> {
    text.split("\n#").filter_map(|section| {
        let input = fenced(section, "http")?;
        let log = fenced(section, "log")?;
        Some(Case {
            name: section.lines().next().unwrap_or_default().trim_start_matches('#').trim().to_owned(),
            strict: section.contains("\"type\": \"request\""),
            input: unescape(input),
            requests: requests(log),
            // Pauses are asked for by the test, and no error.
            unknown_method: log.lines().any(|line| line.contains(" error code=") && line.contains("method")),
            error: log.contains(" error code=") && !log.contains("Pause on") && !log.contains("aused"),
        })
    })
}

fn fenced<'a>(section: &'a str, language: &str) -> Option<&'a str> {
    let (_, rest) = section.split_once(&format!("\n```{language}\n"))?;
    let (block, _) = rest.split_once("\n```")?;
    Some(block)
}

/// Lines end in CRLF unless the backslash before the end takes it away; `\r`, `\n`, `\t`, `\f` and `\xNN` are bytes.
fn unescape(block: &str) -> Vec<u8> {
    let block = block.replace("\\\n", "").replace('\n', "\r\n");
    let mut out = Vec::new();
    let mut rest = block.as_str();
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (byte, length) = match escape.chars().next() {
            Some('r') => (b'\r', 1),
            Some('n') => (b'\n', 1),
            Some('t') => (b'\t', 1),
            Some('f') => (0x0c, 1),
            Some('x') => (u8::from_str_radix(&escape[1..3], 16).expect("two hexadecimal digits"), 3),
            _ => (b'\\', 0),
        };
        out.push(byte);
        rest = &escape[length..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn requests(log: &str) -> Vec<String> {
    let (mut requests, mut method, mut url) = (Vec::new(), String::new(), String::new());
    for line in log.lines() {
        if let Some(span) = span(line, "method") {
            method.push_str(span);
        } else if let Some(span) = span(line, "url") {
            url.push_str(span);
        } else if line.contains("headers complete") {
            requests.push(format!("{method} {url}"));
        } else if line.contains("message begin") {
            (method, url) = (String::new(), String::new());
        }
    }
    requests
}

fn span<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("span[{kind}]=\""))?;
    rest.strip_suffix('"')
}

fn suite(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites");
    let root = std::env::var_os("BULKHEAD_SUITES").map_or(beside, PathBuf::from);
    let folder = root.join(name);
    if !folder.is_dir() {
        // Past the harness, which hides what passing tests print.
        let text = format!("skipped: no `{}`; set BULKHEAD_SUITES\n", folder.display());
        let _ = std::io::stderr().write_all(text.as_bytes());
        return None;
    }
    Some(folder)
}

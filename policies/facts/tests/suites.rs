//! Tables that others wrote: our normal form equals theirs or refuses, and is never a different one.
//!
//! The tables are not part of this repository. They are read from the folder that `BULKHEAD_SUITES` names, by default
//! `../shared/suites` beside it; where that is absent each test says so and passes nothing off as tested.

use bulkhead_facts::{HostName, UrlPath};
use std::io::Write;
use std::path::PathBuf;

fn suite(file: &str) -> Option<String> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites");
    let folder = std::env::var_os("BULKHEAD_SUITES").map_or(beside, PathBuf::from);
    let text = std::fs::read_to_string(folder.join(file)).ok();
    if text.is_none() {
        // Past the harness, which hides what passing tests print.
        let text = format!("skipped: {file} is not in {}: set BULKHEAD_SUITES\n", folder.display());
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    text
}

/// Escapes in upper case: RFC 3986 section 6.2.2.1 makes `%2b` and `%2B` the same path.
fn upper_escapes(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let end = (at + 3).min(rest.len());
        out.push_str(&rest[..at]);
        out.push_str(&rest[at..end].to_ascii_uppercase());
        rest = &rest[end..];
    }
    out + rest
}

#[test]
fn paths_equal_those_of_a_mesh_that_decodes_and_merges_or_are_refused() {
    let Some(text) = suite("path-normalization/cases.yaml") else { return };
    let (mut mode, mut input, mut compared) = ("", "", 0);
    for line in text.lines() {
        let line = line.trim_start().trim_start_matches("- ");
        if let Some(name) = line.strip_prefix("mode: ") {
            mode = name;
        } else if let Some(path) = line.strip_prefix("in: ") {
            input = path;
        } else if let Some(expected) = line.strip_prefix("out: ") {
            // The other modes leave in place what we merge or decode.
            if !matches!(mode, "MERGE_SLASHES" | "DECODE_AND_MERGE_SLASHES") {
                continue;
            }
            let Ok(path) = UrlPath::parse(input) else { continue };
            assert_eq!(path.normal(), upper_escapes(expected), "{mode}: {input}");
            compared += 1;
        }
    }
    assert!(compared >= 40, "only {compared} paths were compared");
}

#[test]
fn hosts_equal_those_of_the_url_standard_or_are_refused() {
    let Some(text) = suite("url-testdata/url/tests/urltestdata.json") else { return };
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut compared = 0;
    for case in cases.iter().filter(|case| case["base"].is_null()) {
        let Some(input) = case["input"].as_str() else { continue };
        let Some((scheme, rest)) = input.split_once("://") else { continue };
        if !matches!(scheme, "http" | "https" | "ws" | "wss") {
            continue;
        }
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let Ok((host, _)) = HostName::parse_authority(authority) else { continue };
        // Which characters an encoded label may hold takes the Unicode tables; we compare it as it is encoded.
        if host.as_str().contains("xn--") && case["failure"] == true {
            continue;
        }
        let expected = case["hostname"].as_str().unwrap_or("a failure");
        let same = expected.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let folded = HostName::parse(same).map(|host| host.to_string()).unwrap_or_else(|_| same.to_owned());
        assert_eq!(host.as_str(), folded, "{input}");
        compared += 1;
    }
    assert!(compared >= 30, "only {compared} hosts were compared");
}

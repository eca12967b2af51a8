//! Diagnostics for machines: JSON, SARIF 2.1.0 and workflow commands of GitHub.
//!
//! All three are pure functions of the diagnostics, in their order; the same findings give the same bytes.

use super::{Diagnostic, Severity};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// An array of findings, as `--format json` prints it.
pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    diagnostics.iter().map(finding).collect()
}

fn finding(diagnostic: &Diagnostic) -> Value {
    json!({
        "severity": diagnostic.severity.as_str(),
        "code": diagnostic.code,
        "file": diagnostic.file,
        "line": diagnostic.line,
        "column": diagnostic.column,
        "message": diagnostic.message,
        "label": diagnostic.label,
        "help": diagnostic.help,
    })
}

/// A SARIF log with one run (OASIS SARIF 2.1.0, sections 3.13, 3.14 and 3.27).
pub fn to_sarif(diagnostics: &[Diagnostic], version: &str) -> Value {
    let codes: BTreeMap<&str, Severity> = diagnostics.iter().map(|d| (d.code, d.severity)).collect();
    let rules: Vec<Value> = codes
        .iter()
        .map(|(code, severity)| json!({"id": code, "defaultConfiguration": {"level": severity.as_str()}}))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "bulkhead", "version": version, "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": diagnostics.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn result(diagnostic: &Diagnostic) -> Value {
    let text = match &diagnostic.help {
        Some(help) => format!("{}. Help: {help}", diagnostic.message),
        None => diagnostic.message.clone(),
    };
    json!({
        "ruleId": diagnostic.code,
        "level": diagnostic.severity.as_str(),
        "message": {"text": text},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&diagnostic.file)},
            "region": {
                "startLine": diagnostic.line,
                "startColumn": diagnostic.column,
                "endColumn": diagnostic.column + diagnostic.width,
            },
        }}],
    })
}

/// A relative reference (RFC 3986 section 4.2): bytes that are none of a path's are escaped.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// One `::error file=…` line for each finding.
pub fn to_github(diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let Diagnostic { severity, code, file, line, column, message, .. } = diagnostic;
        let message = match &diagnostic.help {
            Some(help) => format!("{message}\nhelp: {help}"),
            None => message.clone(),
        };
        let _ = writeln!(
            out,
            "::{} file={},line={line},col={column},title={}::{}",
            severity.as_str(),
            property(file),
            property(code),
            data(&message)
        );
    }
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::super::{Report, Span};
    use super::*;

    fn sample() -> Vec<Diagnostic> {
        let mut report = Report::new("shop, a.yaml");
        report.error("unknown-field", Span { line: 3, column: 5, width: 2 }, "50% wrong").help("mend it");
        report.finish()
    }

    #[test]
    fn github_commands_escape_what_would_end_them() {
        let expected =
            "::error file=shop%2C a.yaml,line=3,col=5,title=unknown-field::50%25 wrong%0Ahelp: mend it\n";
        assert_eq!(to_github(&sample()), expected);
    }

    #[test]
    fn sarif_names_rule_place_and_remedy() {
        let log = to_sarif(&sample(), "1.0.0");
        let result = &log["runs"][0]["results"][0];
        assert_eq!(result["ruleId"], "unknown-field");
        assert_eq!(result["message"]["text"], "50% wrong. Help: mend it");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "shop%2C%20a.yaml");
        assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 5, "endColumn": 7}));
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][0]["id"], "unknown-field");
    }

    #[test]
    fn json_keeps_every_part() {
        let found = to_json(&sample());
        assert_eq!(found[0]["help"], "mend it");
        assert_eq!(found[0]["line"], 3);
    }
}

//! Reads the request cases of llhttp, where the folder of suites is: in `$BULKHEAD_SUITES`, else beside the workspace.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// All cases; `None`, said past the harness, where there are none.
pub(crate) fn all() -> Option<Vec<Case>> {
    let beside =
        || Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/suites"));
    let root =
        std::env::var_os("BULKHEAD_SUITES").map(PathBuf::from).or_else(|| beside().find(|it| it.is_dir()));
    let Some(folder) =
        root.map(|root| root.join("llhttp-tests/test/request")).filter(|folder| folder.is_dir())
    else {
        let _ = std::io::stderr()
            .write_all(b"skipped: no `llhttp-tests` among the suites; set BULKHEAD_SUITES\n");
        return None;
    };
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        read_cases(&name, &fs::read_to_string(file).expect("text"))
    };
    Some(files.iter().flat_map(read).collect())
}

/// One case.
pub(crate) struct Case {
    /// Its file and title.
    pub(crate) name: String,
    /// Without leniency that its parser must be told to have.
    pub(crate) strict: bool,
    /// What the client sends.
    pub(crate) input: Vec<u8>,
    /// Method and target of each request whose head llhttp completed.
    pub(crate) requests: Vec<String>,
    /// llhttp refuses it.
    pub(crate) error: bool,
    /// Refused for a method that is not in its closed list; for us every upper-case token is one.
    pub(crate) unknown_method: bool,
}

impl Case {
    /// Most cases have no host, for which we refuse them before anything else: the same with one.
    pub(crate) fn with_host(&self) -> Self {
        let input = String::from_utf8_lossy(&self.input).into_owned();
        let has_host = input.to_ascii_lowercase().contains("host:");
        let hosted = input.replace(" HTTP/1.1\r\n", " HTTP/1.1\r\nHost: a\r\n");
        let input = if has_host { self.input.clone() } else { hosted.into_bytes() };
        Self { name: format!("{} (with a host)", self.name), input, requests: self.requests.clone(), ..*self }
    }
}

fn read_cases(file: &str, text: &str) -> Vec<Case> {
    let read = |section: &str| {
        let input = fenced(section, "http")?;
        let log = fenced(section, "log")?;
        Some(Case {
            name: format!(
                "{file}: {}",
                section.lines().next().unwrap_or_default().trim_start_matches('#').trim()
            ),
            strict: section.contains("\"type\": \"request\""),
            input: unescape(input),
            requests: requests(log),
            // Pauses are asked for by the test, and no error.
            unknown_method: log.lines().any(|line| line.contains(" error code=") && line.contains("method")),
            error: log.contains(" error code=") && !log.contains("Pause on") && !log.contains("aused"),
        })
    };
    text.split("\n#").filter_map(read).collect()
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

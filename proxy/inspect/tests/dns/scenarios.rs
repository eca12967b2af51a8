//! The replay scenarios of the resolver Unbound: of every answer in them we learn what a plain reading of its text gives.
//!
//! Looked for in `$BULKHEAD_SUITES`, else in `../shared/suites` beside the workspace; where the suite is not, the test says so
//! and checks nothing.

use crate::message::{Message, wire};
use bulkhead_inspect::dns::{A, AAAA, Answer, CNAME, NS, Query};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

#[test]
fn of_every_scenario_only_what_the_question_leads_to_is_learned() {
    let Some(folder) = suite("unbound-dns-cases/testdata") else { return };
    let (mut answers, mut learned, mut ignored) = (0, 0, 0);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    for file in files {
        let text = fs::read(&file).expect("a file");
        for entry in entries(&String::from_utf8_lossy(&text)) {
            let (expected, all) = (entry.reading(), entry.addresses().len());
            let found = entry.parsed();
            assert_eq!(found, expected, "{}: {:?}", file.display(), entry);
            answers += 1;
            learned += found.len();
            ignored += all - found.len();
        }
    }
    assert!(
        answers > 500 && learned > 100 && ignored > 300,
        "{answers} answers, {learned} learned, {ignored} not"
    );
    println!("unbound: {answers} answers, {learned} addresses learned, {ignored} ignored");
}

fn suite(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/suites"));
    let folder = std::env::var_os("BULKHEAD_SUITES").map_or_else(beside, PathBuf::from).join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    let _ = std::io::stderr().write_all(format!("skipped: no suite at {}\n", folder.display()).as_bytes());
    None
}

/// One answer of a scenario.
#[derive(Debug, Default)]
struct Entry {
    question: Option<(String, u16)>,
    /// Section, owner, type as written, time, content as written.
    records: Vec<(usize, String, String, u32, String)>,
}

/// The answers of a scenario whose question asks for addresses.
fn entries(text: &str) -> Vec<Entry> {
    let (mut found, mut entry, mut section, mut reply) = (Vec::new(), Entry::default(), 0, false);
    for line in text.lines().map(|line| line.split(';').next().unwrap_or_default()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ENTRY_BEGIN"] => (entry, section, reply) = (Entry::default(), 0, false),
            ["REPLY", ..] => reply = words.contains(&"QR"),
            ["SECTION", name] => {
                section = ["QUESTION", "ANSWER", "AUTHORITY", "ADDITIONAL"]
                    .iter()
                    .position(|s| *s == name)
                    .unwrap_or(9)
            }
            ["ENTRY_END"] => {
                let entry = std::mem::take(&mut entry);
                if reply && entry.question.is_some() {
                    found.push(entry);
                }
            }
            [name, "IN", kind] if section == 0 && entry.question.is_none() => {
                let kind = match kind {
                    "A" => Some(A),
                    "AAAA" => Some(AAAA),
                    _ => None,
                };
                entry.question = kind.filter(|_| is_plain(name)).map(|kind| (name.to_owned(), kind));
            }
            [owner, ..] if (1..=3).contains(&section) && is_plain(owner) => {
                let rest: Vec<&str> = words[1..].iter().copied().filter(|word| *word != "IN").collect();
                let (ttl_s, rest) = match rest.first().and_then(|word| word.parse().ok()) {
                    Some(ttl_s) => (ttl_s, &rest[1..]),
                    None => (3_600, &rest[..]),
                };
                if let [kind, content, ..] = rest {
                    entry.records.push((
                        section,
                        owner.to_owned(),
                        (*kind).to_owned(),
                        ttl_s,
                        (*content).to_owned(),
                    ));
                }
            }
            _ => {}
        }
    }
    found
}

fn is_plain(name: &str) -> bool {
    name.len() < 250 && !name.contains('\\') && name.split('.').all(|label| label.len() < 64)
}

impl Entry {
    /// Every address, wherever it stands.
    fn addresses(&self) -> BTreeSet<IpAddr> {
        self.records.iter().filter_map(|(.., content)| content.parse().ok()).collect()
    }

    /// What a plain reading gives: from the question along single aliases of the answer section to addresses there.
    fn reading(&self) -> BTreeSet<IpAddr> {
        let (question, record) = self.question.as_ref().expect("a question");
        let answers = || self.records.iter().filter(|(section, ..)| *section == 1);
        let same = |a: &str, b: &str| a.trim_end_matches('.').eq_ignore_ascii_case(b.trim_end_matches('.'));
        let mut name = question.clone();
        for _ in 0..=16 {
            let aliases: Vec<_> =
                answers().filter(|(_, owner, kind, ..)| kind == "CNAME" && same(owner, &name)).collect();
            match aliases[..] {
                [] => {
                    let wanted = if *record == A { "A" } else { "AAAA" };
                    let own = answers().filter(|(_, owner, kind, ..)| kind == wanted && same(owner, &name));
                    return own.filter_map(|(.., content)| content.parse().ok()).collect();
                }
                [(.., target)] => name = target.clone(),
                _ => return BTreeSet::new(),
            }
        }
        BTreeSet::new()
    }

    fn parsed(&self) -> BTreeSet<IpAddr> {
        let (name, record) = self.question.as_ref().expect("a question");
        let mut message = Message::answer(name, *record);
        for section in 1..=3 {
            for (_, owner, kind, ttl_s, content) in self.records.iter().filter(|(s, ..)| *s == section) {
                let (kind, content) = match (kind.as_str(), content.parse()) {
                    ("A", Ok(IpAddr::V4(address))) => (A, address.octets().to_vec()),
                    ("AAAA", Ok(IpAddr::V6(address))) => (AAAA, address.octets().to_vec()),
                    ("CNAME", _) => (CNAME, wire(content)),
                    ("NS", _) => (NS, wire(content)),
                    (_, _) => (16, vec![0]),
                };
                message = message.record(section, owner, kind, *ttl_s, &content);
            }
        }
        let query = Query::parse(&Message::question(name, *record).build()).expect("a question");
        let answer = Answer::parse(&query, 0x4321, &message.build()).expect("an answer");
        answer.addresses.iter().map(|(address, _)| *address).collect()
    }
}

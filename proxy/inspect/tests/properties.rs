//! What holds for any bytes: no panic, the same outcome for every split, nothing released but what was decided on.

mod support;

use bulkhead_facts::{PathTemplate, UrlPath};
use bulkhead_inspect::{Step, signature};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};
use support::{OK, PLAIN, World, gate, run};

/// Pieces of HTTP, right and wrong, so that random sequences get past the first line.
const PIECES: &[&str] = &[
    "GET ",
    "POST ",
    "HEAD ",
    "CONNECT ",
    "OPTIONS ",
    "get ",
    "PRI ",
    "/a",
    "/no",
    "/a?b=c",
    "*",
    "http://a/b",
    "a:80",
    "/%2e%2e/no",
    "/a/../no",
    "//",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/2.0\r\n",
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "Host: a\r\n",
    "Host: b\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: +5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Connection: close\r\n",
    "Connection: Upgrade\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\n",
    "Upgrade: websocket\r\n",
    "Upgrade: h2c\r\n",
    "HTTP2-Settings: AA\r\n",
    "Expect: 100-continue\r\n",
    "X: y\r\n",
    "X : y\r\n",
    " folded\r\n",
    "5\r\nhello\r\n",
    "0\r\n",
    "5;x=y\r\n",
    "hello",
    "ffffffffffffffff\r\n",
    "t: v\r\n",
    "\0",
    "\u{e9}",
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
];

fn http_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_split_gives_the_same_outcome(input in http_like(), piece in 1_usize..40) {
        let whole = run(&PLAIN, &input, input.len());
        prop_assert_eq!(run(&PLAIN, &input, piece), whole.clone());
        prop_assert_eq!(run(&PLAIN, &input, 1), whole);
    }

    #[test]
    fn arbitrary_bytes_are_no_surprise(input in vec(any::<u8>(), 0..200), piece in 1_usize..40) {
        let whole = run(&PLAIN, &input, input.len());
        prop_assert_eq!(run(&PLAIN, &input, piece), whole);
    }

    #[test]
    fn a_denied_path_is_never_released(input in http_like()) {
        let outcome = run(&PLAIN, &input, input.len());
        let released = outcome.released;
        // A head for `/no` could leave only as the content of a body that an allowed head frames.
        let heads = outcome.asked.iter().filter(|line| !line.contains("/no")).count();
        prop_assert!(!released.starts_with(b"GET /no"));
        prop_assert!(heads > 0 || released.is_empty());
    }

    #[test]
    fn arbitrary_answers_are_no_surprise(answer in http_like(), status in 100_u16..600, piece in 1_usize..40) {
        let request = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = [format!("HTTP/1.1 {status} x\r\n").as_bytes(), &answer].concat();
        let ended = |piece: usize| {
            let mut conversation = gate();
            assert!(matches!(conversation.client(request), Step::Ask(_)));
            conversation.allow();
            assert!(matches!(conversation.client(request), Step::Forward(_)));
            let (mut pending, mut out) = (Vec::new(), Vec::new());
            for part in answer.chunks(piece) {
                pending.extend_from_slice(part);
                loop {
                    match conversation.server(&pending) {
                        Step::NeedMore => break,
                        Step::Forward(count) => out.extend(pending.drain(..count)),
                        other => return (out, format!("{other:?}")),
                    }
                }
            }
            (out, String::new())
        };
        prop_assert_eq!(ended(piece), ended(answer.len()));
    }

    #[test]
    fn a_decided_head_reads_the_same_later(input in http_like()) {
        let mut conversation = gate();
        if let Step::Ask(question) = conversation.client(&input) {
            let kept = question.keep();
            let again = kept.question().expect("the same head");
            prop_assert_eq!(format!("{again:?}"), format!("{question:?}"));
        }
    }

    #[test]
    fn the_template_of_a_path_is_a_template_that_matches_it(
        segments in vec("[a-zA-Z0-9_.~@:!*'()$&,;=+%-]{0,45}", 0..16)
    ) {
        let text = format!("/{}", segments.join("/"));
        let Ok(path) = UrlPath::parse(&text) else { return Ok(()) };
        let template = signature::template(path.normal());
        let parsed = PathTemplate::parse(&template);
        prop_assert!(parsed.is_ok(), "`{}` of `{}`: {:?}", template, text, parsed);
        if path.raw() == path.normal() && !path.normal().contains("//") {
            prop_assert!(parsed.is_ok_and(|parsed| parsed.matches(&path)), "`{}` matches `{}`", template, text);
        }
    }
}

#[test]
fn the_corpus_of_go_requests_holds_no_surprise() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites");
    let root = std::env::var_os("BULKHEAD_SUITES").map_or(beside, PathBuf::from);
    let folder = root.join("go-fuzz-corpus/httpreq/corpus");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        // Past the harness, which hides what passing tests print.
        let text = format!("skipped: no `{}`; set BULKHEAD_SUITES\n", folder.display());
        let _ = std::io::stderr().write_all(text.as_bytes());
        return;
    };
    let everything = World { allow: |_| true, answer: |_| OK };
    let mut files = 0;
    for entry in entries {
        let input = std::fs::read(entry.expect("an entry").path()).expect("bytes");
        let whole = run(&everything, &input, input.len());
        assert_eq!(run(&everything, &input, 3), whole, "{:?}", input.escape_ascii().to_string());
        files += 1;
    }
    assert!(files > 1_000, "only {files} files in {}", folder.display());
}

//! Seeds of other fuzzers: no panic, bounded memory, and the same for pieces of every size.
//!
//! Looked for in `$BULKHEAD_SUITES`, else in `../shared/suites` beside the workspace; where a suite is not, the test
//! says so and checks nothing.

use super::driver::Driver;
use crate::http2::frame::{Kind, PREFACE};
use std::fs;
use std::path::{Path, PathBuf};

fn seeds(suite: &str) -> Vec<Vec<u8>> {
    let root = std::env::var_os("BULKHEAD_SUITES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites"),
        PathBuf::from,
    );
    let folder = root.join(suite);
    if !folder.is_dir() {
        eprintln!("skipped: no suite at {}", folder.display());
        return Vec::new();
    }
    let mut files = Vec::new();
    collect(&folder, &mut files);
    files.sort();
    assert!(files.len() > 50, "{} seeds in {}", files.len(), folder.display());
    files.iter().map(|file| fs::read(file).expect("a file")).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path),
        }
    }
}

/// Shows a seed to a conversation, with and without what a connection begins with.
fn check(seed: &[u8]) {
    let bare = seed.strip_prefix(PREFACE).unwrap_or(seed);
    for gate in [true, false] {
        let play = |piece: usize, from_server: bool| {
            let mut driver = Driver::new(gate);
            match from_server {
                true => {
                    driver.greet();
                    driver.request(1, false, "/a");
                    driver = driver.by(piece);
                    driver.server_bytes(bare);
                }
                false => {
                    driver.server(Kind::Settings, 0, 0, []);
                    driver = driver.by(piece);
                    driver.client_bytes(PREFACE);
                    driver.client_bytes(bare);
                }
            }
            driver
        };
        for from_server in [false, true] {
            let whole = play(usize::MAX, from_server);
            assert!(whole.http.held_bytes() < 256 * 1024, "{} bytes", whole.http.held_bytes());
            let pieces: &[usize] = if seed.len() < 4096 { &[1, 2, 7] } else { &[977] };
            for piece in pieces {
                let cut = play(*piece, from_server);
                assert_eq!(
                    (cut.asked, cut.refused),
                    (whole.asked.clone(), whole.refused.clone()),
                    "by {piece}"
                );
                assert_eq!(cut.to_server, whole.to_server, "by {piece}");
            }
        }
    }
}

#[test]
fn seeds_of_nghttp2_are_read_alike_in_every_piece() {
    seeds("nghttp2-fuzz-corpus/fuzz/corpus").iter().for_each(|seed| check(seed));
}

#[test]
fn seeds_of_go_are_read_alike_in_every_piece() {
    seeds("go-fuzz-corpus/http2/corpus").iter().for_each(|seed| check(seed));
}

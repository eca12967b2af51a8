//! The stories of hpack-test-case: each block decodes as written, survives our encoder, and its status is seen.
//!
//! Looked for in `$BULKHEAD_SUITES`, else in `../shared/suites` beside the workspace; where the suite is not, the
//! test says so and checks nothing.

use bulkhead_inspect::hpack::{Decoder, Fields, HpackError, Watcher, encode, encode_literal, literals};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

type List = Vec<(Vec<u8>, Vec<u8>)>;

struct Block {
    wire: Vec<u8>,
    table: Option<usize>,
    fields: List,
}

#[test]
fn every_story_decodes_as_written_and_survives_our_encoder() {
    let Some(stories) = stories() else { return };
    let mut blocks = 0;
    for (name, story) in &stories {
        let (mut decoder, mut fields) = (Decoder::new(4096), Fields::default());
        for block in story {
            if let Some(table) = block.table {
                decoder.allow(table);
            }
            decoder
                .decode(&block.wire, &mut fields, 1 << 20, 10_000)
                .unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(list(&fields), block.fields, "{name}");
            let mut again = Vec::new();
            encode(&fields, &mut again);
            assert_eq!(plain(&again), block.fields, "{name}: encoded again");
            let read: List = literals(&again).map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            assert_eq!(read, block.fields, "{name}: read where it lies");
            blocks += 1;
        }
    }
    assert!(stories.len() >= 60, "{} stories", stories.len());
    println!("hpack: {} stories, {blocks} blocks", stories.len());
}

#[test]
fn every_story_with_responses_tells_each_status() {
    let Some(stories) = stories() else { return };
    let mut seen = 0;
    for (name, story) in &stories {
        let mut watcher = Watcher::default();
        for block in story {
            let status = watcher.status(&block.wire).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            let written = block.fields.iter().find(|(name, _)| name == b":status");
            let written = written.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
            assert_eq!(status, written, "{name}");
            seen += usize::from(status.is_some());
        }
    }
    assert!(seen > 0, "no story has a response");
    println!("hpack: {seen} statuses");
}

#[test]
fn a_story_cut_anywhere_is_refused_or_shorter_and_never_more() {
    let Some(stories) = stories() else { return };
    for (name, story) in stories.iter().step_by(7) {
        let mut decoder = Decoder::new(4096);
        let Some(block) = story.first() else { continue };
        for end in 0..block.wire.len() {
            let mut fields = Fields::default();
            match Decoder::new(4096).decode(&block.wire[..end], &mut fields, 1 << 20, 10_000) {
                Ok(()) => assert!(block.fields.starts_with(&list(&fields)), "{name} at {end}"),
                Err(error) => {
                    assert!(matches!(error, HpackError::Truncated | HpackError::BadHuffman), "{error:?}")
                }
            }
        }
        decoder.allow(4096);
    }
}

#[test]
fn what_is_marked_never_to_be_indexed_stays_marked() {
    let mut fields = Fields::default();
    let block = [0x10, 6, b's', b'e', b'c', b'r', b'e', b't', 1, b'x', 0x1f, 8, 1, b'y', 0x0f, 8, 1, b'z'];
    Decoder::new(4096).decode(&block, &mut fields, 1000, 10).expect("a sound block");
    let mut again = Vec::new();
    encode(&fields, &mut again);
    assert_eq!(again, block);
}

#[test]
fn fields_of_one_name_become_one_where_they_are_joined() {
    let mut block = Vec::new();
    for (name, value) in [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")] {
        encode_literal(name.as_bytes(), value.as_bytes(), &mut block);
    }
    let mut fields = Fields::default();
    Decoder::new(4096).decode(&block, &mut fields, 1000, 10).expect("a sound block");
    fields.join(b"cookie", b"; ");
    let expected = [("cookie", "a=1; b=2; c=3"), ("x", "y")];
    assert_eq!(list(&fields), expected.map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())));
}

#[test]
fn integers_strings_indexes_and_table_sizes_beyond_their_range_are_refused() {
    for (block, error) in [
        // An index of 127 + 0x7f << 28 and more.
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f][..], HpackError::BadInteger),
        (&[0xff, 0x80, 0x80, 0x80, 0x80, 0x00], HpackError::BadInteger),
        (&[0x3f, 0xff, 0xff, 0xff, 0xff], HpackError::BadInteger),
        (&[0x80], HpackError::BadIndex),
        (&[0xbe], HpackError::BadIndex),
        (&[0x7f, 0x00, 0x01, b'x'], HpackError::BadIndex),
        (&[0x00, 0x05, b'x'], HpackError::Truncated),
        (&[0x00, 0x7f, 0xff, 0xff, 0xff], HpackError::Truncated),
        (&[0x00, 0x81, 0x00, 0x01, b'x'], HpackError::BadHuffman),
        // A size above 4,096, three sizes, a size behind a field.
        (&[0x3f, 0xe2, 0x1f], HpackError::BadTableSize),
        (&[0x20, 0x20, 0x20], HpackError::BadTableSize),
        (&[0x82, 0x20], HpackError::BadTableSize),
    ] {
        let read = Decoder::new(4096).decode(block, &mut Fields::default(), 1000, 10);
        assert_eq!(read, Err(error), "{block:x?}");
    }
}

#[test]
fn a_list_larger_than_its_limits_is_refused_while_it_is_read() {
    let mut bomb = vec![0x40, 1, b'a', 0x7f, 0x81, 0x0f];
    bomb.extend([b'x'; 2048]);
    // Once in the table, each further byte would be 2 KiB.
    bomb.extend([0xbe; 100]);
    let mut fields = Fields::default();
    let read = Decoder::new(4096).decode(&bomb, &mut fields, 16 * 1024, 256);
    assert_eq!(read, Err(HpackError::TooLarge));
    assert!(fields.size() <= 16 * 1024);
    let many = [0x82; 257];
    assert_eq!(Decoder::new(4096).decode(&many, &mut fields, 1 << 20, 256), Err(HpackError::TooLarge));
}

#[test]
fn a_client_has_to_say_that_it_gave_table_back() {
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::default();
    decoder.decode(&[0x40, 1, b'a', 1, b'b'], &mut fields, 1000, 10).expect("sound");
    decoder.allow(0);
    assert_eq!(decoder.decode(&[0xbe], &mut fields, 1000, 10), Err(HpackError::BadTableSize));
    assert_eq!(
        decoder.decode(&[0x20, 0xbe], &mut fields, 1000, 10),
        Err(HpackError::BadIndex),
        "it is empty"
    );
    assert_eq!(decoder.decode(&[0x82], &mut fields, 1000, 10), Ok(()));
}

fn list(fields: &Fields) -> List {
    fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Reads what our encoder writes, by the letter of the RFC and nothing else.
fn plain(mut block: &[u8]) -> List {
    fn integer(block: &mut &[u8], bits: u32) -> usize {
        let mask = (1usize << bits) - 1;
        let mut value = usize::from(block[0]) & mask;
        *block = &block[1..];
        let mut shift = 0;
        while value >= mask {
            let byte = block[0];
            *block = &block[1..];
            value += usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
        value
    }
    fn text(block: &mut &[u8]) -> Vec<u8> {
        assert_eq!(block[0] & 0x80, 0, "no Huffman code");
        let length = integer(block, 7);
        let (text, rest) = block.split_at(length);
        *block = rest;
        text.to_vec()
    }
    let table: Vec<(&str, &str)> = STATIC_TABLE
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once('|').expect("name and value"))
        .collect();
    let mut fields = Vec::new();
    while let Some(first) = block.first() {
        if first & 0x80 != 0 {
            let (name, value) = table[integer(&mut block, 7) - 1];
            fields.push((name.into(), value.into()));
            continue;
        }
        assert_eq!(first & 0xe0, 0, "nothing is put into a table");
        let name = match integer(&mut block, 4) {
            0 => text(&mut block),
            index => table[index - 1].0.into(),
        };
        fields.push((name, text(&mut block)));
    }
    fields
}

fn stories() -> Option<Vec<(String, Vec<Block>)>> {
    let root = std::env::var_os("BULKHEAD_SUITES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/suites"),
        PathBuf::from,
    );
    let root = root.join("hpack-test-case");
    if !root.is_dir() {
        eprintln!("skipped: no suite at {}", root.display());
        return None;
    }
    let mut files: Vec<PathBuf> = ["go-hpack", "nghttp2"]
        .into_iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    Some(files.into_iter().map(|file| (file.display().to_string(), story(&file))).collect())
}

fn story(file: &PathBuf) -> Vec<Block> {
    let text = fs::read_to_string(file).expect("text");
    let story: Value = serde_json::from_str(&text).expect("JSON");
    let cases = story["cases"].as_array().expect("cases");
    cases.iter().map(block).collect()
}

fn block(case: &Value) -> Block {
    let wire = case["wire"].as_str().expect("a wire");
    let byte = |at: usize| u8::from_str_radix(&wire[at * 2..at * 2 + 2], 16).expect("hexadecimal");
    let pair = |field: &Value| {
        let (name, value) = field.as_object().and_then(|pair| pair.iter().next()).expect("a field");
        (name.clone().into_bytes(), value.as_str().expect("text").as_bytes().to_vec())
    };
    Block {
        wire: (0..wire.len() / 2).map(byte).collect(),
        table: case["header_table_size"].as_u64().and_then(|size| usize::try_from(size).ok()),
        fields: case["headers"].as_array().expect("headers").iter().map(pair).collect(),
    }
}

/// RFC 7541 appendix A, written down a second time.
const STATIC_TABLE: &str = "\
:authority|
:method|GET
:method|POST
:path|/
:path|/index.html
:scheme|http
:scheme|https
:status|200
:status|204
:status|206
:status|304
:status|400
:status|404
:status|500
accept-charset|
accept-encoding|gzip, deflate
accept-language|
accept-ranges|
accept|
access-control-allow-origin|
age|
allow|
authorization|
cache-control|
content-disposition|
content-encoding|
content-language|
content-length|
content-location|
content-range|
content-type|
cookie|
date|
etag|
expect|
expires|
from|
host|
if-match|
if-modified-since|
if-none-match|
if-range|
if-unmodified-since|
last-modified|
link|
location|
max-forwards|
proxy-authenticate|
proxy-authorization|
range|
referer|
refresh|
retry-after|
server|
set-cookie|
strict-transport-security|
transfer-encoding|
user-agent|
vary|
via|
www-authenticate|
";

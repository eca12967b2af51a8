//! PostgreSQL.

use super::{Kind, client, long};
use bulkhead_facts::PostgresStatement;
use bulkhead_policies::model::{L7Section, PostgresMatch};

pub(super) fn kind() -> Kind {
    let message = |kind: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).expect("a length").to_be_bytes();
        [&[kind], length.as_slice(), body].concat()
    };
    let begin = b"\0\0\0\x13\0\x03\0\0user\0apps\0\0";
    let read = PostgresMatch { statements: vec![PostgresStatement::Select], ..PostgresMatch::default() };
    let query = |text: &str| message(b'Q', format!("{text}\0").as_bytes());
    let named = |number: usize| format!("{number:x}\0");
    let parse =
        |number: usize, text: &str| message(b'P', format!("{}{text}\0\0\0", named(number)).as_bytes());
    let many = |text: &str, times: usize| query(&format!("select {}", text.repeat(times)));
    Kind {
        protocol: "PostgreSQL",
        section: L7Section::Postgres(vec![read]),
        greeting: b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I".to_vec(),
        answer,
        ordinary: client("ordinary", long(begin, |_| query("select id, name from orders where id = 7"))),
        hostile: vec![
            client("denied statements", long(begin, |_| query("drop a"))),
            client("texts of nothing", long(begin, |_| query(""))),
            client("prepared statements of nothing", long(begin, |number| parse(number, ""))),
            client("one prepared again and again", long(begin, |_| parse(0, ""))),
            client("statements given up", long(begin, |_| message(b'C', b"Sa\0"))),
            client("flushes", long(begin, |_| message(b'H', b""))),
            client("executions", long(begin, |_| message(b'E', b"\0\0\0\0\0"))),
            client("a statement of words", long(begin, |_| many("a ", 20_000))),
            client("a statement of one quote", long(begin, |_| many("''", 20_000))),
            client("a statement of dollars", long(begin, |_| many("$", 40_000))),
            client("a statement of parts with", long(begin, |_| many("with a as (select ", 2_000))),
            client("a statement of lines", long(begin, |_| many("''--\n", 8_000))),
            client("empty statements", long(begin, |_| query(";"))),
            client("prepared statements", long(begin, |number| parse(number, "select"))),
            client("denied ones", long(begin, |number| [parse(number, "drop"), message(b'S', b"")].concat())),
            client(
                "portals",
                long(begin, |number| message(b'B', format!("{}\0\0\0\0\0\0\0", named(number)).as_bytes())),
            ),
            client("syncs", long(begin, |_| message(b'S', b""))),
            client("a statement of many parts", long(begin, |_| many("1;", 400))),
            client("a statement of parentheses", long(begin, |_| many("(", 800))),
            client("a statement of comments", long(begin, |_| many("/*", 400))),
            client("a statement of quotes", long(begin, |_| many("$a$", 267))),
            client("parameters of a session", {
                let names: String = (0..2_000).map(|number| format!("{number:x}\0\0")).collect();
                let body = format!("user\0a\0{names}\0");
                let length = u32::try_from(body.len() + 8).expect("short").to_be_bytes();
                [length.as_slice(), &[0, 3, 0, 0], body.as_bytes()].concat()
            }),
        ],
    }
}

fn answer(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    if pending.first() == Some(&0) {
        let length = pending.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
        pending.drain(..pending.len().min(usize::try_from(length).expect("short")));
    }
    while let Some(&[kind, a, b, c, d]) = pending.first_chunk() {
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("short") + 1;
        if pending.len() < length {
            return;
        }
        pending.drain(..length);
        match kind {
            b'Q' => out.extend(b"C\0\0\0\x06a\0Z\0\0\0\x05I"),
            b'P' => out.extend(b"1\0\0\0\x04"),
            b'B' => out.extend(b"2\0\0\0\x04"),
            b'S' => out.extend(b"Z\0\0\0\x05I"),
            _ => {}
        }
    }
}

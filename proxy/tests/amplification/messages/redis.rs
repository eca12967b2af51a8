//! Redis.

use super::{Kind, client, letters, long};
use bulkhead_policies::model::{L7Section, RedisMatch};

pub(super) fn kind() -> Kind {
    let section = RedisMatch {
        commands: ["get", "del", "select", "multi", "exec"].map(str::to_owned).to_vec(),
        ..RedisMatch::default()
    };
    let text = |begin: &str, again: &str| long(begin.as_bytes(), |_| again.as_bytes().to_vec());
    let each = |line: fn(&str) -> String| long(&[], |number| line(&letters(number)).into_bytes());
    Kind {
        protocol: "Redis",
        section: L7Section::Redis(vec![section]),
        greeting: Vec::new(),
        answer,
        ordinary: client("ordinary", text("", "*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n")),
        hostile: vec![
            client("lines of other keys", each(|name| format!("GET {name}:1\r\n"))),
            client(
                "lines of other databases",
                long(&[], |number| format!("SELECT {}\r\n", number % 10).into_bytes()),
            ),
            client("lines of nothing", text("", "\r\n")),
            client("lines of nothing behind a command", text("GET a\r\n", "\r\n")),
            client("commands of nothing", text("", "*0\r\n")),
            client("transactions", text("", "MULTI\r\nGET a\r\nEXEC\r\n")),
            client("transactions of which a part is denied", text("", "MULTI\r\nX\r\nEXEC\r\n")),
            client("other denied lines", each(|name| format!("{name}\r\n"))),
            client("denied commands", text("", "*1\r\n$8\r\nFLUSHALL\r\n")),
            client("denied lines", text("", "X\r\n")),
            client("lines", text("", "GET a\r\n")),
            client("a command of many keys", text("*9999\r\n$3\r\nDEL\r\n", "$1\r\na\r\n")),
            client("a command of empty keys", text("*9999\r\n$3\r\nDEL\r\n", "$0\r\n\r\n")),
            client("a line that never ends", text("GET ", "a")),
            client("a line of many words", text("DEL ", "a ")),
            client("a denied command of many arguments", text("*9999\r\n$4\r\nEVAL\r\n", "$1\r\n1\r\n")),
        ],
    }
}

fn answer(pending: &mut Vec<u8>, out: &mut Vec<u8>) {
    for _ in pending.windows(3).filter(|name| *name == b"GET" || *name == b"DEL") {
        out.extend(b"+OK\r\n");
    }
    pending.clear();
}

//! PostgreSQL: sessions and statements are judged before anything of them leaves; what is denied fails in its turn.

#[path = "support/gate.rs"]
mod gate;
#[path = "support/postgres.rs"]
mod messages;

use bulkhead_facts::{PostgresStatement as Class, Reason};
use bulkhead_inspect::{Conversation, Protocol, Question, Step, Subject};
use gate::{End, Outcome, World, run, run_all_splits};
use messages::*;

const WORLD: World =
    World { expected: Some(Protocol::Postgres), allow: readers, answer: server, opaque: false };

/// `app` at `shop`, who reads, inserts, and holds transactions.
fn readers(question: &Question<'_>) -> bool {
    let Subject::Postgres(message) = &question.subject else { return false };
    let allowed = [Class::Select, Class::Insert, Class::Transaction, Class::Session, Class::Copy];
    message.user == "app"
        && message.database == "shop"
        && message.classes.iter().all(|class| allowed.contains(class))
}

const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What a server says after it has received so much: enough of one to check order and transactions.
fn server(received: &[u8]) -> Vec<u8> {
    answers(received, b'N')
}

fn answers(mut received: &[u8], encryption: u8) -> Vec<u8> {
    let mut out = Vec::new();
    if received.starts_with(&SSL) {
        out.push(encryption);
        received = &received[SSL.len()..];
    }
    let Some(length) = received.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) else {
        return out;
    };
    if received.len() < length {
        return out;
    }
    received = &received[length..];
    let mut status = b'I';
    out.extend([message(b'R', &[0; 4]), message(b'S', b"a\0b\0"), message(b'Z', &[status])].concat());
    let mut skips = false;
    while let Some(length) =
        received.get(1..5).map(|length| u32::from_be_bytes(length.try_into().expect("four bytes")) as usize)
    {
        let Some(body) = received.get(5..=length) else { break };
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        let fails = text.contains("denied by") || text.contains("nonsense");
        let error = message(b'E', b"SERROR\0C42601\0Msyntax error\0\0");
        match received[0] {
            b'Q' => {
                if fails {
                    status = if status == b'I' { b'I' } else { b'E' };
                    out.extend(error);
                } else {
                    status = if text.contains("begin") { b'T' } else { status };
                    status = if text.contains("commit") { b'I' } else { status };
                    out.extend(message(b'C', b"OK\0"));
                }
                out.extend(message(b'Z', &[status]));
            }
            b'S' => {
                skips = false;
                out.extend(message(b'Z', &[status]));
            }
            _ if skips => {}
            b'P' if fails => {
                skips = true;
                out.extend(error);
            }
            b'P' => out.extend(message(b'1', b"")),
            b'B' => out.extend(message(b'2', b"")),
            b'D' => out.extend(message(b'T', &[0, 0])),
            b'C' => out.extend(message(b'3', b"")),
            b'E' => out.extend([message(b'D', &[0, 0]), message(b'C', b"OK\0")].concat()),
            _ => {}
        }
        received = &received[length + 1..];
    }
    out
}

/// Types of the messages that a client got, errors with their code, states with their letter.
fn told(outcome: &Outcome) -> String {
    let mut bytes = outcome.to_client.as_slice();
    let mut out = String::new();
    while let Some(length) =
        bytes.get(1..5).map(|length| u32::from_be_bytes(length.try_into().expect("four bytes")) as usize)
    {
        let Some(body) = bytes.get(5..=length) else { break };
        match bytes[0] {
            b'Z' => out.push_str(&format!("Z{} ", char::from(body[0]))),
            b'E' => {
                let text = String::from_utf8_lossy(body).into_owned();
                let code =
                    text.split('\0').find_map(|field| field.strip_prefix('C')).unwrap_or("?").to_owned();
                out.push_str(&format!("E{code} "));
            }
            kind => out.push(char::from(kind)),
        }
        bytes = &bytes[length + 1..];
    }
    assert!(bytes.is_empty(), "half a message: {}", bytes.escape_ascii());
    out
}

fn check(messages: &[Vec<u8>], asked: &[&str], expected: &str) -> Outcome {
    let outcome = run_all_splits(WORLD, &[app(), messages.concat()].concat());
    assert_eq!(outcome.asked[0], "app@shop []");
    assert_eq!(outcome.asked[1..], asked.iter().map(|line| format!("app@shop [{line}]")).collect::<Vec<_>>());
    assert_eq!(told(&outcome), format!("RSZI {expected}"));
    outcome
}

fn has(outcome: &Outcome, text: &str) -> bool {
    String::from_utf8_lossy(&outcome.to_server).to_ascii_lowercase().contains(text)
}

#[test]
fn allowed_sessions_and_statements_pass_unchanged() {
    let messages = [
        query("select 1"),
        parse("a", "insert into b values ($1)"),
        bind("", "a"),
        describe(""),
        execute(""),
        sync(),
        message(b'X', b""),
    ];
    let outcome = check(&messages, &["select", "insert", "insert"], "CZI 12TDCZI ");
    assert_eq!(outcome.to_server, [app(), messages.concat()].concat());
}

#[test]
fn another_user_or_database_is_refused_and_the_server_hears_nothing() {
    for parameters in [
        [("user", "admin"), ("database", "shop")],
        [("user", "app"), ("database", "hr")],
        [("user", "app"), ("application_name", "shop")],
    ] {
        let outcome = run_all_splits(WORLD, &[startup(&parameters), query("select 1")].concat());
        assert_eq!(
            (outcome.to_server.len(), told(&outcome).as_str(), outcome.end),
            (0, "E42501 ", End::Told)
        );
    }
}

#[test]
fn a_denied_statement_fails_in_its_turn_and_the_connection_goes_on() {
    let messages = [query("select 1"), query("delete from a"), query("select 2")];
    let outcome = check(&messages, &["select", "delete", "select"], "CZI E42501 ZI CZI ");
    assert!(!has(&outcome, "delete"));
}

#[test]
fn a_denied_statement_breaks_its_transaction() {
    let messages = [query("begin"), query("drop table a"), query("commit")];
    let outcome = check(&messages, &["transaction", "define", "transaction"], "CZT E42501 ZE CZI ");
    assert!(!has(&outcome, "drop"));
}

#[test]
fn one_denied_statement_among_several_denies_the_message() {
    let messages =
        [query("select 1; delete from a"), query("with d as (delete from a returning *) select * from d")];
    let outcome = check(&messages, &["select delete", "delete"], "E42501 ZI E42501 ZI ");
    assert!(!has(&outcome, "delete"));
}

#[test]
fn a_denied_preparation_fails_and_what_follows_is_skipped_until_the_sync() {
    let messages = [
        parse("", "select 1"),
        bind("", ""),
        execute(""),
        parse("x", "delete from a"),
        bind("", "x"),
        execute(""),
        sync(),
        query("select 2"),
    ];
    let outcome = check(&messages, &["select", "select", "delete", "select"], "12DCE42501 ZI CZI ");
    assert!(!has(&outcome, "delete"));
    assert_eq!(outcome.to_server.iter().filter(|byte| **byte == b'B').count(), 1);
}

#[test]
fn the_servers_own_error_comes_first_where_it_was_first() {
    let messages = [parse("", "select nonsense"), parse("x", "delete from a"), bind("", "x"), sync()];
    check(&messages, &["select", "delete"], "E42601 ZI ");
}

#[test]
fn what_is_executed_is_judged_again_by_what_was_prepared() {
    let outcome = check(&[bind("", "never"), execute(""), sync()], &["other"], "2E42501 ZI ");
    assert!(!outcome.to_server.contains(&b'E'));
    let messages = [query("prepare x as delete from a"), query("execute x")];
    check(&messages, &["delete", "other"], "E42501 ZI E42501 ZI ");
    let messages = [query("prepare x as select 1"), query("execute x")];
    check(&messages, &["select", "select"], "CZI CZI ");
    // One that the server took under a name is what is executed.
    let messages = [
        parse("x", "select 1"),
        sync(),
        parse("x", "insert into a values (1)"),
        bind("", "x"),
        execute(""),
        sync(),
    ];
    check(&messages, &["select", "insert", "insert"], "1ZI 12DCZI ");
}

#[test]
fn functions_are_called_only_where_calls_are_allowed() {
    let messages = [message(b'F', &[0; 40]), query("select 1")];
    check(&messages, &["call", "select"], "E42501 ZI CZI ");
}

#[test]
fn copies_with_the_client_pass_and_files_and_programs_of_the_server_do_not() {
    let data = [message(b'd', b"1\n"), message(b'c', b"")].concat();
    let outcome = check(&[query("copy a from stdin"), data], &["copy"], "CZI ");
    assert!(has(&outcome, "copy a from stdin"));
    let outcome = check(&[query("copy a from program 'id'")], &["copy other"], "E42501 ZI ");
    assert!(!has(&outcome, "program"));
}

#[test]
fn a_server_that_declines_encryption_is_spoken_to_in_clear_and_judged() {
    let first = run_all_splits(WORLD, &SSL);
    assert_eq!((first.to_client.as_slice(), first.end), (&b"N"[..], End::Open));
    let mut gate = gate::Gate::new(WORLD, 3);
    gate.client(&SSL);
    gate.client(&startup(&[("user", "admin")]));
    assert_eq!((gate.outcome.to_server.as_slice(), gate.outcome.end), (&SSL[..], End::Told));
}

#[test]
fn a_server_that_agrees_to_encryption_cannot_be_read_and_the_client_is_told() {
    let world = World { answer: |received| answers(received, b'S'), ..WORLD };
    let outcome = run(world, &SSL, 8);
    assert_eq!((told(&outcome).as_str(), outcome.end), ("E42501 ", End::Told));
    assert_eq!(run(World { opaque: true, ..world }, &SSL, 8).end, End::Opaque);
}

#[test]
fn cve_2021_23214_cve_2021_23222_cve_2021_3935() {
    for answer in [b'S', b'N'] {
        let _ = answer;
        let silent = World { answer: |_| Vec::new(), ..WORLD };
        let outcome = run(silent, &[SSL.as_slice(), &app(), &query("select 1")].concat(), 9);
        assert_eq!((outcome.to_server.as_slice(), outcome.asked.len()), (&SSL[..], 0));
        assert_eq!(outcome.end, End::Told);
    }
}

/// A length that wraps in 32 bits, and every other one that a message cannot have.
#[test]
fn cve_2024_27304() {
    for length in [0u32, 3, 0x4000_0000, u32::MAX, 0x8000_0004] {
        for kind in [b'B', b'Q', b'd'] {
            let hostile = [&[kind], length.to_be_bytes().as_slice(), b"\0\0delete from a\0"].concat();
            let outcome = run(WORLD, &[app(), hostile].concat(), 11);
            assert!(!has(&outcome, "delete"), "{kind} {length}");
            assert_eq!(outcome.end, End::Told, "{kind} {length}");
        }
    }
}

/// An error without a code or text, and one that is cut short.
#[test]
fn cve_2026_6666() {
    let odd = |received: &[u8]| if received.is_empty() { Vec::new() } else { message(b'E', b"\0") };
    let outcome = run_all_splits(World { answer: odd, ..WORLD }, &app());
    assert_eq!((outcome.to_client, outcome.end), (message(b'E', b"\0"), End::Open));
}

/// Rows that are shorter than they say, and answers that nothing asked for.
#[test]
fn rustsec_2026_0178_rustsec_2026_0179_rustsec_2026_0180() {
    fn row(received: &[u8]) -> Vec<u8> {
        let mut out = answers(received, b'N');
        if received.len() > app().len() {
            out.extend(message(b'D', &[0, 9]));
        }
        out
    }
    let outcome = run(World { answer: row, ..WORLD }, &[app(), query("select 1")].concat(), 1_000);
    assert_eq!(outcome.end, End::Reset(Reason::Malformed), "a row after the end of its query");
    let short = |received: &[u8]| if received.is_empty() { Vec::new() } else { vec![b'D', 0, 0, 0, 3] };
    assert_eq!(run(World { answer: short, ..WORLD }, &app(), 1_000).end, End::Reset(Reason::Malformed));
}

#[test]
fn first_messages_that_servers_could_read_differently_are_refused() {
    let long = "a".repeat(64);
    for first in [
        startup(&[("user", "app"), ("user", "admin"), ("database", "shop")]),
        startup(&[("user", "app"), ("database", "shop"), ("database", "hr")]),
        startup(&[("user", ""), ("database", "shop")]),
        startup(&[("database", "shop")]),
        startup(&[("user", &long), ("database", "shop")]),
        [&[0, 0, 0, 9], 0x0003_0000u32.to_be_bytes().as_slice(), b"x"].concat(),
        [&[0, 0, 0, 9], 0x0002_0000u32.to_be_bytes().as_slice(), b"\0"].concat(),
        [&[0, 0, 39, 17], 0x0003_0000u32.to_be_bytes().as_slice()].concat(),
    ] {
        let outcome = run_all_splits(WORLD, &first);
        assert_eq!((outcome.asked.len(), outcome.to_server.len()), (0, 0), "{}", first.escape_ascii());
        assert_eq!(outcome.end, End::Told, "{}", first.escape_ascii());
    }
}

/// What a server says that tells the encoding of texts: at the beginning, and where it is ready after it was set.
fn telling(received: &[u8]) -> Vec<u8> {
    let setting = |name: &str| message(b'S', format!("client_encoding\0{name}\0").as_bytes());
    let mut out = answers(received, b'N');
    let has = |text: &[u8]| received.windows(text.len()).any(|window| window == text);
    if out.is_empty() {
        return out;
    }
    let places: Vec<usize> = (0..out.len()).filter(|at| out[*at..].starts_with(b"Z\0\0\0\x05")).collect();
    for (number, at) in places.into_iter().enumerate().rev() {
        match number {
            0 => drop(out.splice(at..at, setting("UTF8"))),
            1 if has(b"SJIS") => drop(out.splice(at..at, setting("SJIS"))),
            _ => {}
        }
    }
    out
}

#[test]
fn what_reads_otherwise_in_another_encoding_is_told_only_where_the_server_has_told_it() {
    let text = "select größé[1] from a";
    let asked = |world: World, messages: &[Vec<u8>]| -> Vec<String> {
        let asked = run_all_splits(world, &[app(), messages.concat()].concat()).asked;
        asked[1..].iter().map(|line| line.trim_start_matches("app@shop ").to_owned()).collect()
    };
    let told = World { answer: telling, ..WORLD };
    assert_eq!(asked(told, &[query(text), query(text)]), ["[select]", "[select]"]);
    assert_eq!(asked(WORLD, &[query(text)]), ["[other]"], "nobody has told");
    // In another one from here on, and whatever is set after that: the end of a transaction may bring it back.
    let set = query("set client_encoding to 'SJIS'");
    let back = query("set client_encoding to 'UTF8'");
    assert_eq!(asked(told, &[set.clone(), back, query(text)]), ["[session]", "[session]", "[other]"]);
    // The server tells what was set once it is ready.
    let in_parts =
        [parse("", "set client_encoding to 'SJIS'"), bind("", ""), execute(""), message(b'H', b"")];
    let first = [in_parts.concat(), parse("x", text), sync()];
    assert_eq!(asked(told, &first), ["[session]", "[session]", "[other]"]);
}

#[test]
fn replication_is_none_of_the_classes() {
    let replica = startup(&[("user", "app"), ("database", "shop"), ("replication", "true")]);
    let outcome = run_all_splits(WORLD, &replica);
    assert_eq!((outcome.asked, outcome.to_server.len()), (vec!["app@shop [other]".to_owned()], 0));
}

#[test]
fn a_cancellation_is_judged_without_a_user() {
    let cancel = [&[0, 0, 0, 16, 4, 210, 22, 46], [7; 8].as_slice()].concat();
    let outcome = run_all_splits(WORLD, &cancel);
    assert_eq!((outcome.asked, outcome.to_server.len()), (vec!["@ []".to_owned()], 0));
    let anyone = World { allow: |_| true, ..WORLD };
    assert_eq!(run_all_splits(anyone, &cancel).to_server, cancel);
}

#[test]
fn messages_that_no_client_sends_end_the_connection() {
    for hostile in [
        message(b'z', b""),
        message(b'Q', b"select 1"),
        message(b'Q', b"select 1\0; delete from a\0"),
        message(b'P', b"a\0select 1\0"),
        message(b'S', b"x"),
        message(b'D', b"Xa\0"),
        parse(&"n".repeat(64), "select 1"),
    ] {
        let outcome = run_all_splits(WORLD, &[app(), hostile.clone()].concat());
        assert_eq!((outcome.to_server, outcome.end), (app(), End::Told), "{}", hostile.escape_ascii());
    }
}

#[test]
fn a_password_belongs_to_the_beginning() {
    let mut gate = gate::Gate::new(WORLD, 1_000);
    gate.client(&app());
    gate.client(&message(b'p', b"secret\0"));
    assert_eq!((gate.outcome.to_server, gate.outcome.end), (app(), End::Told));
}

#[test]
fn of_too_many_prepared_statements_those_not_used_for_longest_are_forgotten() {
    let mut conversation = Conversation::expecting(Some(Protocol::Postgres));
    let ready = message(b'Z', b"I");
    talk(&mut conversation, &app(), &[message(b'R', &[0; 4]), ready.clone()].concat());
    let answer = [message(b'1', b""), message(b'2', b""), ready.clone()].concat();
    for number in 0..=2 * bulkhead_inspect::limits::POSTGRES_NAMED_MAX {
        let text = [parse(&number.to_string(), "select 1"), bind("", "0"), sync()].concat();
        assert_eq!(talk(&mut conversation, &text, &answer), None, "{number}");
    }
    let last = (2 * bulkhead_inspect::limits::POSTGRES_NAMED_MAX).to_string();
    for (name, known) in [("0", true), (last.as_str(), true), ("1", false)] {
        let text = [bind("", name), execute("")].concat();
        let mut text = text.as_slice();
        let asked = loop {
            match conversation.client(text) {
                Step::Forward(count) => text = &text[count..],
                Step::Ask(question) => break gate::describe(&question),
                step => panic!("{step:?}"),
            }
        };
        assert_eq!(asked == "app@shop [select]", known, "{name}: {asked}");
        conversation.allow();
        let answer = [message(b'2', b""), message(b'C', b"OK\0"), ready.clone()].concat();
        talk(&mut conversation, &[text, &sync()].concat(), &answer);
    }
}

/// Lets everything pass; why it was refused, if it was.
fn talk(conversation: &mut Conversation, mut client: &[u8], mut server: &[u8]) -> Option<Reason> {
    loop {
        match conversation.client(client) {
            Step::Ask(_) => conversation.allow(),
            Step::Forward(count) => client = &client[count..],
            Step::Refuse(refusal) => return Some(refusal.reason),
            _ => break,
        }
    }
    while let Step::Forward(count) = conversation.server(server) {
        server = &server[count..];
    }
    assert_eq!((client, server), (&[][..], &[][..]), "everything has passed");
    None
}

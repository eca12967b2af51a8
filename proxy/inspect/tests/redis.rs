//! Redis: what a denied command tries never reaches the server, refusals come in their turn, and what passes is unchanged.

#[path = "support/gate.rs"]
mod gate;

use bulkhead_facts::Reason;
use bulkhead_inspect::{Protocol, Question, Subject};
use gate::{End, Outcome, World, run, run_all_splits};

const REFUSED: &str = "-NOPERM denied by test\r\n";

const WORLD: World = World { expected: Some(Protocol::Redis), allow: harmless, answer: ok, opaque: false };

/// Everything but some commands, and but keys that begin with `no`.
fn harmless(question: &Question<'_>) -> bool {
    let Subject::Redis(command) = &question.subject else { return false };
    let name = command.name.to_ascii_lowercase();
    !["flushall", "config", "eval", "shutdown"].contains(&name.as_str())
        && command.keys.iter().all(|key| !key.starts_with(b"no"))
}

/// `+OK` for each command that is complete.
fn ok(received: &[u8]) -> Vec<u8> {
    "+OK\r\n".repeat(commands(received).len()).into_bytes()
}

/// The commands in what a server received.
fn commands(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((words, rest)) = command(bytes) {
        found.push(words.join(" "));
        bytes = rest;
    }
    found
}

fn command(bytes: &[u8]) -> Option<(Vec<String>, &[u8])> {
    let line = |bytes: &'_ [u8]| bytes.windows(2).position(|two| two == b"\r\n");
    if bytes.first() != Some(&b'*') {
        let end = line(bytes)?;
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        return Some((text.split_ascii_whitespace().map(str::to_owned).collect(), &bytes[end + 2..]));
    }
    let end = line(bytes)?;
    let count: usize = std::str::from_utf8(&bytes[1..end]).expect("a sound test").parse().expect("a number");
    let mut rest = &bytes[end + 2..];
    let mut words = Vec::new();
    for _ in 0..count {
        let end = line(rest)?;
        let size: usize =
            std::str::from_utf8(&rest[1..end]).expect("a sound test").parse().expect("a number");
        words.push(String::from_utf8_lossy(rest.get(end + 2..end + 2 + size)?).into_owned());
        rest = rest.get(end + 4 + size..)?;
    }
    Some((words, rest))
}

/// Commands as clients send them.
fn array(lines: &[&str]) -> Vec<u8> {
    let one = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        let parts: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{parts}", words.len())
    };
    lines.iter().map(one).collect::<String>().into_bytes()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What was asked, what the server got, and what the client got.
fn check(lines: &[&str], asked: &[&str], received: &[&str], answers: &str) -> Outcome {
    let outcome = run_all_splits(WORLD, &array(lines));
    assert_eq!(outcome.asked, asked, "{lines:?}");
    assert_eq!(commands(&outcome.to_server), received, "{lines:?}");
    assert_eq!(text(&outcome.to_client), answers, "{lines:?}");
    outcome
}

#[test]
fn commands_keys_and_database_are_asked_about_and_allowed_ones_pass_unchanged() {
    let lines = ["SET a 1", "mget a b", "PING", "ZUNIONSTORE d 2 a b"];
    let asked = ["set [a] 0", "mget [a b] 0", "ping [] 0", "zunionstore [a b d] 0"];
    let outcome = check(&lines, &asked, &lines, "+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
    assert_eq!((outcome.to_server, outcome.end), (array(&lines), End::Open));
}

#[test]
fn a_refusal_comes_in_its_turn_and_the_connection_goes_on() {
    check(
        &["SET a 1", "FLUSHALL", "GET a", "GET no", "PING"],
        &["set [a] 0", "flushall [] ?", "get [a] 0", "get [no] 0", "ping [] 0"],
        &["SET a 1", "GET a", "PING"],
        &format!("+OK\r\n{REFUSED}+OK\r\n{REFUSED}+OK\r\n"),
    );
}

#[test]
fn a_denied_command_with_a_large_value_is_dropped_whole() {
    let value = "x".repeat(100);
    let input = array(&[&format!("SET no {value}"), "FLUSHALL", "SET a 2"]);
    let outcome = run_all_splits(WORLD, &input);
    assert_eq!(commands(&outcome.to_server), ["SET a 2"]);
    assert_eq!(text(&outcome.to_client), format!("{REFUSED}{REFUSED}+OK\r\n"));
}

/// Nothing of a value is held: the command is asked about when its key is there.
#[test]
fn a_value_passes_while_it_comes() {
    let outcome = run(WORLD, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000000\r\nxxxx", 7);
    assert_eq!(outcome.asked, ["set [a] 0"]);
    assert!(outcome.to_server.ends_with(b"$9000000\r\nxxxx"), "{}", text(&outcome.to_server));
}

#[test]
fn the_database_is_followed_and_unknown_where_it_cannot_be() {
    check(
        &["SELECT 3", "GET a", "MOVE a 4", "COPY a b DB 2", "COPY a b", "SWAPDB 0 1"],
        &["select [] 0", "get [a] 3", "move [a] ?", "copy [a b] ?", "copy [a b] 3", "swapdb [] ?"],
        &["SELECT 3", "GET a", "MOVE a 4", "COPY a b DB 2", "COPY a b", "SWAPDB 0 1"],
        &"+OK\r\n".repeat(6),
    );
    check(
        &["MULTI", "SELECT 3", "GET a", "EXEC", "GET a", "SELECT 0", "GET a"],
        &["multi [] 0", "select [] 0", "get [a] ?", "exec [] ?", "get [a] ?", "select [] ?", "get [a] 0"],
        &["MULTI", "SELECT 3", "GET a", "EXEC", "GET a", "SELECT 0", "GET a"],
        &"+OK\r\n".repeat(7),
    );
}

#[test]
fn where_replies_cannot_be_told_apart_the_database_is_unknown() {
    let asked = |lines: &[&str]| run_all_splits(WORLD, &array(lines)).asked.pop().expect("a question");
    // Each channel is confirmed for itself, so a later reply is not the one to the `SELECT`.
    assert_eq!(asked(&["SUBSCRIBE a b", "UNSUBSCRIBE", "SELECT 5", "GET x"]), "get [x] ?");
    assert_eq!(asked(&["SUBSCRIBE a", "CLIENT REPLY ON", "SELECT 5", "GET x"]), "get [x] ?");
    // In a transaction it is answered like everything that is queued.
    assert_eq!(asked(&["MULTI", "CLIENT REPLY SKIP", "DISCARD", "SELECT 5", "GET x"]), "get [x] ?");
}

#[test]
fn a_command_with_too_many_arguments_does_nothing_but_is_answered() {
    let asked = |lines: &[&str]| run_all_splits(WORLD, &array(lines)).asked.pop().expect("a question");
    assert_eq!(asked(&["CLIENT REPLY SKIP x", "PING", "SELECT 5", "GET x"]), "get [x] 5");
    assert_eq!(asked(&["MULTI", "DISCARD x", "SELECT 5", "GET x"]), "get [x] ?", "it is still open");
    assert_eq!(asked(&["MULTI", "EXEC x", "SELECT 5", "GET x"]), "get [x] ?", "it is still open");
    assert_eq!(asked(&["MULTI x", "SELECT 5", "GET x"]), "get [x] 5", "it was never begun");
}

#[test]
fn a_database_that_the_server_refuses_is_not_selected() {
    let refuses =
        |received: &[u8]| "-ERR DB index is out of range\r\n".repeat(commands(received).len()).into();
    let world = World { answer: refuses, ..WORLD };
    let outcome = run_all_splits(world, &array(&["SELECT 99", "GET a"]));
    assert_eq!(outcome.asked, ["select [] 0", "get [a] 0"]);
    // An `EXEC` that the server refuses leaves the transaction open: a queued `SELECT` selects nothing yet.
    let queued = |received: &[u8]| "+QUEUED\r\n".repeat(commands(received).len()).into();
    let outcome = run_all_splits(World { answer: queued, ..WORLD }, &array(&["SELECT 5", "GET a"]));
    assert_eq!(outcome.asked, ["select [] 0", "get [a] 0"]);
}

#[test]
fn a_transaction_with_a_denied_command_is_not_executed() {
    let outcome = check(
        &["MULTI", "SET a 1", "FLUSHALL", "EXEC", "GET a"],
        &["multi [] 0", "set [a] 0", "flushall [] ?", "exec [] 0", "get [a] 0"],
        &["MULTI", "SET a 1", "DISCARD", "GET a"],
        &format!(
            "+OK\r\n+OK\r\n{REFUSED}-EXECABORT Transaction discarded because of previous errors.\r\n+OK\r\n"
        ),
    );
    assert_eq!(outcome.end, End::Open);
}

/// Redis cross-protocol: requests of HTTP, commands in lines, in transactions and in scripts.
#[test]
fn cve_2016_10517() {
    for request in
        ["POST / HTTP/1.1\r\nHost: a\r\n\r\nFLUSHALL\r\n", "POST x\r\nFLUSHALL\r\n", "post\r\nFLUSHALL\r\n"]
    {
        let outcome = run_all_splits(WORLD, request.as_bytes());
        assert_eq!(outcome.to_server.len(), 0, "{request:?}: {outcome:?}");
        assert!(!text(&outcome.to_client).contains("+OK"), "{request:?}");
    }
    for line in ["FLUSHALL\r\n", "flushall\n", " FLUSHALL \r\n", "PING\r\nFLUSHALL\r\n"] {
        let outcome = run(WORLD, line.as_bytes(), 3);
        assert!(!text(&outcome.to_server).to_ascii_lowercase().contains("flushall"), "{line:?}");
        assert!(text(&outcome.to_client).contains("-NOPERM") || outcome.end != End::Open, "{line:?}");
    }
    check(&["EVAL redis.call('flushall') 0"], &["eval [] ?"], &[], REFUSED);
}

#[test]
fn what_servers_guess_or_skip_is_refused() {
    for input in [
        "*1\r\n$4\r\nPINGxx",
        "*1\r\n$04\r\nPING\r\n",
        "*1\r\n$+4\r\nPING\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*01\r\n$4\r\nPING\r\n",
        "*1\n$4\nPING\n",
        "*1\r\n:4\r\n",
        "*1\r\n$0\r\n\r\n",
        "*1\r\n$99999999999\r\n",
        "*1\r\n$5\r\nGE\r\nT\r\n",
        "GET \"a b\"\r\n",
        "GET 'a'\r\n",
        "GET a\\x41\r\n",
        "GET\ta\r\n",
        "GET a\rFLUSHALL\r\n",
        "   \r\n",
    ] {
        let outcome = run_all_splits(WORLD, input.as_bytes());
        assert_eq!((outcome.asked.len(), outcome.to_server.len()), (0, 0), "{input:?}: {outcome:?}");
        assert_ne!(outcome.end, End::Open, "{input:?}");
    }
    let outcome = run_all_splits(WORLD, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nbFLUSHALL\r\n");
    assert_eq!(outcome.end, End::Reset(Reason::Malformed), "a value that goes on behind its end");
}

/// `redis-cli --pipe` ends what it was given with one, and asks for an echo.
#[test]
fn an_empty_line_before_a_command_is_left_out_and_what_follows_is_judged() {
    let ping = "*1\r\n$4\r\nPING\r\n";
    let outcome = run_all_splits(WORLD, format!("GET a\r\n\r\n{ping}\r\n\r\nPING\r\n\r\n").as_bytes());
    assert_eq!(text(&outcome.to_server), format!("GET a\r\n{ping}PING\r\n"));
    assert_eq!((outcome.asked.len(), outcome.end), (3, End::Open), "{outcome:?}");
    let outcome = run_all_splits(WORLD, b"PING\r\n\r\nFLUSHALL\r\n");
    assert_eq!((text(&outcome.to_server), outcome.asked.len()), ("PING\r\n".to_owned(), 2));
}

#[test]
fn replies_of_every_kind_are_followed() {
    const REPLIES: [&str; 14] = [
        "+OK\r\n",
        "-ERR x\r\n",
        ":1\r\n",
        "$3\r\na\r\n\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n*1\r\n$1\r\na\r\n:1\r\n",
        "%1\r\n+a\r\n~2\r\n:1\r\n:2\r\n",
        "_\r\n",
        "=5\r\ntxt:a\r\n",
        "|1\r\n+ttl\r\n:1\r\n$1\r\na\r\n",
        ">2\r\n+a\r\n:1\r\n+OK\r\n",
        "*1\r\n|1\r\n+a\r\n+b\r\n:7\r\n",
    ];
    fn answer(received: &[u8]) -> Vec<u8> {
        REPLIES.iter().take(commands(received).len()).flat_map(|reply| reply.bytes()).collect()
    }
    let world = World { answer, ..WORLD };
    for cut in 0..=REPLIES.len() {
        let mut lines = vec!["GET a"; cut];
        lines.push("FLUSHALL");
        let outcome = run(world, &array(&lines), 5);
        let expected = format!("{}{REFUSED}", REPLIES[..cut].concat());
        assert_eq!((text(&outcome.to_client), outcome.end), (expected, End::Open), "{cut}");
    }
}

#[test]
fn a_reply_that_nobody_asked_for_does_not_become_the_answer_to_another_command() {
    let twice = |received: &[u8]| "+OK\r\n+OK\r\n".repeat(commands(received).len()).into();
    let outcome = run(World { answer: twice, ..WORLD }, &array(&["GET a"]), 100);
    assert_eq!((text(&outcome.to_client), outcome.end), ("+OK\r\n".into(), End::Reset(Reason::Malformed)));
    let broken = |received: &[u8]| "$x\r\n".repeat(commands(received).len()).into();
    let outcome = run(World { answer: broken, ..WORLD }, &array(&["GET a"]), 100);
    assert_eq!(outcome.end, End::Reset(Reason::Malformed));
}

#[test]
fn after_a_subscription_messages_pass_and_a_denial_ends_the_connection() {
    fn answer(received: &[u8]) -> Vec<u8> {
        let subscribed =
            "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n";
        if commands(received).is_empty() { Vec::new() } else { subscribed.into() }
    }
    let world = World { answer, ..WORLD };
    let outcome = run_all_splits(world, &array(&["SUBSCRIBE c", "FLUSHALL", "GET a"]));
    assert_eq!(commands(&outcome.to_server), ["SUBSCRIBE c"]);
    assert!(text(&outcome.to_client).ends_with(REFUSED), "{}", text(&outcome.to_client));
    assert_eq!(outcome.end, End::Told);
}

#[test]
fn commands_without_answers_are_not_waited_for() {
    fn answer(received: &[u8]) -> Vec<u8> {
        let commands = commands(received);
        let answered = commands.iter().filter(|line| !line.contains("SKIP") && !line.contains("SILENT"));
        "+OK\r\n".repeat(answered.count()).into()
    }
    let outcome = run_all_splits(
        World { answer, ..WORLD },
        &array(&["CLIENT REPLY SKIP", "SET SILENT 1", "GET a", "FLUSHALL"]),
    );
    assert_eq!(text(&outcome.to_client), format!("+OK\r\n{REFUSED}"));
}

#[test]
fn replication_is_a_stream_once_it_was_allowed() {
    let outcome = run(WORLD, &array(&["PSYNC ? -1"]), 100);
    assert_eq!((outcome.asked, outcome.end), (vec!["psync [] 0".to_owned()], End::Opaque));
}

#[test]
fn a_pipeline_that_is_never_answered_does_not_grow_without_bound() {
    let silent = World { answer: |_| Vec::new(), ..WORLD };
    let line = array(&["PING"]);
    let outcome = run(silent, &line.repeat(10_000), 1 << 20);
    assert_eq!(outcome.asked.len(), bulkhead_inspect::limits::REDIS_OUTSTANDING_MAX);
}

/// How many commands are over after each answer of the server.
fn completed(lines: &[&str]) -> Vec<usize> {
    let mut gate = gate::Gate::new(World { answer: |_| Vec::new(), ..WORLD }, 4096);
    let count = |gate: &mut gate::Gate| {
        std::iter::from_fn(|| gate.conversation.take_progress().completed.then_some(())).count()
    };
    lines.iter().for_each(|line| gate.client(&array(&[line])));
    assert_eq!(count(&mut gate), 0, "nothing was answered");
    let mut found = Vec::new();
    while gate.conversation.outstanding() > 0 {
        let mut answer = &b"+QUEUED\r\n"[..];
        while let bulkhead_inspect::Step::Forward(some) = gate.conversation.server(answer) {
            answer = &answer[some..];
        }
        found.push(count(&mut gate));
    }
    found
}

#[test]
fn a_command_within_a_transaction_is_over_when_that_is() {
    assert_eq!(completed(&["GET a", "SET a 1"]), [1, 1]);
    assert_eq!(completed(&["MULTI", "GET a", "SELECT 1", "EXEC", "GET a"]), [1, 0, 0, 3, 1]);
    assert_eq!(completed(&["MULTI", "GET a", "DISCARD"]), [1, 0, 2]);
    assert_eq!(completed(&["MULTI", "GET a", "RESET", "MULTI", "EXEC"]), [1, 0, 2, 1, 1]);
}

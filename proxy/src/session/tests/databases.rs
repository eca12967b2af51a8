//! Real servers and clients of Redis and PostgreSQL, with a session between them.
//!
//! What is not installed is named and counted as skipped; `deploy/tools.sh lab` installs it.

use super::programs::free_address;
use super::*;
use bulkhead_facts::PostgresStatement;
use bulkhead_policies::model::{PostgresMatch, RedisMatch};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server program on loopback, and its folder.
struct Server {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // In order, so that PostgreSQL leaves no shared memory behind. It may have ended by itself.
        let _ =
            Command::new("kill").args(["-INT", &self.child.id().to_string()]).stderr(Stdio::null()).status();
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if std::time::Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
    // What a run before left behind.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("permissions");
    folder
}

/// A program by name, where it is installed.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let of_versions = versions.map(|version| version.path().join("bin"));
    let mut folders =
        path.split(':').map(PathBuf::from).chain([PathBuf::from("/usr/sbin")]).chain(of_versions);
    let found = folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()));
    if found.is_none() {
        println!("skipped: `{name}` is not installed; run deploy/tools.sh lab");
    }
    found
}

async fn started(mut command: Command, address: SocketAddr, folder: PathBuf) -> Server {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    let server = Server { child, address, folder };
    for _ in 0..600 {
        if TcpStream::connect(address).await.is_ok() {
            return server;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the program does not listen on {address}");
}

async fn redis() -> Option<Server> {
    let (program, folder, address) = (installed("redis-server")?, folder("redis"), free_address().await);
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--save", "", "--dir"]).arg(&folder);
    command.args(["--port", &address.port().to_string()]);
    Some(started(command, address, folder).await)
}

/// PostgreSQL refuses to run as root.
fn as_nobody(mut command: Command) -> Command {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if is_root {
        command.uid(65_534).gid(65_534);
    }
    command
}

async fn postgres(name: &str) -> Option<Server> {
    let (program, prepare) = (installed("postgres")?, installed("initdb")?);
    let (folder, address) = (folder(name), free_address().await);
    let data = folder.join("data");
    let mut command = as_nobody(Command::new(prepare));
    command.args(["--no-sync", "-U", "postgres", "-A", "trust", "-D"]).arg(&data).current_dir(&folder);
    let prepared = command.output().expect("initdb starts");
    assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
    let mut command = as_nobody(Command::new(program));
    command.arg("-D").arg(&data).arg("-k").arg(&folder).current_dir(&folder);
    command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    command.args(["-p", &address.port().to_string()]);
    Some(started(command, address, folder).await)
}

/// A gate that lets through what the section names.
pub(super) fn gated(destination: SocketAddr, direction: Direction, section: L7Section) -> Lab {
    let lab = Lab::new(Hold::Gate, direction, destination);
    let mut program = program(Hold::Gate, direction);
    program.l7_chains[0].enforced[0].entries[0].section = Some(section);
    let judge = Arc::new(Judge::new(program).expect("a valid program"));
    let current = Current { judge, ..(*current(Hold::Gate, direction)).clone() };
    lab.policy.send_replace(Arc::new(current));
    lab
}

/// Where sessions to `destination` begin, under such a gate.
async fn between(
    destination: SocketAddr,
    direction: Direction,
    section: L7Section,
) -> (SocketAddr, Arc<Recorder>) {
    let lab = gated(destination, direction, section);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, recorder) = (listener.local_addr().expect("an address"), Arc::clone(&lab.recorder));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let (shared, ends) = (lab.shared(), Ends { client: peer, destination });
            let dial = To(destination);
            tokio::spawn(async move { serve(direction, stream, ends, shared, &dial).await });
        }
    });
    (address, recorder)
}

/// Runs a client to its end; what it printed.
async fn client(program: &Path, arguments: &[&str], input: &str) -> String {
    let (program, arguments) =
        (program.to_owned(), arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let input = input.to_owned();
    let run = move || {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client starts");
        io::Write::write_all(&mut child.stdin.take().expect("an input"), input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    timeout(PATIENCE * 3, tokio::task::spawn_blocking(run)).await.expect("in time").expect("no panic")
}

fn commands(names: &[&str], prefix: Option<&str>) -> RedisMatch {
    RedisMatch {
        commands: names.iter().map(|name| (*name).to_owned()).collect(),
        key_prefix: prefix.map(str::to_owned),
        databases: Vec::new(),
    }
}

#[tokio::test]
async fn redis_serves_what_is_allowed_and_never_hears_of_the_rest() {
    let (Some(server), Some(cli)) = (redis().await, installed("redis-cli")) else { return };
    let section = L7Section::Redis(vec![
        commands(&["get", "set", "incr", "mget"], Some("app:")),
        commands(&["ping", "hello", "client", "multi", "exec", "command"], None),
    ]);
    let direct = server.address.port().to_string();
    assert_eq!(client(&cli, &["-p", &direct, "SET", "secret", "kept"], "").await.trim(), "OK");
    for direction in [Direction::Ingress, Direction::Egress] {
        let (address, _) = between(server.address, direction, section.clone()).await;
        let port = address.port().to_string();
        assert_eq!(client(&cli, &["-p", &port, "SET", "app:a", "1"], "").await.trim(), "OK");
        let refused = client(&cli, &["-p", &port, "GET", "secret"], "").await;
        assert!(refused.contains("NOPERM denied by bulkhead: l7_mismatch (report "), "{refused}");
        assert!(!refused.contains("kept"), "{refused}");
        // The pod's own app is told what to change, a peer is not.
        assert_eq!(refused.contains("add {commands: [get]}"), direction == Direction::Egress, "{refused}");
        for protocol in ["-2", "-3"] {
            let lines =
                "SET app:a 41\nFLUSHALL\nINCR app:a\nEVAL \"return redis.call('flushall')\" 0\nGET app:a\n";
            let said = client(&cli, &[protocol, "-p", &port], lines).await;
            let said: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
            assert_eq!((said.len(), said[0], said[2], said[4]), (5, "OK", "42", "42"), "{said:?}");
            assert!(said[1].contains("NOPERM") && said[3].contains("NOPERM"), "{said:?}");
        }
        let said = client(&cli, &["-p", &port], "MULTI\nSET app:b 1\nFLUSHALL\nEXEC\nGET app:b\n").await;
        assert!(said.contains("EXECABORT"), "{said}");
        assert!(said.ends_with("\n\n"), "nothing was set: {said:?}");
    }
    assert_eq!(client(&cli, &["-p", &direct, "GET", "secret"], "").await.trim(), "kept");
}

#[tokio::test]
async fn a_pipeline_to_redis_is_answered_in_order() {
    let Some(server) = redis().await else { return };
    let section = L7Section::Redis(vec![commands(&["incr"], Some("app:"))]);
    let (address, recorder) = between(server.address, Direction::Ingress, section).await;
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sent, mut expected) = (Vec::new(), String::new());
    for number in 1..=500 {
        sent.extend(b"*2\r\n$4\r\nINCR\r\n$5\r\napp:n\r\n");
        expected.push_str(&format!(":{number}\r\n"));
        if number % 100 == 0 {
            sent.extend(b"*1\r\n$8\r\nFLUSHALL\r\n");
            expected.push_str("-NOPERM\r\n");
        }
    }
    let (mut read, mut write) = stream.split();
    let sending = async {
        write.write_all(&sent).await.expect("it is read");
        write.shutdown().await.expect("an end");
    };
    let mut answered = Vec::new();
    let reading = read.read_to_end(&mut answered);
    let (_, read) = timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.expect("in time");
    read.expect("an orderly end");
    let answered = String::from_utf8(answered).expect("text");
    let shortened: String =
        answered.lines().map(|line| format!("{}\r\n", line.split(' ').next().unwrap_or_default())).collect();
    assert_eq!(shortened, expected);
    recorder.make_batch();
    let flows = recorder.next_batch().map(|batch| batch.flows).unwrap_or_default();
    let counted = |effect| {
        flows.iter().filter(|flow| flow.enforced.effect == effect).map(|flow| flow.count).sum::<u64>()
    };
    assert_eq!((counted(Effect::Allow), counted(Effect::Deny)), (500, 5), "{:?}", lines(&flows));
    assert!(flows.iter().all(|flow| flow.application == "redis"));
}

#[tokio::test]
async fn postgres_serves_what_is_allowed_and_never_hears_of_the_rest() {
    let (Some(server), Some(psql)) = (postgres("postgres").await, installed("psql")) else { return };
    let direct = server.address.port().to_string();
    let connect = |port: &str, user: &str| format!("host=127.0.0.1 port={port} user={user} dbname=postgres");
    let own = connect(&direct, "postgres");
    let made = "create table t (n int); insert into t values (1), (2); create role other login";
    client(&psql, &["-Xqc", made, &own], "").await;
    let statements = vec![
        PostgresStatement::Select,
        PostgresStatement::Insert,
        PostgresStatement::Copy,
        PostgresStatement::Transaction,
    ];
    let section = L7Section::Postgres(vec![PostgresMatch {
        users: vec!["postgres".to_owned()],
        databases: Vec::new(),
        statements,
    }]);
    let (address, _) = between(server.address, Direction::Ingress, section).await;
    let port = address.port().to_string();
    let through = connect(&port, "postgres");
    let said = client(&psql, &["-XtAc", "select 40 + 2", &through], "").await;
    assert_eq!(said.trim(), "42");
    let refused = client(&psql, &["-XtAc", "select 1", &connect(&port, "other")], "").await;
    assert!(refused.contains("FATAL:  denied by bulkhead: l7_mismatch (report "), "{refused}");
    // One session: what is denied fails, what follows works.
    let said = client(
        &psql,
        &["-XtA", &through],
        "select 'a';\ndelete from t;\ntruncate t;\nselect count(*) from t;\n",
    )
    .await;
    assert!(said.starts_with("a\n2\n"), "{said}");
    assert_eq!(said.matches("ERROR:  denied by bulkhead").count(), 2, "{said}");
    // A transaction with a denied statement is rolled back, as with any other error.
    let said =
        client(&psql, &["-XA", &through], "begin;\ninsert into t values (3);\ndelete from t;\ncommit;\n")
            .await;
    assert!(said.contains("ROLLBACK"), "{said}");
    let said =
        client(&psql, &["-XtA", &through], "copy t from stdin;\n4\n5\n\\.\nselect count(*) from t;\n").await;
    assert_eq!(said.lines().last(), Some("4"), "{said}");
    let said = client(&psql, &["-XtAc", "copy t to program 'touch /tmp/never'", &through], "").await;
    assert!(said.contains("denied by bulkhead"), "{said}");
    extended(&port).await;
    assert_eq!(client(&psql, &["-XtAc", "select count(*) from t", &own], "").await.trim(), "4");
}

/// The extended protocol, as pgbench speaks it.
async fn extended(port: &str) {
    let Some(pgbench) = installed("pgbench") else { return };
    let folder = folder("pgbench");
    for (mode, script, fine) in [
        ("extended", "select count(*) from t;\n", true),
        ("prepared", "\\startpipeline\nselect 1;\nselect 2;\n\\endpipeline\n", true),
        ("prepared", "delete from t;\n", false),
    ] {
        let file = folder.join("script.sql");
        fs::write(&file, script).expect("a file");
        let file = file.display().to_string();
        let said = client(
            &pgbench,
            &[
                "-n",
                "-h",
                "127.0.0.1",
                "-p",
                port,
                "-U",
                "postgres",
                "-M",
                mode,
                "-f",
                &file,
                "-t",
                "20",
                "postgres",
            ],
            "",
        )
        .await;
        assert_eq!(said.contains("number of transactions actually processed: 20/20"), fine, "{mode}: {said}");
        assert_eq!(said.contains("denied by bulkhead"), !fine, "{mode}: {said}");
    }
    fs::remove_dir_all(folder).expect("a folder");
}

/// What a real server skips behind an error, and what it keeps, decides what is executed.
#[tokio::test]
async fn postgres_executes_nothing_under_a_name_that_the_policy_allows_no_more() {
    let (Some(server), Some(psql)) = (postgres("postgres-names").await, installed("psql")) else { return };
    let port = server.address.port().to_string();
    let own = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    client(&psql, &["-Xqc", "create table t (n int); insert into t values (1), (2)", &own], "").await;
    let section = |statements: &[PostgresStatement]| {
        let statements = statements.to_vec();
        L7Section::Postgres(vec![PostgresMatch { statements, ..PostgresMatch::default() }])
    };
    use PostgresStatement::{Delete, Select, Session, Transaction};
    let narrow = gated(server.address, Direction::Ingress, section(&[Select, Session, Transaction]));
    let narrow = narrow.policy.borrow().clone();
    let message = |kind: char, body: &str| {
        let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
        [&[u8::try_from(kind).expect("ASCII")], length.as_slice(), body.as_bytes()].concat()
    };
    let parse = |name: &str, text: &str| message('P', &format!("{name}\0{text}\0\0\0"));
    let bind = |portal: &str, name: &str| message('B', &format!("{portal}\0{name}\0\0\0\0\0\0\0"));
    let execute = |portal: &str| message('E', &format!("{portal}\0\0\0\0\0"));
    let query = |text: &str| message('Q', &format!("{text}\0"));
    let sync = || message('S', "");
    // What is said before the policy narrows, after it, and how often the server is ready then.
    let talks = [
        (
            vec![parse("", "delete from t"), sync()],
            vec![bind("", "never"), parse("", "select 1"), sync()],
            "",
        ),
        (
            vec![parse("x", "delete from t"), sync()],
            vec![bind("", "never"), message('C', "Sx\0"), parse("x", "select 1"), sync()],
            "x",
        ),
        (vec![parse("x", "delete from t"), sync()], vec![parse("x", "select 1"), sync()], "x"),
        (
            vec![parse("x", "select 1"), sync(), query("deallocate x"), query("prepare x as delete from t")],
            vec![],
            "x",
        ),
    ];
    for (before, after, name) in talks {
        let lab = gated(server.address, Direction::Ingress, section(&[Delete, Select, Session, Transaction]));
        let mut client = lab.connect().await;
        client.send(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0").await;
        said(&mut client, b"Z\0\0\0\x05I").await;
        for message in before {
            let ready = matches!(message[0], b'Q' | b'S');
            client.send(message).await;
            if ready {
                said(&mut client, b"Z\0\0\0\x05I").await;
            }
        }
        lab.policy.send_replace(Arc::clone(&narrow));
        let used = [after.concat(), bind("", name), execute(""), sync(), query("select 'last'")].concat();
        client.send(used).await;
        let told = said(&mut client, b"last").await;
        assert!(told.contains("denied by bulkhead"), "{told}");
        client.finish().await;
    }
    // What the server took is executed.
    let lab = gated(server.address, Direction::Ingress, section(&[Select, Session, Transaction]));
    let mut client = lab.connect().await;
    client.send(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0").await;
    said(&mut client, b"Z\0\0\0\x05I").await;
    let named = [parse("y", "select 'taken'"), sync(), bind("", "y"), execute(""), sync()];
    client.send(named.concat()).await;
    said(&mut client, b"taken").await;
    client.finish().await;
    // In Shift JIS, `\x95[` is one character of a name.
    let begin = b"\0\0\0\x2c\0\x03\0\0user\0postgres\0client_encoding\0SJIS\0\0";
    for text in [
        b"select $\x95[$ ' $\x95[$; delete from t; --'\0".as_slice(),
        b"select 1 as \x95[$x$; delete from t; select 1 as \x95[$x$\0",
    ] {
        let lab = gated(server.address, Direction::Ingress, section(&[Select, Session, Transaction]));
        let mut client = lab.connect().await;
        client.send(begin).await;
        said(&mut client, b"Z\0\0\0\x05I").await;
        let length = u32::try_from(text.len() + 4).expect("short").to_be_bytes();
        client.send([b"Q".as_slice(), &length, text, &query("select 'last'")].concat()).await;
        let told = said(&mut client, b"last").await;
        assert!(told.contains("denied by bulkhead"), "{told}");
        client.finish().await;
    }
    assert_eq!(self::client(&psql, &["-XtAc", "select count(*) from t", &own], "").await.trim(), "2");
}

/// What a server says until it says this.
async fn said(client: &mut Client, end: &[u8]) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let byte = client.read(1).await;
        assert!(!byte.is_empty(), "ended: {}", bytes.escape_ascii());
        bytes.extend(byte);
    }
    bytes.escape_ascii().to_string()
}

/// CVE-2026-25949: what a client says first does not take its deadline away.
#[tokio::test(start_paused = true)]
async fn a_question_for_encryption_and_then_silence_ends_on_time() {
    const QUESTION: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let origin = origin::raw(|mut stream, seen| async move {
        let mut question = [0; 8];
        if stream.read_exact(&mut question).await.is_ok() {
            seen.push(&question);
            stream.write_all(b"N").await.expect("it is read");
            std::future::pending::<()>().await;
        }
    })
    .await;
    let section = L7Section::Postgres(vec![PostgresMatch::default()]);
    let lab = gated(origin.address, Direction::Ingress, section);
    let mut client = lab.connect().await;
    client.send(QUESTION).await;
    assert_eq!(client.read(1).await, b"N");
    let start = tokio::time::Instant::now();
    assert_eq!(client.stream.read(&mut [0; 1]).await.ok(), Some(0), "closed in order");
    let after = start.elapsed();
    assert!(after < crate::session::limits::HEAD_TIMEOUT * 3, "{after:?}");
    client.finish().await;
}

/// Bytes that begin a protocol, and what its clients are told where only requests of HTTP may pass.
const OTHERS: [(&str, &[u8], &[u8]); 6] = [
    ("redis", b"*1\r\n$8\r\nFLUSHALL\r\n", b"-NOPERM denied by bulkhead: protocol_mismatch"),
    ("postgres", b"\0\0\0\x08\x04\xd2\x16\x2f", b"E"),
    ("postgres", b"\0\0\0\x10\0\x03\0\0user\0a\0\0", b"E"),
    ("tls", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"\x15\x03\x03\0\x02\x02\x31"),
    ("kafka", b"\0\0\0\x1e\0\x12\0\x03\0\0\0\x01\0\x04ruby", b""),
    ("memcached", b"get key\r\n", b""),
];

#[tokio::test]
async fn a_protocol_that_no_rule_names_is_refused_in_its_own_words_and_nothing_of_it_leaves() {
    let origin = origin::raw(|mut stream, seen| async move {
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            seen.push(&bytes[..count]);
        }
    })
    .await;
    for (name, sent, told) in OTHERS {
        for direction in [Direction::Ingress, Direction::Egress] {
            let lab = Lab::new(Hold::Gate, direction, origin.address);
            let mut client = lab.connect().await;
            client.send(sent).await;
            let mut answer = Vec::new();
            // It ends in order where there is a word for it, else by a reset.
            let end = timeout(PATIENCE, client.stream.read_to_end(&mut answer)).await.expect("in time");
            assert!(answer.starts_with(told), "{name}: {}", answer.escape_ascii());
            assert!(end.is_ok() || told.is_empty(), "{name}: {end:?}");
            client.finish().await;
            assert_eq!(lines(&lab.flows()), [format!("{name} deny/deny protocol_mismatch x1")]);
        }
    }
    assert_eq!(origin.seen.text(), "");
}

#[tokio::test]
async fn a_transaction_of_redis_that_holds_what_is_not_allowed_any_more_is_not_carried_out() {
    let origin = origin::raw(|mut stream, seen| async move {
        let mut bytes = [0; 256];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            seen.push(&bytes[..count]);
            let _ = stream.write_all(b"+QUEUED\r\n").await;
        }
    })
    .await;
    let section = L7Section::Redis(vec![commands(&["multi", "get", "exec"], None)]);
    let narrow = gated(origin.address, Direction::Ingress, section).policy.borrow().clone();
    for (queued, stays) in [("GET a", true), ("FLUSHALL", false)] {
        let lab = Lab::inbound(Hold::Observe, origin.address);
        let mut client = lab.connect().await;
        for line in ["MULTI", queued] {
            let words: Vec<&str> = line.split(' ').collect();
            let arguments = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
            client.send(format!("*{}\r\n{}", words.len(), arguments.collect::<String>())).await;
            client.read_until("+QUEUED\r\n").await;
        }
        lab.policy.send_replace(Arc::clone(&narrow));
        if stays {
            client.send("*1\r\n$4\r\nEXEC\r\n").await;
            client.read_until("+QUEUED\r\n").await;
            lab.change(Hold::Closed);
        }
        assert!(!client.read_to_end().await.1, "{queued}: reset");
        client.finish().await;
        let told = lines(&lab.flows());
        assert_eq!(told.iter().any(|line| line.contains("deny/deny l7_mismatch")), !stays, "{told:?}");
    }
    assert_eq!(origin.seen.text().matches("EXEC").count(), 1, "{}", origin.seen.text());
}

/// A GOAWAY whose text is a command, behind the greeting of HTTP/2.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x0c\x04\0\0\0\0\0AAAAAA\0\x04\0\0\xff\xff\
    \0\0\x13\x07\0\0\0\0\0\0\0\0\0\0\0\0\0\r\nflush_all\r\n";

#[tokio::test]
async fn http2_is_refused_where_no_rule_names_http_and_its_greeting_does_not_leave() {
    let origin = origin::raw(|mut stream, seen| async move {
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            seen.push(&bytes[..count]);
        }
    })
    .await;
    let sections = [
        L7Section::Redis(vec![commands(&["get"], None)]),
        L7Section::Postgres(vec![PostgresMatch::default()]),
        L7Section::Tls(bulkhead_policies::model::TlsMatch::default()),
    ];
    for section in sections {
        for direction in [Direction::Ingress, Direction::Egress] {
            let lab = gated(origin.address, direction, section.clone());
            let mut client = lab.connect().await;
            client.send(GREETING).await;
            let (told, orderly) = client.read_to_end().await;
            assert!(orderly && told.contains("denied by bulkhead: protocol_mismatch (report "), "{told:?}");
            client.finish().await;
            assert_eq!(lines(&lab.flows()), ["http/2 deny/deny protocol_mismatch x1"]);
        }
    }
    assert_eq!(origin.seen.text(), "");
    // Where one does, nothing that a client chose leaves before the server has answered in HTTP/2.
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut client = lab.connect().await;
    client.send(GREETING).await;
    let settings = b"\0\0\x0c\x04\0\0\0\0\0\0\x04\0\0\xff\xff\0\x02\0\0\0\0";
    origin.seen.has(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), settings].concat()).await;
    tokio::time::pause();
    client.shut().await;
    // It ends on time, although the server says nothing.
    timeout(PATIENCE * 4, client.session).await.expect("the session ends").expect("no panic");
    assert!(!origin.seen.text().contains("flush_all"), "{:?}", origin.seen.text());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_its_server_to_speak_is_reported_when_it_is_dropped() {
    let origin = origin::http().await;
    let lab = Lab::inbound(Hold::Gate, origin.address);
    let mut silent = lab.connect().await;
    assert_eq!(silent.stream.read(&mut [0; 1]).await.ok(), Some(0), "closed in order");
    silent.finish().await;
    assert_eq!(lines(&lab.flows()), [" deny/deny protocol_mismatch x1"]);
    assert_eq!(origin.seen.connections(), 0);
}

/// Nobody waits for the first byte of a client where its server may speak first.
#[tokio::test]
async fn a_server_that_speaks_first_is_reached_at_once_where_any_protocol_may_pass() {
    let origin = origin::raw(|mut stream, _| async move {
        stream.write_all(b"J\0\0\0\n8.0.36\0").await.expect("it is read");
        // Until the client is gone.
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    for hold in [Hold::Open, Hold::Observe, Hold::Audit] {
        let lab = Lab::inbound(hold, origin.address);
        let mut client = lab.connect().await;
        assert_eq!(client.read(12).await, b"J\0\0\0\n8.0.36\0", "{hold:?}");
        client.finish().await;
        assert!(lines(&lab.flows())[0].starts_with("mysql allow"), "{hold:?}: {:?}", lines(&lab.flows()));
    }
}

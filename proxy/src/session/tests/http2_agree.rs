//! What is released of a client's bytes, and whether h2 reads from it no more than was asked about and allowed.
//!
//! Also the body of the fuzz target `http2`.

use bulkhead_inspect::{Conversation, Notice, Protocol, Question, Side, Step, Target};
use std::cell::RefCell;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const NOTICE: Notice<'static> = Notice { status: 403, json: "{}", line: "denied" };

/// Checks one conversation: the same however it is cut, read alike by h2, and under the tee without a panic.
pub(crate) fn check(cut: u8, client: &[u8], server: &[u8]) -> Outcome {
    let mut bytes = PREFACE.to_vec();
    bytes.extend_from_slice(SETTINGS);
    bytes.extend_from_slice(client.strip_prefix(PREFACE).unwrap_or(client));
    let whole = play(true, &bytes, SETTINGS, bytes.len());
    assert_eq!(play(true, &bytes, SETTINGS, usize::from(cut % 23) + 1), whole, "cut differently");
    agree(&whole);
    let mut answers = SETTINGS.to_vec();
    answers.extend_from_slice(server);
    for gate in [true, false] {
        play(gate, &bytes, &answers, usize::from(cut) + 1);
    }
    whole
}

/// What became of a client's bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) allowed: Vec<String>,
    pub(crate) denied: usize,
    pub(crate) refused: Option<&'static str>,
    released: Vec<u8>,
}

/// Shows what both sides say; paths below `/no` are denied.
fn play(gate: bool, client: &[u8], server: &[u8], piece: usize) -> Outcome {
    let mut conversation = Conversation::expecting([Protocol::Http1]);
    conversation.hold(gate, 0);
    let mut outcome = Outcome::default();
    let (mut pending, mut answers) = (Vec::new(), Vec::new());
    // Once there is a connection the server's settings come first, so that it does not depend on the pieces what they answer.
    let (preface, rest) = client.split_at(PREFACE.len());
    let (settings, said) = server.split_at(SETTINGS.len().min(server.len()));
    let mut pieces = std::iter::once(preface).chain(rest.chunks(piece));
    let mut said = std::iter::once(settings).chain(said.chunks(piece));
    loop {
        let (more, said) = (pieces.next(), said.next());
        pending.extend_from_slice(more.unwrap_or_default());
        if !drive_client(&mut conversation, &mut pending, gate, &mut outcome) {
            return outcome;
        }
        answers.extend_from_slice(said.unwrap_or_default());
        if conversation.is_inspected() && !drive_server(&mut conversation, &mut answers) {
            return outcome;
        }
        if more.is_none() && said.is_none() {
            return outcome;
        }
    }
}

fn drive_client(
    conversation: &mut Conversation,
    pending: &mut Vec<u8>,
    gate: bool,
    outcome: &mut Outcome,
) -> bool {
    loop {
        match conversation.client(pending) {
            Step::NeedMore => return true,
            Step::Forward(count) => outcome.released.extend(pending.drain(..count)),
            Step::Discard(count) => {
                assert!(gate, "nothing is dropped under the tee");
                pending.drain(..count);
            }
            Step::Ask(question) => {
                assert!(question.keep().question().is_some(), "what was asked can be asked again");
                let line = describe(&question);
                let allow = !gate || !line.contains(" /no");
                drop(question);
                match allow {
                    true => {
                        outcome.allowed.push(line);
                        conversation.allow();
                    }
                    false => {
                        outcome.denied += 1;
                        assert!(conversation.deny(&NOTICE));
                    }
                }
            }
            Step::Opaque => return false,
            Step::Refuse(refusal) => {
                match gate {
                    true => assert!(conversation.reject(&refusal, &NOTICE)),
                    false if conversation.survives() => conversation.allow(),
                    false => return false,
                }
                if !conversation.survives() {
                    outcome.refused = Some(refusal.detail);
                    // What was to be said before that, in whatever step that was.
                    outcome.released.extend_from_slice(conversation.insertion(Side::Server));
                    return false;
                }
            }
        }
        outcome.released.extend_from_slice(conversation.insertion(Side::Server));
        conversation.inserted(Side::Server);
        while !conversation.insertion(Side::Client).is_empty() {
            conversation.inserted(Side::Client);
        }
    }
}

fn drive_server(conversation: &mut Conversation, answers: &mut Vec<u8>) -> bool {
    loop {
        match conversation.server(answers) {
            Step::NeedMore => return true,
            Step::Forward(count) | Step::Discard(count) => drop(answers.drain(..count)),
            Step::Ask(_) | Step::Opaque | Step::Refuse(_) => return false,
        }
        while !conversation.insertion(Side::Client).is_empty() {
            conversation.inserted(Side::Client);
        }
    }
}

/// A request as h2 would tell it.
pub(crate) fn describe(question: &Question<'_>) -> String {
    let Some(head) = question.http() else { return String::new() };
    let path = match &head.target {
        Target::Path(path, _) => path.raw(),
        Target::Ambiguous(path, _) => path,
        Target::Asterisk => "*",
        Target::Authority(_) => "tunnel",
    };
    format!("{} {path}", head.method)
}

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().build().expect("a runtime"));
}

/// Everything that h2 reads from what was released was asked about and allowed, in the same order.
fn agree(outcome: &Outcome) {
    let read = reads(&outcome.released);
    let mut allowed = outcome.allowed.iter();
    for request in &read {
        assert!(allowed.any(|line| line == request), "h2 reads {read:?}, we allowed {:?}", outcome.allowed);
    }
}

/// The requests that h2 reads from a client's bytes.
pub(crate) fn reads(bytes: &[u8]) -> Vec<String> {
    RUNTIME.with_borrow(|runtime| runtime.block_on(requests(bytes)))
}

async fn requests(bytes: &[u8]) -> Vec<String> {
    let (client, server) = tokio::io::duplex(1 << 20);
    let (mut from_server, mut to_server) = tokio::io::split(client);
    let mut read = Vec::new();
    let talk = async {
        let _ = to_server.write_all(bytes).await;
        let _ = to_server.shutdown().await;
        let mut sink = Vec::new();
        let _ = from_server.read_to_end(&mut sink).await;
    };
    let serve = async {
        let mut builder = h2::server::Builder::new();
        builder.enable_connect_protocol();
        let Ok(mut connection) = builder.handshake::<_, bytes::Bytes>(server).await else { return };
        let mut kept = Vec::new();
        while let Some(Ok((request, respond))) = connection.accept().await {
            let websocket =
                request.extensions().get::<h2::ext::Protocol>().is_some_and(|p| p.as_str() == "websocket");
            let path = match request.uri().path() {
                _ if request.method() == "CONNECT" && !websocket => "tunnel",
                path => path,
            };
            let method = if websocket { "GET" } else { request.method().as_str() };
            read.push(format!("{method} {path}"));
            kept.push((request, respond));
        }
    };
    tokio::join!(talk, serve);
    read
}

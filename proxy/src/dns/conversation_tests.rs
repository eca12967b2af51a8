//! Conversations without sockets: bytes in, steps out, however they are cut.

use super::conversation::{Conversation, Step};
use super::exchange::{QuestionJudge, random_identifier};
use super::stream_tests::{SERVER, program};
use super::verdict::Way;
use crate::flows::Recorder;
use crate::metrics::Metrics;
use crate::policy::Current;
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_policies::program::{Action, AnswerId, L7ChainId};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Questions pass, what is none does not.
const JUDGED: Action = Action::Inspect { chain: L7ChainId(1), opaque: AnswerId(0) };
const OPEN: Action = Action::Answer(AnswerId(1));

struct Talk {
    judge: QuestionJudge,
    current: Arc<Current>,
    conversation: Conversation,
}

impl Talk {
    fn under(action: Action) -> Self {
        let way = Way {
            direction: Direction::Egress,
            peer: SERVER.into(),
            local: Ipv4Addr::new(10, 0, 0, 1).into(),
            protocol: L4Protocol::TCP,
            port: 53,
            endpoint: None,
        };
        let recorder = Arc::new(Recorder::new(Arc::new(Metrics::new().expect("metrics"))));
        let judge = QuestionJudge { recorder, internal: Arc::new([]), identifier: random_identifier };
        Self { judge, current: program(1, action), conversation: Conversation::new(way) }
    }

    /// What comes of it, in a line for each step.
    fn client(&mut self, bytes: &[u8]) -> Vec<String> {
        self.conversation.client().extend_from_slice(bytes);
        self.steps()
    }

    fn server(&mut self, bytes: &[u8]) -> Vec<String> {
        self.conversation.server().extend_from_slice(bytes);
        self.steps()
    }

    fn steps(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut step = self.conversation.answer(&self.judge, &self.current);
            if let Step::Wait = step {
                step = self.conversation.question(&self.judge, &self.current);
            }
            lines.push(match step {
                Step::Wait => return lines,
                Step::Tunnel => "tunnel".to_owned(),
                Step::Reset => "reset".to_owned(),
                Step::Admit(answered) => panic!("{answered:?}"),
                // The identifier towards the server is chosen at random.
                Step::ToServer(bytes) => format!("asks {}", bytes[4..].escape_ascii()),
                Step::ToClient(bytes) => format!("tells {} {}", bytes[3], bytes[5] & 15),
            });
            if matches!(lines.last().map(String::as_str), Some("tunnel" | "reset")) {
                return lines;
            }
        }
    }
}

fn question(id: u8) -> Vec<u8> {
    framed(&[&[0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\x04test\0\0\x10\0\x01"].concat())
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).expect("short").to_be_bytes()[..], message].concat()
}

#[test]
fn what_comes_of_a_connection_does_not_depend_on_how_it_is_cut() {
    let with = |at: usize, byte: u8| {
        let mut message = question(9);
        message[at] = byte;
        message
    };
    let long = framed(&[&question(8)[2..], &[0; 5_000][..]].concat());
    for (what, last) in [
        ("a question", question(2)),
        ("an update", with(4, 0x28)),
        ("an answer", with(4, 0x80)),
        ("two questions", with(7, 2)),
        ("a name in a circle", with(14, 0xc0)),
        ("a question that is too long", long),
        ("nothing", vec![0, 0, 0, 0]),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ] {
        let bytes = [question(1), last, question(3)].concat();
        for action in [JUDGED, OPEN] {
            let whole = Talk::under(action).client(&bytes);
            assert!(whole[0].starts_with("asks "), "{what}: {whole:?}");
            for piece in [1, 2, 7, 40] {
                let mut talk = Talk::under(action);
                let mut cut = Vec::new();
                for part in bytes.chunks(piece) {
                    cut.extend(talk.client(part));
                    if matches!(cut.last().map(String::as_str), Some("tunnel" | "reset")) {
                        break;
                    }
                }
                assert_eq!(cut, whole, "{what} by {piece}");
            }
        }
    }
}

#[test]
fn a_late_or_doubled_answer_reaches_nobody_and_ends_nothing() {
    let mut talk = Talk::under(JUDGED);
    talk.conversation.client().extend(question(1));
    let Step::ToServer(mut answer) = talk.conversation.question(&talk.judge, &talk.current) else {
        panic!("it is asked");
    };
    answer[4] |= 0x80;
    let mut other = answer.clone();
    other[2] ^= 0xff;
    assert_eq!(talk.server(&other), [""; 0], "another identifier");
    assert_eq!(talk.server(&answer), ["tells 1 0"]);
    for piece in [answer.len(), 1, 5] {
        let steps: Vec<String> = answer.chunks(piece).flat_map(|part| talk.server(part)).collect();
        assert_eq!(steps, [""; 0], "doubled, by {piece}");
    }
    assert_eq!(talk.client(&question(2)).len(), 1, "and the connection goes on");
}

#[test]
fn a_server_that_speaks_first_is_no_name_server() {
    let answer = framed(&[&[0, 1, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\0\0\x01\0\x01"].concat());
    for words in [&answer[..], &answer[..1], b"220 mail\r\n"] {
        assert_eq!(Talk::under(JUDGED).server(words), ["reset"]);
        let mut talk = Talk::under(OPEN);
        assert_eq!(talk.server(words), ["tunnel"]);
        assert_eq!(talk.conversation.into_rest().1, words, "and none of it is lost");
    }
}

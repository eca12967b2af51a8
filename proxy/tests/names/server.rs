//! A small name server at the peer, honest or not as the name says, and a client in the pod.

use crate::CARD;
use crate::network::{PEER, Peer, SILENCE};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;
pub(crate) const TXT: u16 = 16;

/// What the server was asked: the message, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) message: Vec<u8>,
    pub(crate) from: SocketAddr,
    pub(crate) tcp: bool,
}

impl Asked {
    /// The name in lower case.
    pub(crate) fn name(&self) -> String {
        question(&self.message).0
    }
}

/// The server, in both families, by UDP and TCP.
#[derive(Clone, Default)]
pub(crate) struct NameServer(Arc<Mutex<Vec<Asked>>>);

impl NameServer {
    pub(crate) fn start(peer: &Peer) -> Self {
        let server = Self::default();
        let second: IpAddr = "10.0.0.66".parse().expect("address");
        for address in [PEER[0], PEER[1], second] {
            let (udp, tcp) = peer.run(move || {
                let udp = UdpSocket::bind((address, 53)).expect("bind");
                (udp, TcpListener::bind((address, 53)).expect("listen"))
            });
            server.clone().serve_udp(udp);
            server.clone().serve_tcp(tcp);
        }
        server
    }

    /// Every name that was asked for, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all().iter().map(Asked::name).collect()
    }

    pub(crate) fn all(&self) -> Vec<Asked> {
        self.0.lock().expect("no panic").clone()
    }

    fn note(&self, message: &[u8], from: SocketAddr, tcp: bool) {
        self.0.lock().expect("no panic").push(Asked { message: message.to_vec(), from, tcp });
    }

    fn serve_udp(self, socket: UdpSocket) {
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                self.note(&buffer[..length], from, false);
                let elsewhere = question(&buffer[..length]).0.starts_with("elsewhere.");
                let other = elsewhere.then(|| UdpSocket::bind((socket.local_addr().expect("own").ip(), 0)));
                let socket = other.as_ref().map_or(&socket, |other| other.as_ref().expect("bind"));
                for answer in answers(&buffer[..length], false) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
    }

    fn serve_tcp(self, listener: TcpListener) {
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = self.clone();
                thread::spawn(move || server.serve_stream(stream));
            }
        });
    }

    fn serve_stream(&self, mut stream: TcpStream) {
        let from = stream.peer_addr().expect("address");
        while let Ok(message) = read_framed(&mut stream) {
            self.note(&message, from, true);
            for answer in answers(&message, true) {
                let _ = write_framed(&mut stream, &answer);
            }
        }
    }
}

/// What the server says to a question.
fn answers(message: &[u8], tcp: bool) -> Vec<Vec<u8>> {
    let (name, record) = question(message);
    let card: IpAddr = CARD[usize::from(record == AAAA)].parse().expect("address");
    let told =
        |name: &str, address: &str| answer(message, &[(name, address.parse().expect("address"), 60)], 0);
    let end = name.split('.').next().unwrap_or_default();
    match end {
        "silent" => vec![],
        "rebind" => vec![told(&name, "10.0.0.66")],
        "metadata" => vec![told(&name, "169.254.169.254")],
        "stray" => vec![told("api.card.example", "203.0.113.10")],
        "short" => vec![answer(message, &[(name.as_str(), card, 0)], 0)],
        "second" => vec![told(&name, "203.0.113.10")],
        "broken" => vec![cut_in_a_record(told(&name, "10.0.0.66"))],
        "zone" => vec![told(&name, "203.0.113.9"), without_question(told(&name, "203.0.113.10"))],
        "large" if !tcp => vec![answer(message, &[], 0x0200)],
        "forged" => {
            let mut other_id = told(&name, "203.0.113.10");
            other_id[0] ^= 0x55;
            let other_name = question_message(0, "api.post.example", record);
            let mut other_question =
                answer(&other_name, &[("api.post.example", "203.0.113.10".parse().expect("address"), 9)], 0);
            other_question[..2].copy_from_slice(&message[..2]);
            vec![other_id, other_question, answer(message, &[(name.as_str(), card, 60)], 0)]
        }
        _ => vec![answer(message, &[(name.as_str(), card, 60)], 0)],
    }
}

/// An answer to the question of a message.
fn answer(message: &[u8], records: &[(&str, IpAddr, u32)], flags: u16) -> Vec<u8> {
    let end = 12 + question_bytes(message);
    let mut answer = message[..end].to_vec();
    answer[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
    answer[6..12].fill(0);
    answer[7] = u8::try_from(records.len()).expect("few");
    for (owner, address, ttl_s) in records {
        answer.extend(wire(owner));
        let (kind, content) = match address {
            IpAddr::V4(v4) => (A, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
        };
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(ttl_s.to_be_bytes());
        answer.extend(u16::try_from(content.len()).expect("short").to_be_bytes());
        answer.extend(content);
    }
    answer
}

/// An answer that says of itself that it was cut, within a second record that is not there.
fn cut_in_a_record(mut answer: Vec<u8>) -> Vec<u8> {
    answer[2] |= 2;
    answer[7] += 1;
    answer
}

/// As all but the first message of a transfer may be.
fn without_question(mut answer: Vec<u8>) -> Vec<u8> {
    answer.drain(12..12 + question_bytes(&answer));
    answer[5] = 0;
    answer
}

/// A question as resolvers send it, with options.
pub(crate) fn question_message(id: u16, name: &str, record: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    message.extend(wire(name));
    message.extend(record.to_be_bytes());
    message.extend([0, 1]);
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    message
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels
        .flat_map(|label| [&[u8::try_from(label.len()).expect("short")], label.as_bytes()].concat())
        .collect();
    bytes.push(0);
    bytes
}

fn question_bytes(message: &[u8]) -> usize {
    message[12..].iter().position(|byte| *byte == 0).expect("a name") + 5
}

fn question(message: &[u8]) -> (String, u16) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while message[at] != 0 {
        let length = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..at + 1 + length]).to_ascii_lowercase());
        at += length + 1;
    }
    (labels.join("."), u16::from_be_bytes([message[at + 1], message[at + 2]]))
}

/// What came for a question: how it went, whether it was cut, and the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) code: u8,
    pub(crate) cut: bool,
    pub(crate) records: u8,
    pub(crate) text: String,
}

fn told(message: &[u8], id: u16) -> Told {
    assert_eq!(message[..2], id.to_be_bytes(), "the identifier is the asker's own");
    let text =
        message.iter().map(|byte| char::from(*byte)).filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    Told { code: message[3] & 15, cut: message[2] & 2 != 0, records: message[7], text }
}

/// Asks by UDP. `None` if nothing comes.
pub(crate) fn ask(server: IpAddr, name: &str, record: u16) -> Option<Told> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    ask_by(&UdpSocket::bind(any).expect("bind"), server, name, record)
}

/// Asks from a socket that belongs to nobody in particular. Whoever answers has to be whom we asked.
pub(crate) fn ask_by(socket: &UdpSocket, server: IpAddr, name: &str, record: u16) -> Option<Told> {
    socket.set_read_timeout(Some(3 * SILENCE)).expect("timeout");
    socket.send_to(&question_message(0x2a2a, name, record), (server, 53)).ok()?;
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    assert_eq!(from, SocketAddr::new(server, 53), "the answer comes from whom we asked");
    Some(told(&buffer[..length], 0x2a2a))
}

/// Asks several questions on one TCP connection at once; the answers by the order of their identifiers.
pub(crate) fn ask_tcp(server: IpAddr, names: &[(&str, u16)]) -> io::Result<Vec<Told>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(server, 53), SILENCE)?;
    stream.set_read_timeout(Some(3 * SILENCE))?;
    for (id, (name, record)) in (1u16..).zip(names) {
        write_framed(&mut stream, &question_message(id, name, *record))?;
    }
    let mut answers = Vec::new();
    for _ in names {
        let answer = read_framed(&mut stream)?;
        let id = u16::from_be_bytes([answer[0], answer[1]]);
        answers.push((id, told(&answer, id)));
    }
    answers.sort_by_key(|(id, _)| *id);
    Ok(answers.into_iter().map(|(_, told)| told).collect())
}

pub(crate) fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

pub(crate) fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], message].concat())
}

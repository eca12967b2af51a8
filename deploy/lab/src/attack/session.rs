//! What a service that is allowed in part must not hear: commands, statements, names.
//!
//! The connection itself is legitimate, as in [`super::web`], so only the token tells whether the forbidden part passed. What is
//! asked changes nothing where it does arrive.

use std::io;
use std::net::UdpSocket;

use super::attempt::{Attempt, NoTarget, NotMade, anywhere};
use super::packet::{A, Ends, TXT, protocol, question};
use super::targets::{Postgres, Redis, Tls};
use super::web::exchange;

type Made = Result<(), NotMade>;

/// A name outside that nobody needs.
pub(super) fn dns_tunnel(attempt: &mut Attempt) -> Made {
    ask(attempt, &["tunnel", "test"], A)
}

/// Text below a name of the cluster.
pub(super) fn dns_text(attempt: &mut Attempt) -> Made {
    ask(attempt, &["default", "svc", "cluster", "local"], TXT)
}

fn ask(attempt: &mut Attempt, below: &[&str], record: u16) -> Made {
    let target = attempt.targets.resolver.ok_or(NoTarget("resolver"))?.of(attempt.family);
    let question = question(&[&[attempt.token.to_string().as_str()], below].concat(), record);
    let ends = Ends { source_port: 0, ..attempt.ends(0, target) };
    attempt.announce(protocol::UDP, ends);
    let asked = UdpSocket::bind((anywhere(attempt.family), 0)).and_then(|socket| {
        socket.connect(target)?;
        socket.send(&question)?;
        socket.set_read_timeout(Some(attempt.left() / 2))?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        match answer.get(..length).and_then(|answer| answer.get(3)).map(|flags| flags & 15) {
            Some(0) => Ok(()),
            code => Err(io::Error::other(format!("answered with code {code:?}"))),
        }
    });
    attempt.note("asked", &asked);
    Ok(())
}

/// A command that tells how the server is set up.
pub(super) fn redis_command(attempt: &mut Attempt) -> Made {
    redis(attempt, |_, token| vec![command(&["CONFIG", "GET", token])])
}

/// A key that others use.
pub(super) fn redis_key(attempt: &mut Attempt) -> Made {
    redis(attempt, |_, token| vec![command(&["GET", &format!("secret:{token}")])])
}

/// A forbidden command in the packet of an allowed one.
pub(super) fn redis_pipelined(attempt: &mut Attempt) -> Made {
    redis(attempt, |redis, token| {
        let mut bytes = command(&["GET", &format!("{}1", redis.keys)]);
        bytes.extend(command(&["CONFIG", "GET", token]));
        vec![bytes]
    })
}

fn redis(attempt: &mut Attempt, parts: impl Fn(&Redis, &str) -> Vec<Vec<u8>>) -> Made {
    let redis = attempt.targets.redis.as_ref().ok_or(NoTarget("redis"))?;
    let parts = parts(redis, &attempt.token.to_string());
    exchange(attempt, redis.at.of(attempt.family), parts)
}

/// A command as an array of bulk strings.
fn command(words: &[&str]) -> Vec<u8> {
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    let count = words.matches('$').count();
    format!("*{count}\r\n{words}").into_bytes()
}

/// A statement that defines, where reading is allowed.
pub(super) fn postgres_class(attempt: &mut Attempt) -> Made {
    postgres(attempt, |own, token| {
        vec![session(&own.user, &own.database), query(&format!("drop table if exists \"{token}\""))]
    })
}

/// The same behind a statement that is allowed.
pub(super) fn postgres_second(attempt: &mut Attempt) -> Made {
    postgres(attempt, |own, token| {
        let text = format!("select 1; drop table if exists \"{token}\"");
        vec![session(&own.user, &own.database), query(&text)]
    })
}

/// Another role.
pub(super) fn postgres_user(attempt: &mut Attempt) -> Made {
    postgres(attempt, |own, token| vec![session(token, &own.database)])
}

fn postgres(attempt: &mut Attempt, parts: impl Fn(&Postgres, &str) -> Vec<Vec<u8>>) -> Made {
    let postgres = attempt.targets.postgres.as_ref().ok_or(NoTarget("postgres"))?;
    let parts = parts(postgres, &attempt.token.to_string());
    exchange(attempt, postgres.at.of(attempt.family), parts)
}

/// The message that begins a session (version 3.0 of the protocol).
fn session(user: &str, database: &str) -> Vec<u8> {
    sized(format!("\0\u{3}\0\0user\0{user}\0database\0{database}\0\0").as_bytes())
}

/// A simple query.
fn query(text: &str) -> Vec<u8> {
    [b"Q", &sized(format!("{text}\0").as_bytes())[..]].concat()
}

/// Behind its length, which counts itself.
fn sized(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), message].concat()
}

/// Another name, at the address of the one that is allowed.
pub(super) fn tls_name(attempt: &mut Attempt) -> Made {
    tls(attempt, |own, token| client_hello(Some(&format!("{token}.{}", own.name)), [7; 32]))
}

/// No name; the token is in what is random otherwise.
pub(super) fn tls_nameless(attempt: &mut Attempt) -> Made {
    tls(attempt, |_, token| {
        let mut random = [7; 32];
        random.iter_mut().zip(token.bytes()).for_each(|(to, byte)| *to = byte);
        client_hello(None, random)
    })
}

/// Bytes that are no TLS.
pub(super) fn tls_plain(attempt: &mut Attempt) -> Made {
    tls(attempt, |_, token| format!("{token} and so on\n").into_bytes())
}

fn tls(attempt: &mut Attempt, bytes: impl Fn(&Tls, &str) -> Vec<u8>) -> Made {
    let tls = attempt.targets.tls.as_ref().ok_or(NoTarget("tls"))?;
    let bytes = bytes(tls, &attempt.token.to_string());
    exchange(attempt, tls.at.of(attempt.family), vec![bytes])
}

/// The least hello of TLS 1.2 and 1.3 (RFC 8446 section 4.1.2).
pub(super) fn client_hello(server: Option<&str>, random: [u8; 32]) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let mut out = u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes().to_vec();
        out.extend(bytes);
        out
    };
    let mut extensions = Vec::new();
    if let Some(server) = server {
        let name = [&[0][..], &sized(server.as_bytes())].concat();
        extensions.extend([&[0, 0][..], &sized(&sized(&name))].concat());
    }
    // Supported versions, 1.3 before 1.2.
    extensions.extend([0, 43, 0, 5, 4, 3, 4, 3, 3]);
    let mut hello = vec![3, 3];
    hello.extend(random);
    hello.push(0);
    hello.extend(sized(&[0x13, 0x01, 0xc0, 0x2f]));
    hello.extend([1, 0]);
    hello.extend(sized(&extensions));
    let handshake = [&[1, 0][..], &sized(&hello)].concat();
    [&[22, 3, 1][..], &sized(&handshake)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::token::Token;

    const TOKEN: &str = "bh-0000000000000001";

    #[test]
    fn a_tls_hello_has_consistent_lengths_and_shows_its_name() {
        for (name, tokens) in [(Some(format!("{TOKEN}.exfil.example")), 1), (None, 0)] {
            let bytes = client_hello(name.as_deref(), [7; 32]);
            assert_eq!(usize::from(bytes[3]) * 256 + usize::from(bytes[4]), bytes.len() - 5);
            assert_eq!(usize::from(bytes[7]) * 256 + usize::from(bytes[8]), bytes.len() - 9);
            assert_eq!(Token::find(&bytes, 8).len(), tokens);
        }
    }

    #[test]
    fn messages_are_as_their_servers_read_them() {
        assert_eq!(command(&["GET", "a"]), b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
        assert_eq!(query("x"), b"Q\0\0\0\x06x\0");
        assert_eq!(session("u", "d"), b"\0\0\0\x1b\0\x03\0\0user\0u\0database\0d\0\0");
    }
}

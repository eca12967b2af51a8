//! A call that a program of the demo shop makes: method, protocol, peer and path, written as one argument.
//!
//! `GET http://orders.shop:8080/api/orders/{id}`, `tcp://database.shop:5432/stock`, `udp://metrics.shop:8125/count`.
//! `{id}` stands for a number that differs from call to call, as an order's number would.

use std::fmt;
use std::str::FromStr;

/// One call to a peer, with a template where a request differs from the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// How the peer is spoken to.
    pub protocol: Protocol,
    /// The name or address of the peer, as the Host header carries it.
    pub host: String,
    /// The port of the peer.
    pub port: u16,
    /// Path of the request (HTTP) or key (TCP, UDP), with `{id}` where it varies.
    pub path: String,
}

/// How a peer is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 with this method.
    Http(String),
    /// A line each way over TCP.
    Tcp,
    /// A datagram each way.
    Udp,
}

/// Why an argument is not a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Neither `METHOD http://…` nor `tcp://…` nor `udp://…`.
    Form,
    /// No port, or not a number from 1 to 65535.
    Port,
    /// The method holds something other than capital letters.
    Method,
    /// The path or host holds a space or a control character.
    Bytes,
}

impl Call {
    /// The path of the `number`th request of this call.
    pub fn path_of(&self, number: u64) -> String {
        self.path.replace("{id}", &(number % 1000 + 1).to_string())
    }
}

impl FromStr for Call {
    type Err = CallError;

    fn from_str(text: &str) -> Result<Self, CallError> {
        let (protocol, rest) = protocol_of(text)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = authority.rsplit_once(':').ok_or(CallError::Port)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(CallError::Port)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let clean = |part: &str| part.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !clean(host) || !clean(path) {
            return Err(CallError::Bytes);
        }
        Ok(Self { protocol, host: host.to_owned(), port, path: path.to_owned() })
    }
}

fn protocol_of(text: &str) -> Result<(Protocol, &str), CallError> {
    if let Some(rest) = text.strip_prefix("tcp://") {
        return Ok((Protocol::Tcp, rest));
    }
    if let Some(rest) = text.strip_prefix("udp://") {
        return Ok((Protocol::Udp, rest));
    }
    let (method, target) = text.split_once(' ').ok_or(CallError::Form)?;
    let rest = target.strip_prefix("http://").ok_or(CallError::Form)?;
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(CallError::Method);
    }
    Ok((Protocol::Http(method.to_owned()), rest))
}

impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match &self.protocol {
            Protocol::Http(method) => write!(out, "{method} http://{host}:{}{}", self.port, self.path),
            Protocol::Tcp => write!(out, "tcp://{host}:{}{}", self.port, self.path),
            Protocol::Udp => write!(out, "udp://{host}:{}{}", self.port, self.path),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Form => "not a call: write `GET http://host:port/path`, `tcp://host:port/key` or `udp://host:port/key`",
            Self::Port => "a call needs a port from 1 to 65535: write `host:port`",
            Self::Method => "a method is written in capital letters, as in `GET http://host:port/path`",
            Self::Bytes => "host and path of a call hold no spaces and no control characters",
        })
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_printed_as_it_was_written() {
        for text in [
            "GET http://orders.shop:8080/api/orders/{id}",
            "POST http://10.0.0.1:80/",
            "GET http://[fd00::1]:8080/x",
            "tcp://database.shop:5432/stock",
            "udp://metrics.shop:8125/count",
        ] {
            assert_eq!(text.parse::<Call>().map(|call| call.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_not_a_call_is_refused_with_its_reason() {
        for (text, error) in [
            ("http://x:1/", CallError::Form),
            ("GET https://x:1/", CallError::Form),
            ("get http://x:1/", CallError::Method),
            ("GET http://x/", CallError::Port),
            ("GET http://x:0/", CallError::Port),
            ("GET http://:1/", CallError::Bytes),
            ("GET http://x:1/a b", CallError::Bytes),
        ] {
            assert_eq!(text.parse::<Call>(), Err(error), "{text}");
        }
    }

    #[test]
    fn the_number_of_a_request_stands_in_its_path() {
        let call: Call = "GET http://x:1/a/{id}/b".parse().expect("a call");
        assert_eq!(call.path_of(6), "/a/7/b");
    }
}

//! What a connection speaks, told from its first bytes.
//!
//! For a rule that names a protocol, and for the `application` of a report. A guess never allows anything: what
//! is not recognised is `unknown`, and the policy says what holds for that.

use crate::limits::DETECTION_BYTES_MAX;

/// An application protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.0 and 1.1.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
    /// TLS, whatever is inside.
    Tls,
    /// Secure Shell.
    Ssh,
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
    /// MySQL and MariaDB.
    Mysql,
    /// MongoDB.
    Mongodb,
    /// Apache Kafka.
    Kafka,
    /// AMQP.
    Amqp,
    /// NATS.
    Nats,
    /// MQTT.
    Mqtt,
    /// Apache Cassandra.
    Cassandra,
    /// Memcached.
    Memcached,
    /// SMTP.
    Smtp,
    /// FTP.
    Ftp,
    /// None of these.
    Unknown,
}

impl Protocol {
    /// Lower-case name, as in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "http/2",
            Self::Tls => "tls",
            Self::Ssh => "ssh",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Mysql => "mysql",
            Self::Mongodb => "mongodb",
            Self::Kafka => "kafka",
            Self::Amqp => "amqp",
            Self::Nats => "nats",
            Self::Mqtt => "mqtt",
            Self::Cassandra => "cassandra",
            Self::Memcached => "memcached",
            Self::Smtp => "smtp",
            Self::Ftp => "ftp",
            Self::Unknown => "unknown",
        }
    }
}

/// The protocol of a client that sent `bytes` first; `None` while they can still become several. What they leave
/// open is settled by what is `expected`.
pub fn client(bytes: &[u8], expected: Option<Protocol>) -> Option<Protocol> {
    match (expected, bytes.first()?) {
        // Lengths of which the first byte is zero in all but absurd messages; nothing else that is told begins so.
        (Some(Protocol::Kafka), 0..=3) => Some(Protocol::Kafka),
        (Some(Protocol::Postgres), 0) => Some(Protocol::Postgres),
        // A line that no other protocol claims is a command.
        (Some(Protocol::Redis), 0x21..=0x7e) => match undeclared(bytes)? {
            Protocol::Unknown | Protocol::Memcached => Some(Protocol::Redis),
            told => Some(told),
        },
        _ => undeclared(bytes),
    }
}

fn undeclared(bytes: &[u8]) -> Option<Protocol> {
    // Never more than the window, so that the answer does not depend on how the bytes were cut.
    let bytes = bytes.get(..DETECTION_BYTES_MAX).unwrap_or(bytes);
    let first = *bytes.first()?;
    let told = match first {
        0x16 => tls(bytes),
        b'\r' | b'\n'
            if bytes.get(1).is_none_or(|next| next.is_ascii_graphic() || next.is_ascii_whitespace()) =>
        {
            text(bytes)
        }
        0..=0x0f => binary(bytes),
        0x10 => mqtt(bytes),
        b'*' => redis(bytes),
        b'A'..=b'Z' | b'a'..=b'z' => text(bytes),
        _ => length_first(bytes),
    };
    match told {
        Told::Now(protocol) => Some(protocol),
        Told::Later if bytes.len() >= DETECTION_BYTES_MAX => Some(Protocol::Unknown),
        Told::Later => None,
    }
}

/// The protocol of a server that spoke first. Never waits: a greeting comes whole, or it is unknown.
pub fn server(bytes: &[u8]) -> Protocol {
    match bytes {
        [b'S', b'S', b'H', b'-', ..] => Protocol::Ssh,
        // Length, sequence number 0, protocol version 10, a printable version (MySQL protocol, HandshakeV10).
        [_, _, 0, 0, 10, version, ..] if version.is_ascii_graphic() => Protocol::Mysql,
        [b'I', b'N', b'F', b'O', b' ', b'{', ..] => Protocol::Nats,
        [b'2', b'2', b'0', b' ' | b'-', rest @ ..] => match contains(rest, b"FTP") {
            true => Protocol::Ftp,
            false => Protocol::Smtp,
        },
        _ => Protocol::Unknown,
    }
}

/// True if a server that says this first may speak HTTP/2: it need not wait for its client with its settings, and is told by
/// what that says (RFC 9113 section 3.4).
pub(crate) fn may_be_http2(bytes: &[u8]) -> bool {
    let frame = [None, None, None, Some(4), Some(0), Some(0), Some(0), Some(0), Some(0)];
    let begins = bytes.iter().zip(frame).all(|(byte, known)| known.is_none_or(|known| *byte == known));
    let length = bytes.first_chunk().map(|[high, middle, low]| u32::from_be_bytes([0, *high, *middle, *low]));
    begins && bytes.first() == Some(&0) && length.is_none_or(|length| length.is_multiple_of(6))
}

enum Told {
    Now(Protocol),
    Later,
}

fn when(condition: bool, protocol: Protocol) -> Told {
    Told::Now(if condition { protocol } else { Protocol::Unknown })
}

/// A record of type handshake, version 3.x (RFC 8446 section 5.1).
fn tls(bytes: &[u8]) -> Told {
    match bytes {
        [_, 3, minor, ..] => when(*minor <= 4, Protocol::Tls),
        [_] | [_, 3] => Told::Later,
        _ => Told::Now(Protocol::Unknown),
    }
}

/// Fixed header, remaining length of one or two bytes, protocol name (MQTT 5 section 3.1; 3.1 says `MQIsdp`).
fn mqtt(bytes: &[u8]) -> Told {
    let at = if bytes.get(1).is_some_and(|length| length & 0x80 != 0) { 3 } else { 2 };
    match bytes.get(at..at + 4) {
        None => Told::Later,
        Some(name) => match name {
            [0, 4, b'M', b'Q'] | [0, 6, b'M', b'Q'] => Told::Now(Protocol::Mqtt),
            _ => binary(bytes),
        },
    }
}

/// Digits of the number of a command's arguments; no server takes as many.
const REDIS_DIGITS_MAX: usize = 8;

/// An array of bulk strings (Redis protocol specification).
fn redis(bytes: &[u8]) -> Told {
    let digits = bytes.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
    match bytes.get(1 + digits) {
        _ if digits > REDIS_DIGITS_MAX => Told::Now(Protocol::Unknown),
        None => Told::Later,
        Some(b'\r') if digits > 0 => Told::Now(Protocol::Redis),
        Some(_) => Told::Now(Protocol::Unknown),
    }
}

/// Messages that begin with a length, and frames with a version in their first byte.
fn binary(bytes: &[u8]) -> Told {
    if bytes.len() < 8 {
        return Told::Later;
    }
    match (postgres(bytes), bytes.get(12..16)) {
        (true, _) => Told::Now(Protocol::Postgres),
        (false, None) if maybe_longer(bytes) => Told::Later,
        _ => Told::Now(binary_now(bytes)),
    }
}

/// Any byte can begin a little-endian length; its upper half is then zero, in all but huge first messages. The others are told
/// by three bytes, however many there are.
fn length_first(bytes: &[u8]) -> Told {
    match bytes {
        [_, _, 0, 0, ..] => binary(bytes),
        [_] | [_, _] | [_, _, 0] => Told::Later,
        _ => Told::Now(binary_now(bytes.get(..3).unwrap_or(bytes))),
    }
}

/// True if a message of MongoDB or Kafka begins like this, which 16 bytes tell.
fn maybe_longer(bytes: &[u8]) -> bool {
    bytes.len() < 16 && (mongodb_length(bytes) || kafka(bytes))
}

fn binary_now(bytes: &[u8]) -> Protocol {
    let operation = bytes.get(12..16).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
    match bytes {
        // A request frame of version 3 to 5, stream 0 or more, STARTUP or OPTIONS (CQL native protocol section 2).
        [3..=5, _, _, _, 1 | 5, ..] => Protocol::Cassandra,
        // A request of the binary protocol: magic, operation.
        [0x80, 0..=0x20, 0..=1, ..] => Protocol::Memcached,
        // OP_QUERY and OP_MSG.
        _ if mongodb_length(bytes) && matches!(operation, Some(2004 | 2013)) => Protocol::Mongodb,
        _ if kafka(bytes) => Protocol::Kafka,
        _ => Protocol::Unknown,
    }
}

/// Start-up of version 3, or a request for TLS, GSSAPI or cancellation (PostgreSQL protocol section 55.7).
fn postgres(bytes: &[u8]) -> bool {
    let word =
        |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
    match (word(0), word(4)) {
        (Some(8), Some(80_877_103 | 80_877_104)) | (Some(16..=268), Some(80_877_102)) => true,
        (Some(length), Some(version)) => (9..=10_000).contains(&length) && version >> 16 == 3,
        _ => false,
    }
}

fn mongodb_length(bytes: &[u8]) -> bool {
    let word =
        |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
    let answers_nothing = word(8).is_none_or(|answered| answered == 0);
    word(0).is_some_and(|length| (16..=48_000_000).contains(&length)) && answers_nothing
}

/// Length, then ApiVersions, Metadata, Produce or Fetch in a known version, then a correlation id.
fn kafka(bytes: &[u8]) -> bool {
    let word =
        |at: usize| bytes.get(at..at + 2).and_then(|word| word.try_into().ok()).map(u16::from_be_bytes);
    let length = bytes.get(..4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
    length.is_some_and(|length| (8..=104_857_600).contains(&length))
        && word(4).is_some_and(|key| matches!(key, 0 | 1 | 3 | 18))
        && word(6).is_some_and(|version| version <= 17)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Lines of text: HTTP, HTTP/2's preface, and what begins with a word.
fn text(bytes: &[u8]) -> Told {
    if bytes.starts_with(PREFACE) {
        return Told::Now(Protocol::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Told::Later;
    }
    for (greeting, protocol) in [(b"SSH-", Protocol::Ssh), (b"AMQP", Protocol::Amqp)] {
        if bytes.starts_with(greeting) {
            return Told::Now(protocol);
        }
    }
    // What some servers forgive is HTTP all the same, so that it is refused as such: leading empty lines, a
    // method in lower case.
    let line = bytes.trim_ascii_start();
    let word =
        line.iter().take_while(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_')).count();
    let (word, rest) = line.split_at_checked(word).unwrap_or_default();
    match rest {
        [] => Told::Later,
        [b' ' | b'\t'] => Told::Later,
        [b' ' | b'\t', after, ..] => {
            after_word(word, *after, line, DETECTION_BYTES_MAX - (bytes.len() - line.len()))
        }
        [b'\r' | b'\n', ..] => Told::Now(command(word)),
        _ => length_first(bytes),
    }
}

/// `window` is how long the line can get before it is decided on without its end.
fn after_word(word: &[u8], after: u8, line: &[u8], window: usize) -> Told {
    match (word, after) {
        (b"CONNECT", b'{') => Told::Now(Protocol::Nats),
        (b"EHLO" | b"HELO", _) => Told::Now(Protocol::Smtp),
        (b"USER", _) => Told::Now(Protocol::Ftp),
        (_, b'/' | b'*') => Told::Now(Protocol::Http1),
        (b"CONNECT", _) => Told::Now(Protocol::Http1),
        // An absolute target, or a command with a key: the rest of the line tells.
        _ => match memchr::memchr(b'\n', line) {
            None if line.len() < window => Told::Later,
            end => {
                let line = line.get(..end.unwrap_or(line.len())).unwrap_or(line);
                let http = contains(line, b" HTTP/") || contains(line, b" http://");
                Told::Now(if http { Protocol::Http1 } else { command(word) })
            }
        },
    }
}

/// A command on a line of its own. Redis speaks upper case by habit, Memcached lower case by rule.
fn command(word: &[u8]) -> Protocol {
    const REDIS: [&[u8]; 12] = [
        b"PING", b"AUTH", b"HELLO", b"INFO", b"GET", b"SET", b"DEL", b"KEYS", b"CONFIG", b"SELECT", b"QUIT",
        b"EVAL",
    ];
    const MEMCACHED: [&[u8]; 8] =
        [b"get", b"gets", b"set", b"add", b"delete", b"stats", b"version", b"flush_all"];
    if MEMCACHED.contains(&word) {
        Protocol::Memcached
    } else if REDIS.iter().any(|name| name.eq_ignore_ascii_case(word)) {
        Protocol::Redis
    } else {
        Protocol::Unknown
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same answer for every prefix that has an answer.
    fn check(bytes: &[u8], expected: Protocol) {
        let answers: Vec<Protocol> =
            (1..=bytes.len()).filter_map(|length| client(&bytes[..length], None)).collect();
        assert_eq!(answers.last(), Some(&expected), "{:?}", bytes.escape_ascii().to_string());
        assert!(
            answers.iter().all(|answer| *answer == expected),
            "{:?}: changes its mind: {answers:?}",
            bytes.escape_ascii().to_string()
        );
    }

    #[test]
    fn clients_are_told_by_their_first_bytes() {
        check(b"GET / HTTP/1.1\r\n", Protocol::Http1);
        check(b"PROPFIND /dav HTTP/1.1\r\n", Protocol::Http1);
        check(b"OPTIONS * HTTP/1.1\r\n", Protocol::Http1);
        check(b"GET http://a/b HTTP/1.1\r\n", Protocol::Http1);
        check(b"CONNECT a:1 HTTP/1.1\r\n", Protocol::Http1);
        check(b"get /admin HTTP/1.1\r\n", Protocol::Http1);
        check(b"\r\nGET /admin HTTP/1.1\r\n", Protocol::Http1);
        check(b"GET\t/admin HTTP/1.1\r\n", Protocol::Http1);
        check(PREFACE, Protocol::Http2);
        check(b"PRI / HTTP/1.1\r\n", Protocol::Http1);
        check(b"\x16\x03\x01\x02\x00\x01", Protocol::Tls);
        check(b"SSH-2.0-OpenSSH_9\r\n", Protocol::Ssh);
        check(b"\0\0\0\x08\x04\xd2\x16\x2f", Protocol::Postgres);
        check(b"\0\0\0\x29\0\x03\0\0user\0payments\0", Protocol::Postgres);
        check(b"*1\r\n$4\r\nPING\r\n", Protocol::Redis);
        check(b"*123456789\r\n", Protocol::Unknown);
        check(b"PING\r\n", Protocol::Redis);
        check(b"GET key\r\n", Protocol::Redis);
        check(b"get key\r\n", Protocol::Memcached);
        check(b"AMQP\0\0\x09\x01", Protocol::Amqp);
        check(b"CONNECT {\"verbose\":false}\r\n", Protocol::Nats);
        check(b"\x10\x10\0\x04MQTT\x05", Protocol::Mqtt);
        check(b"\x04\0\0\0\x05\0\0\0\0", Protocol::Cassandra);
        check(b"\0\0\0\x1e\0\x12\0\x03\0\0\0\x01\0\x04ruby", Protocol::Kafka);
        check(b"\x3d\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0", Protocol::Mongodb);
        check(b"HE\x01\0\0\t\t  \0\0\0\xdd\x07\0\0", Protocol::Unknown);
        check(b"\xff\xfe\xfd", Protocol::Unknown);
        check(b"good day, nobody knows this\r\n", Protocol::Unknown);
    }

    #[test]
    fn servers_that_speak_first_are_told_at_once() {
        assert_eq!(server(b"J\0\0\0\n8.0.36\0"), Protocol::Mysql);
        assert_eq!(server(b"SSH-2.0-x"), Protocol::Ssh);
        assert_eq!(server(b"220 mail ESMTP"), Protocol::Smtp);
        assert_eq!(server(b"220 FTP ready"), Protocol::Ftp);
        assert_eq!(server(b"INFO {\"server_id\""), Protocol::Nats);
        assert_eq!(server(b"hi"), Protocol::Unknown);
    }

    #[test]
    fn a_server_of_http2_may_greet_first_and_no_other_is_taken_for_it() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\xff\xff";
        assert!((1..settings.len()).all(|length| may_be_http2(&settings[..length])));
        let others: [&[u8]; 8] = [
            b"",
            b"J\0\0\0\n8.0.36\0",
            b"\0\0\x07\x04",
            b"\0\0\x06\x00",
            b"\0\0\x06\x04\x01",
            b"\0\0\x06\x04\0\0\0\0\x01",
            b"SSH-2.0-x",
            b"220 mail",
        ];
        assert!(others.iter().all(|greeting| !may_be_http2(greeting)));
    }

    #[test]
    fn detection_ends_after_a_bounded_number_of_bytes() {
        for byte in 0..=255u8 {
            assert!(client(&[byte; DETECTION_BYTES_MAX], None).is_some(), "{byte:#x} repeated");
        }
    }
}

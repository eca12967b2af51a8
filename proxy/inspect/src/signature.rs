//! What a request looks like in a report: paths, names and keys with the parts that vary replaced.
//!
//! Pure and bounded: the output is something that a policy can hold, with a limited number of segments and bytes. Words are kept, whatever identifies one thing among many becomes `{id}`.

use crate::limits::{
    KEY_PREFIX_BYTES_MAX, SIGNATURE_BYTES_MAX, SIGNATURE_METHOD_BYTES_MAX, SIGNATURE_SEGMENTS_MAX,
};
use std::borrow::Cow;

/// The template of a path in normal form. `/orders/42` becomes `/orders/{id}`.
pub fn template(path: &str) -> String {
    let mut out = String::with_capacity(path.len().min(SIGNATURE_BYTES_MAX) + 4);
    for (index, segment) in path.split('/').skip(1).enumerate() {
        let shown = if is_variable(segment) { "{id}" } else { segment };
        if index >= SIGNATURE_SEGMENTS_MAX || out.len() + 1 + shown.len() > SIGNATURE_BYTES_MAX {
            out.push_str("/**");
            return out;
        }
        out.push('/');
        out.push_str(shown);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// A name with the labels that vary replaced, as rules write patterns: `a8f3c2d1.cdn.test` becomes `*.cdn.test`, with more
/// labels before it `**.cdn.test`. The last two labels stay.
pub fn name(name: &str) -> Cow<'_, str> {
    let labels = name.split('.').count();
    let varies = name.split('.').take(labels.saturating_sub(2)).enumerate();
    let Some((last, _)) = varies.filter(|(_, label)| is_variable(label)).last() else {
        return Cow::Borrowed(name);
    };
    let rest = name.splitn(last + 2, '.').last().unwrap_or_default();
    Cow::Owned(format!("{}.{rest}", if last == 0 { "*" } else { "**" }))
}

/// How all keys begin, up to their first separator: `session:` for `session:42`. `None` where they have nothing in common,
/// or begin with what varies.
pub fn key_prefix<'k>(keys: &[&'k [u8]]) -> Option<&'k str> {
    let (first, rest) = keys.split_first()?;
    let end = first.iter().take(KEY_PREFIX_BYTES_MAX).position(|byte| matches!(byte, b':' | b'/'))?;
    let prefix = first.get(..=end)?;
    if rest.iter().any(|key| !key.starts_with(prefix)) {
        return None;
    }
    let prefix = std::str::from_utf8(prefix).ok()?;
    let word = prefix.get(..end)?;
    Some(prefix).filter(|_| !word.is_empty() && !is_variable(word))
}

/// The method, if it is a registered one (IANA, HTTP Method Registry), else `OTHER`.
pub fn method(method: &str) -> &str {
    let known = method.len() <= SIGNATURE_METHOD_BYTES_MAX && METHODS.contains(&method);
    if known { method } else { "OTHER" }
}

const METHODS: [&str; 40] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
    "M-SEARCH",
];

const WORD_BYTES_MAX: usize = 40;
const TOKEN_BYTES_MIN: usize = 16;
const HEX_BYTES_MIN: usize = 8;

/// True for what names one thing among many: numbers, UUIDs, dates, hashes, tokens, addresses of mail, and what
/// no template holds literally.
fn is_variable(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    if bytes.len() > WORD_BYTES_MAX {
        return true;
    }
    let (mut digits, mut letters, mut only_hex, mut only_plain) = (0, 0, true, true);
    for byte in bytes {
        digits += usize::from(byte.is_ascii_digit());
        letters += usize::from(byte.is_ascii_alphabetic());
        only_hex &= byte.is_ascii_hexdigit() || *byte == b'-';
        only_plain &= is_plain(*byte);
    }
    let marks = bytes.len() - digits - letters;
    if !only_plain {
        return true;
    }
    match digits {
        0 => bytes.len() >= TOKEN_BYTES_MIN && marks == 0 && mixes_case(bytes),
        _ if letters == 0 => true,
        _ if only_hex && bytes.len() >= HEX_BYTES_MIN => true,
        // A word with a number behind it (`user-17`, `o1024`), but not a version (`v1`, `v2beta1`) nor a name
        // with a digit or two in it (`oauth2`, `k8s`).
        _ => digits >= 3 || (bytes.len() >= TOKEN_BYTES_MIN && digits >= 2 && marks == 0),
    }
}

/// Letters, digits and marks that stand for themselves in a template.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b',' | b':' | b'=' | b'!')
}

/// Changes between lower and upper case more often than words do.
fn mixes_case(bytes: &[u8]) -> bool {
    bytes
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()))
        .count()
        >= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &str) {
        assert_eq!(template(path), expected, "`{path}`");
    }

    #[test]
    fn words_stay_and_identifiers_become_a_variable() {
        check("/", "/");
        check("/orders", "/orders");
        check("/orders/", "/orders/");
        check("/orders/42", "/orders/{id}");
        check("/orders/42/items/7", "/orders/{id}/items/{id}");
        check("/v1/charges/ch_1J4j2k2eZvKYlo2C", "/v1/charges/{id}");
        check("/v2beta1/oauth2/k8s", "/v2beta1/oauth2/k8s");
        check("/u/550e8400-e29b-41d4-a716-446655440000", "/u/{id}");
        check("/blobs/da39a3ee5e6b4b0d", "/blobs/{id}");
        check("/day/2026-12-01", "/day/{id}");
        check("/mail/a@b.example", "/mail/{id}");
        check("/x/%20y", "/x/{id}");
        check("/deadbeef", "/deadbeef");
        check("/t/qWeRtYuIoPaSdFgHjK", "/t/{id}");
        check("/static/app.css", "/static/app.css");
        check("/api/getCustomerOrderHistory", "/api/getCustomerOrderHistory");
    }

    #[test]
    fn length_and_depth_are_bounded() {
        let deep = "/a".repeat(50);
        assert_eq!(template(&deep), format!("{}/**", "/a".repeat(SIGNATURE_SEGMENTS_MAX)));
        let long = format!("/{}", ["abcdefghijklmnopqrstuvwxyzabcdefghijklm"; 9].join("/"));
        assert!(template(&long).len() <= SIGNATURE_BYTES_MAX + 3);
        assert!(template(&long).ends_with("/**"));
    }

    #[test]
    fn labels_that_vary_become_a_pattern() {
        for (asked, expected) in [
            ("catalog.shop", "catalog.shop"),
            ("localhost", "localhost"),
            ("1234567.shop", "1234567.shop"),
            ("db-0.db.shop.svc.cluster.local", "db-0.db.shop.svc.cluster.local"),
            ("a8f3c2d1.cdn.test", "*.cdn.test"),
            ("x.a8f3c2d1.cdn.test", "**.cdn.test"),
            ("5.0.0.10.in-addr.arpa", "**.in-addr.arpa"),
            ("api.k8s.example", "api.k8s.example"),
        ] {
            assert_eq!(name(asked), expected);
        }
    }

    #[test]
    fn keys_are_told_by_the_word_before_their_first_separator() {
        let prefix = |keys: &[&str]| {
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            key_prefix(&keys).map(str::to_owned)
        };
        for (keys, expected) in [
            (&["session:42"][..], Some("session:")),
            (&["user:ann:cart"], Some("user:")),
            (&["cache/page/1", "cache/page/2"], Some("cache/")),
            (&["session:42", "user:7"], None),
            (&["greeting"], None),
            (&[":x"], None),
            (&["4711:cart"], None),
            (&["sk_live_51Habcdefghij0123:x"], None),
            (&["with space:x"], None),
            (&[], None),
        ] {
            assert_eq!(prefix(keys).as_deref(), expected, "{keys:?}");
        }
        assert_eq!(key_prefix(&[b"\xff\xfe:x"]), None);
        let long = format!("{}:x", "a".repeat(KEY_PREFIX_BYTES_MAX));
        assert_eq!(prefix(&[&long]), None);
    }

    #[test]
    fn methods_that_nobody_registered_are_one() {
        assert_eq!(method("PROPFIND"), "PROPFIND");
        assert_eq!(method("XYZZY"), "OTHER");
    }
}

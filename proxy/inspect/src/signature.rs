//! What a request looks like in a report: its path with the parts that vary replaced.
//!
//! Pure and bounded: the output is a path template that a policy can hold, with a limited number of segments
//! and bytes. Words are kept, whatever identifies one thing among many becomes `{id}`.

use crate::limits::{SIGNATURE_BYTES_MAX, SIGNATURE_METHOD_BYTES_MAX, SIGNATURE_SEGMENTS_MAX};

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
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let marks = bytes.len() - digits - letters;
    let only_hex = bytes.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    if bytes.len() > WORD_BYTES_MAX || bytes.iter().any(|byte| !is_plain(*byte)) {
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
    fn methods_that_nobody_registered_are_one() {
        assert_eq!(method("PROPFIND"), "PROPFIND");
        assert_eq!(method("XYZZY"), "OTHER");
    }
}

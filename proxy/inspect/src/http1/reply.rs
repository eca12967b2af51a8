//! The responses we write ourselves: the refusal of a request.

use std::io::Write;

/// A complete response with a JSON body; without the body for `HEAD`, whose length is named all the same.
pub(super) fn compose(status: u16, body: &str, to_head: bool, close: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(160 + body.len());
    let connection = if close { "connection: close\r\n" } else { "" };
    let phrase = match status {
        400 => "Bad Request",
        403 => "Forbidden",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        _ => "Refused",
    };
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\n{connection}\r\n{}",
        body.len(),
        if to_head { "" } else { body },
    );
    out
}

#[cfg(test)]
mod tests {
    use super::compose;

    #[test]
    fn a_refusal_is_a_whole_response_and_has_no_body_for_head() {
        let text = |to_head, close| String::from_utf8(compose(403, "{}", to_head, close)).unwrap();
        assert_eq!(
            text(false, true),
            "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
             cache-control: no-store\r\nconnection: close\r\n\r\n{}"
        );
        assert!(text(true, false).ends_with("no-store\r\n\r\n"));
    }
}

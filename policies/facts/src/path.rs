//! Paths of requests, in raw and normal form.
//!
//! What has no doubtless normal form is refused. Templates that rules match paths with are in [`crate::PathTemplate`].

use crate::limits::PATH_BYTES_MAX;
use std::borrow::Cow;
use std::fmt;

/// A request path without its query: as sent, and in normal form.
///
/// Normal form (RFC 3986 section 6.2.2): percent-encoded unreserved characters decoded, other escapes in upper case, dot
/// segments resolved, empty segments merged. A path that servers read differently has no normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPath<'a> {
    raw: &'a str,
    normal: Cow<'a, str>,
}

/// Why a path has no doubtless normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// Does not begin with `/`.
    NotAbsolute,
    /// Longer than [`PATH_BYTES_MAX`].
    TooLong,
    /// A byte outside printable ASCII, or `#`, `\` or another byte that no path carries bare.
    BadByte,
    /// `%` not followed by two hexadecimal digits.
    BadEscape,
    /// An escape that some servers decode and some do not: `%2f`, `%5c`, `%25`, `%00` and other controls, `%3b`, `%3f`,
    /// `%23`; escapes that are no UTF-8, and characters that some servers fold to ASCII.
    AmbiguousEscape,
    /// A `;` parameter, which some servers cut off.
    Parameter,
    /// `..` above the root.
    AboveRoot,
    /// `..` behind an empty segment: some servers merge slashes first, some resolve dots first.
    AmbiguousDots,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "path does not begin with `/`",
            Self::TooLong => "path is longer than 8 KiB",
            Self::BadByte => "path has a byte that no path carries bare",
            Self::BadEscape => "path has a `%` without two hexadecimal digits",
            Self::AmbiguousEscape => "path has an escape that servers read differently",
            Self::Parameter => "path has a `;`, which servers read differently",
            Self::AboveRoot => "path leads above the root",
            Self::AmbiguousDots => "path has a `..` behind an empty segment, which servers read differently",
        })
    }
}

impl std::error::Error for PathError {}

impl<'a> UrlPath<'a> {
    /// Reads a path (query already cut off). Allocates only where raw and normal form differ.
    pub fn parse(raw: &'a str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if raw.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let (has_bad, has_escape, is_resolved) = look(raw);
        if has_bad {
            return Err(if raw.contains(';') { PathError::Parameter } else { PathError::BadByte });
        }
        if !has_escape && is_resolved {
            return Ok(Self { raw, normal: Cow::Borrowed(raw) });
        }
        let decoded = decode_unreserved(raw)?;
        let normal = match decoded {
            Cow::Borrowed(text) => resolve(text)?,
            Cow::Owned(text) => Cow::Owned(resolve(&text)?.into_owned()),
        };
        Ok(Self { raw, normal })
    }

    /// As sent.
    pub fn raw(&self) -> &str {
        self.raw
    }

    /// In normal form.
    pub fn normal(&self) -> &str {
        &self.normal
    }
}

/// All that most paths have to be asked, in one look: whether there is a byte that no path carries bare, whether there is an escape,
/// and whether no segment is empty or begins with a dot.
fn look(path: &str) -> (bool, bool, bool) {
    let (mut seen, mut is_resolved, mut behind_slash) = (0, true, false);
    for byte in path.bytes() {
        let kind = BYTES[usize::from(byte)];
        seen |= kind;
        is_resolved &= !(behind_slash & (kind & (SLASH | DOT) != 0));
        behind_slash = kind == SLASH;
    }
    (seen & BAD != 0, seen & ESCAPE != 0, is_resolved)
}

const BAD: u8 = 1;
const ESCAPE: u8 = 2;
const SLASH: u8 = 4;
const DOT: u8 = 8;

/// What each byte is.
static BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = u8::MAX;
    loop {
        table[byte as usize] = match byte {
            b'%' => ESCAPE,
            b'/' => SLASH,
            b'.' => DOT,
            _ if is_path_byte(byte) => 0,
            _ => BAD,
        };
        if byte == 0 {
            break table;
        }
        byte -= 1;
    }
};

/// Bytes that may stand bare in a path: RFC 3986 `pchar` and `/`, without `;`.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'/' | b'-'
                | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
                | b'%'
        )
}

/// Decodes what is unreserved, and writes other escapes in upper case.
fn decode_unreserved(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let byte = escaped_byte(rest)?;
        match byte {
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => {
                out.push(char::from(b))
            }
            0..=0x1f | b'/' | b'\\' | b'%' | b';' | b'?' | b'#' | 0x7f => {
                return Err(PathError::AmbiguousEscape);
            }
            0x80.. => {
                let length = escaped_character(rest)?;
                out.push_str(&rest[..length * 3].to_ascii_uppercase());
                rest = &rest[length * 3..];
                continue;
            }
            _ => out.push_str(&rest[..3].to_ascii_uppercase()),
        }
        rest = &rest[3..];
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

/// The byte that `%xx` at the start of the text stands for.
fn escaped_byte(text: &str) -> Result<u8, PathError> {
    let digits = text.strip_prefix('%').and_then(|rest| rest.get(..2)).ok_or(PathError::BadEscape)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(PathError::BadEscape);
    }
    u8::from_str_radix(digits, 16).map_err(|_| PathError::BadEscape)
}

/// How many escapes at the start of the text make up one character beyond ASCII that all servers read alike.
fn escaped_character(text: &str) -> Result<usize, PathError> {
    let mut bytes = [0; 4];
    for length in 1..=bytes.len() {
        let Some(rest) = text.get((length - 1) * 3..).filter(|rest| rest.starts_with('%')) else { break };
        bytes[length - 1] = escaped_byte(rest)?;
        if let Some(character) =
            std::str::from_utf8(&bytes[..length]).ok().and_then(|text| text.chars().next())
        {
            return if folds_to_ascii(character) { Err(PathError::AmbiguousEscape) } else { Ok(length) };
        }
    }
    Err(PathError::AmbiguousEscape)
}

/// Characters that compatibility or case folding turns into ASCII, or that control how text is read: a server that folds
/// would see another path (best-fit mapping of full-width `.` and `/`; CVE-2026-27590 for U+212A).
fn folds_to_ascii(character: char) -> bool {
    matches!(character,
        '\u{80}'..='\u{a0}' | '\u{ad}' | 'İ' | 'ı' | 'ſ' | '\u{212a}' | '\u{212b}'
        | '\u{2000}'..='\u{200f}' | '\u{2010}'..='\u{2015}' | '\u{2024}'..='\u{202f}' | '\u{2044}' | '\u{205f}'..='\u{206f}'
        | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{3000}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe50}'..='\u{fe6f}'
        | '\u{feff}' | '\u{ff00}'..='\u{ff5e}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..)
}

/// Resolves dot segments and merges empty ones. Whether slashes are merged before or after is up to the server, so a path
/// where that matters is refused.
fn resolve(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.contains("//") && !path.contains("/.") {
        return Ok(Cow::Borrowed(path));
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut directory = false;
    for segment in path.split('/').skip(1) {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "." => {}
            ".." => match segments.pop() {
                None => return Err(PathError::AboveRoot),
                Some("") => return Err(PathError::AmbiguousDots),
                Some(_) => {}
            },
            name => segments.push(name),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in segments.iter().filter(|segment| !segment.is_empty()) {
        out.push('/');
        out.push_str(segment);
    }
    if directory || out.is_empty() {
        out.push('/');
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(raw: &str) -> Result<String, PathError> {
        UrlPath::parse(raw).map(|path| path.normal().to_owned())
    }

    #[test]
    fn equal_spellings_have_one_normal_form() {
        for raw in [
            "/a/b",
            "/a/./b",
            "/a//b",
            "/%61/b",
            "/a/x/../b",
            "//a/b",
            "/x/..//a/b",
            "/a/%2e/b",
            "/a/x/%2E%2e/b",
        ] {
            assert_eq!(normal(raw).as_deref(), Ok("/a/b"), "{raw}");
        }
        for raw in ["/a%2bb", "/a%2Bb", "/%61%2bb"] {
            assert_eq!(normal(raw).as_deref(), Ok("/a%2Bb"), "{raw}");
        }
        for raw in ["/a/", "/a/.", "/a/b/..", "/a//"] {
            assert_eq!(normal(raw).as_deref(), Ok("/a/"), "{raw}");
        }
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        use PathError::*;
        let refused = [
            ("", NotAbsolute),
            ("a", NotAbsolute),
            ("*", NotAbsolute),
            ("/a%2fb", AmbiguousEscape),
            ("/%5c..%5cadmin", AmbiguousEscape),
            ("/%252e%252e/admin", AmbiguousEscape),
            ("/public%00/admin", AmbiguousEscape),
            ("/a%0d%0ab", AmbiguousEscape),
            ("/%c0%ae%c0%ae/admin", AmbiguousEscape),
            ("/%ff", AmbiguousEscape),
            ("/%e4", AmbiguousEscape),
            ("/%ef%bc%8e%ef%bc%8e/admin", AmbiguousEscape),
            ("/x%e2%84%aa", AmbiguousEscape),
            ("/..;/admin", Parameter),
            ("/a;b=c", Parameter),
            ("/a\\admin", BadByte),
            ("/a#b", BadByte),
            ("/a?b", BadByte),
            ("/a b", BadByte),
            ("/é", BadByte),
            ("/a%", BadEscape),
            ("/a%2", BadEscape),
            ("/a%+1", BadEscape),
            ("/a%u002e", BadEscape),
            ("/..", AboveRoot),
            ("/a/../../b", AboveRoot),
            ("/a//../b", AmbiguousDots),
            ("/a//b/../../c", AmbiguousDots),
        ];
        for (raw, error) in refused {
            assert_eq!(normal(raw), Err(error), "{raw}");
        }
        assert_eq!(normal(&format!("/{}", "a".repeat(PATH_BYTES_MAX))), Err(TooLong));
    }

    #[test]
    fn names_in_other_scripts_are_read() {
        assert_eq!(normal("/caf%c3%a9/%E6%97%A5").as_deref(), Ok("/caf%C3%A9/%E6%97%A5"));
    }

    #[test]
    fn long_chains_of_dots_take_linear_time() {
        let raw = "/a/..".repeat(PATH_BYTES_MAX / 5);
        assert_eq!(normal(&raw).as_deref(), Ok("/"));
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own_normal_form(raw in "/[a-c./%0-9A-Fe;+~-]{0,24}") {
            if let Ok(text) = normal(&raw) {
                let again = normal(&text);
                prop_assert_eq!(again.as_ref(), Ok(&text));
                prop_assert!(!text.contains("//") && !text.split('/').any(|s| s == "." || s == ".."));
            }
        }

        #[test]
        fn one_look_finds_what_each_question_would(path in "[/a.%;~#é-]{0,24}") {
            let asked = (
                path.bytes().any(|byte| !is_path_byte(byte)),
                path.contains('%'),
                !path.contains("//") && !path.contains("/."),
            );
            prop_assert_eq!(look(&path), asked);
        }

        #[test]
        fn no_text_panics(raw in ".{0,60}") {
            let _ = UrlPath::parse(&raw);
        }
    }
}

//! Paths in raw and normal form, and the templates that rules match them with.

use crate::limits::{PATH_BYTES_MAX, TEMPLATE_SEGMENTS_MAX};
use std::borrow::Cow;
use std::fmt;

/// A request path without its query: as sent, and in normal form.
///
/// Normal form (RFC 3986 section 6.2.2): percent-encoded unreserved characters decoded, dot segments
/// resolved, empty segments merged. A path that servers read differently has no normal form.
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
    /// An escaped byte that some servers decode and some do not: `%2f`, `%5c`, `%25`, `%00` and other controls,
    /// `%3b`, `%3f`, `%23`, and bytes above `%7f`.
    AmbiguousEscape,
    /// A `;` parameter, which some servers cut off.
    Parameter,
    /// `..` above the root.
    AboveRoot,
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
        if raw.bytes().any(|b| !is_path_byte(b)) {
            return Err(if raw.contains(';') { PathError::Parameter } else { PathError::BadByte });
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

/// Bytes that may stand bare in a path: RFC 3986 `pchar` and `/`, without `;`.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' | b'%')
}

fn decode_unreserved(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let escape = rest.get(at + 1..at + 3).ok_or(PathError::BadEscape)?;
        let byte = u8::from_str_radix(escape, 16).map_err(|_| PathError::BadEscape)?;
        if !escape.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(PathError::BadEscape);
        }
        match byte {
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') => out.push(char::from(b)),
            0..=0x1f | b'/' | b'\\' | b'%' | b';' | b'?' | b'#' | 0x7f.. => return Err(PathError::AmbiguousEscape),
            _ => {
                out.push('%');
                out.push_str(&escape.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn resolve(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.contains("//") && !path.contains("/.") {
        return Ok(Cow::Borrowed(path));
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut directory = false;
    for segment in path.split('/').skip(1) {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop().ok_or(PathError::AboveRoot)?;
            }
            name => segments.push(name),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if directory || out.is_empty() {
        out.push('/');
    }
    Ok(Cow::Owned(out))
}

/// A path in a rule: literal segments, `{name}` for one segment, a last `**` for everything below.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathTemplate {
    text: Box<str>,
    segments: Box<[Segment]>,
    below: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Segment {
    Literal(Box<str>),
    Any,
}

/// Why a text is no path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// The literal part is no path in normal form.
    Path(PathError),
    /// The literal part is a path but not in its normal form, which is named.
    NotNormal(String),
    /// `{…}` or `**` not alone in its segment, `**` not last, or a name that is no name.
    BadVariable,
    /// Looks like a regular expression or a glob: not supported, on purpose.
    LooksLikePattern,
    /// More segments than [`TEMPLATE_SEGMENTS_MAX`].
    TooManySegments,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => write!(f, "{error}"),
            Self::NotNormal(normal) => write!(f, "path is not in normal form: write `{normal}`"),
            Self::BadVariable => f.write_str("`{name}` and a last `**` stand alone in their segment"),
            Self::LooksLikePattern => {
                f.write_str("looks like a pattern: write `{name}` for one segment, `/**` at the end for everything below")
            }
            Self::TooManySegments => f.write_str("path has more than 64 segments"),
        }
    }
}

impl std::error::Error for TemplateError {}

impl PathTemplate {
    /// Reads `/exact`, `/orders/{id}` or `/everything/below/**`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (literal, below) = match text.strip_suffix("/**") {
            Some(front) => (front, true),
            None => (text, false),
        };
        if !text.starts_with('/') {
            return Err(TemplateError::Path(PathError::NotAbsolute));
        }
        if literal.contains(['*', '[', ']', '^', '|', '\\']) || literal.contains(".+") || literal.ends_with('$') {
            return Err(TemplateError::LooksLikePattern);
        }
        let mut segments = Vec::new();
        let mut probe = String::new();
        for part in literal.split('/').skip(1) {
            let segment = parse_segment(part)?;
            probe.push('/');
            probe.push_str(match &segment {
                Segment::Literal(name) => name,
                Segment::Any => "x",
            });
            segments.push(segment);
        }
        if segments.len() > TEMPLATE_SEGMENTS_MAX {
            return Err(TemplateError::TooManySegments);
        }
        if !probe.is_empty() {
            let path = UrlPath::parse(&probe).map_err(TemplateError::Path)?;
            if path.normal() != probe {
                return Err(TemplateError::NotNormal(path.normal().to_owned()));
            }
        }
        Ok(Self { text: text.into(), segments: segments.into(), below })
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments in order: a literal, or `None` for `{name}`.
    pub fn segments(&self) -> impl Iterator<Item = Option<&str>> {
        self.segments.iter().map(|segment| match segment {
            Segment::Literal(name) => Some(&**name),
            Segment::Any => None,
        })
    }

    /// True if the template ends in `/**`: the path must go on after the segments.
    pub fn matches_below(&self) -> bool {
        self.below
    }

    /// True if both forms of the path match.
    pub fn matches(&self, path: &UrlPath<'_>) -> bool {
        self.matches_text(path.normal()) && (path.raw() == path.normal() || self.matches_text(path.raw()))
    }

    /// True if this text, taken as it is, matches.
    pub fn matches_text(&self, path: &str) -> bool {
        let mut parts = path.split('/').skip(1);
        for segment in &self.segments {
            let hit = match (segment, parts.next()) {
                (Segment::Literal(name), Some(part)) => **name == *part,
                (Segment::Any, Some(part)) => !part.is_empty(),
                (Segment::Literal(_) | Segment::Any, None) => false,
            };
            if !hit {
                return false;
            }
        }
        parts.next().is_some() == self.below
    }
}

fn parse_segment(part: &str) -> Result<Segment, TemplateError> {
    match part.strip_prefix('{').map(|rest| rest.strip_suffix('}')) {
        Some(Some(name)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') => {
            Ok(Segment::Any)
        }
        Some(_) => Err(TemplateError::BadVariable),
        None if part.contains(['{', '}']) => Err(TemplateError::BadVariable),
        None => Ok(Segment::Literal(part.into())),
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

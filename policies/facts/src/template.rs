//! Templates of paths: what rules write and learning produces.
//!
//! No regular expressions: a literal segment, one variable segment, everything below. A text that would mean something
//! else to a reader of globs or regular expressions is refused.

use crate::limits::TEMPLATE_SEGMENTS_MAX;
use crate::{PathError, UrlPath};
use std::fmt;

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
            Self::LooksLikePattern => f.write_str(
                "looks like a pattern: write `{name}` for one segment, `/**` at the end for everything below",
            ),
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
        if literal.contains(['*', '[', ']', '^', '|', '\\'])
            || literal.contains(".+")
            || literal.ends_with('$')
        {
            return Err(TemplateError::LooksLikePattern);
        }
        let mut segments = Vec::new();
        let mut variables = Vec::new();
        let mut probe = String::new();
        for part in literal.split('/').skip(1) {
            let segment = parse_segment(part)?;
            probe.push('/');
            match &segment {
                Segment::Literal(name) => probe.push_str(name),
                // Tildes cannot collide: a segment that has one of its own is still told apart by its number.
                Segment::Any => probe.push_str(&placeholder(segments.len())),
            }
            variables.push(part);
            segments.push(segment);
        }
        if segments.len() > TEMPLATE_SEGMENTS_MAX {
            return Err(TemplateError::TooManySegments);
        }
        if !probe.is_empty() {
            let path = UrlPath::parse(&probe).map_err(TemplateError::Path)?;
            if path.normal() != probe {
                return Err(TemplateError::NotNormal(suggestion(
                    path.normal(),
                    &segments,
                    &variables,
                    below,
                )));
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

/// Stands for the variable at this position while the literal parts are checked.
fn placeholder(position: usize) -> String {
    format!("~{position}~")
}

/// The normal form with its variables put back.
fn suggestion(normal: &str, segments: &[Segment], parts: &[&str], below: bool) -> String {
    let variables =
        segments.iter().zip(parts).enumerate().filter(|(_, (segment, _))| **segment == Segment::Any);
    let named =
        variables.fold(normal.to_owned(), |text, (at, (_, part))| text.replace(&placeholder(at), part));
    if below { format!("{}/**", named.trim_end_matches('/')) } else { named }
}

fn parse_segment(part: &str) -> Result<Segment, TemplateError> {
    match part.strip_prefix('{').map(|rest| rest.strip_suffix('}')) {
        Some(Some(name))
            if !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') =>
        {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_template_matches_segments_exactly() {
        let check = |template: &str, path: &str| {
            PathTemplate::parse(template).unwrap().matches(&UrlPath::parse(path).unwrap())
        };
        assert!(check("/x", "/x") && !check("/x", "/x/") && !check("/x", "/X"));
        assert!(check("/x/**", "/x/y/z") && check("/x/**", "/x/") && !check("/x/**", "/x"));
        assert!(check("/**", "/") && check("/**", "/a/b"));
        assert!(check("/v1/charges/{id}", "/v1/charges/7"));
        assert!(
            !check("/v1/charges/{id}", "/v1/charges/") && !check("/v1/charges/{id}", "/v1/charges/7/refund")
        );
    }

    #[test]
    fn the_raw_form_has_to_match_as_well() {
        let template = PathTemplate::parse("/a/b").unwrap();
        assert!(!template.matches(&UrlPath::parse("//a/b").unwrap()));
        assert!(PathTemplate::parse("/**").unwrap().matches(&UrlPath::parse("//a/b").unwrap()));
    }

    #[test]
    fn templates_that_mean_something_else_elsewhere_are_refused() {
        for text in ["/a*", "/a/*", "/a/**/b", "/a/.*", "/a.+", "^/a", "/a$", "/[a-z]", "/a|b"] {
            let refused = matches!(
                PathTemplate::parse(text),
                Err(TemplateError::LooksLikePattern | TemplateError::Path(PathError::NotAbsolute))
            );
            assert!(refused, "{text}");
        }
        for text in ["/{}", "/a{id}", "/{id", "/{a b}", "/{id}.json"] {
            assert_eq!(PathTemplate::parse(text), Err(TemplateError::BadVariable), "{text}");
        }
    }

    #[test]
    fn a_template_not_in_normal_form_is_answered_with_the_normal_one() {
        let check = |text: &str, normal: &str| {
            assert_eq!(PathTemplate::parse(text), Err(TemplateError::NotNormal(normal.to_owned())), "{text}");
        };
        check("/a//{id}/./b", "/a/{id}/b");
        check("/%61/{id}/**", "/a/{id}/**");
        check("/a/../{x}/{y}", "/{x}/{y}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[/a{}*.~0-9 ]{0,30}|.{0,40}") {
            if let Ok(template) = PathTemplate::parse(&text) {
                prop_assert_eq!(template.as_str(), text);
            }
        }
    }
}

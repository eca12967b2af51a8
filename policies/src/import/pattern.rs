//! Regular expressions of paths, methods and hosts that are templates in truth.
//!
//! Whole-text matches, as Envoy does them, of the path with its query and of the host with its port. What is read is exactly
//! as wide as the expression or narrower, and says which; everything else is no template.

use bulkhead_facts::{HostPattern, PathTemplate};

/// What an expression comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Templates<T> {
    /// Alternatives; `None`: whatever there is.
    pub(super) any_of: Option<Vec<T>>,
    /// True if the expression matches more than these.
    pub(super) narrowed: bool,
}

/// Paths; with `ignore_query` an expression that would refuse every query is taken to say nothing of it.
pub(super) fn paths(expression: &str, ignore_query: bool) -> Option<Templates<PathTemplate>> {
    alternatives(expression, |text| {
        let (text, open) = match text.strip_suffix(r"(\?.*)?") {
            Some(front) => (front, true),
            None => (text, false),
        };
        if matches!(text, ".*" | "/.*") {
            return Some((None, false));
        }
        if let Some(front) = text.strip_suffix("/.*") {
            let (front, narrowed) = path_literal(front)?;
            return Some((Some(vec![PathTemplate::parse(&format!("{front}/**")).ok()?]), narrowed));
        }
        if let Some(front) = text.strip_suffix(".*").filter(|front| !front.ends_with('\\')) {
            let (front, _) = path_literal(front)?;
            let below = PathTemplate::parse(&format!("{front}/**")).ok()?;
            return Some((Some(vec![PathTemplate::parse(&front).ok()?, below]), true));
        }
        let (literal, narrowed) = path_literal(text)?;
        let exact = PathTemplate::parse(&literal).ok()?;
        (open || ignore_query).then_some((Some(vec![exact]), narrowed))
    })
}

/// Methods.
pub(super) fn methods(expression: &str) -> Option<Templates<String>> {
    alternatives(expression, |text| match text {
        ".*" | ".+" => Some((None, false)),
        word if !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase()) => {
            Some((Some(vec![word.to_owned()]), false))
        }
        _ => None,
    })
}

/// Hosts; with `ignore_port` an expression that would refuse every port is taken to say nothing of it.
pub(super) fn hosts(expression: &str, ignore_port: bool) -> Option<Templates<HostPattern>> {
    alternatives(expression, |text| {
        let (text, open) = match text.strip_suffix("(:[0-9]+)?").or(text.strip_suffix(r"(:\d+)?")) {
            Some(front) => (front, true),
            None => (text, false),
        };
        if text == ".*" {
            return Some((None, false));
        }
        if !open && !ignore_port {
            return None;
        }
        let (below, rest) = match text.strip_prefix(r".*\.").or(text.strip_prefix(r".+\.")) {
            Some(rest) => ("*.", rest),
            None => ("", text),
        };
        let (literal, narrowed) = literal(rest)?;
        let host = HostPattern::parse(&format!("{below}{literal}")).ok()?;
        Some((Some(vec![host]), narrowed))
    })
}

/// An alternative: what it comes to (`None`: anything), and whether that is narrower.
type Reading<T> = Option<(Option<Vec<T>>, bool)>;

fn alternatives<T>(expression: &str, read: impl Fn(&str) -> Reading<T>) -> Option<Templates<T>> {
    let text = expression.strip_prefix('^').unwrap_or(expression);
    let text = text.strip_suffix('$').filter(|front| !front.ends_with('\\')).unwrap_or(text);
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let text = inner.filter(|inner| !inner.contains(['(', ')'])).unwrap_or(text);
    let mut found = Templates { any_of: Some(Vec::new()), narrowed: false };
    // A bar inside of a group would be cut wrongly; then a piece has an odd parenthesis and is no literal.
    for piece in text.split('|') {
        let (templates, narrowed) = read(piece)?;
        found.narrowed |= narrowed;
        match (templates, &mut found.any_of) {
            (Some(more), Some(any_of)) => any_of.extend(more),
            (None, any_of) => *any_of = None,
            (Some(_), None) => {}
        }
    }
    Some(found)
}

/// A path of literal segments and `[^/]+`.
fn path_literal(text: &str) -> Option<(String, bool)> {
    let mut out = String::new();
    let mut narrowed = false;
    // The slash of the class is no separator.
    let text = text.replace("[^/]+", "\u{0}");
    for segment in text.strip_prefix('/')?.split('/') {
        out.push('/');
        if segment == "\u{0}" {
            out.push_str("{any}");
        } else {
            let (word, dotted) = literal(segment)?;
            narrowed |= dotted;
            out.push_str(&word);
        }
    }
    Some((out, narrowed))
}

/// Text without operators. A bare dot matches any character and is read as itself, which is narrower.
fn literal(text: &str) -> Option<(String, bool)> {
    let mut out = String::new();
    let mut narrowed = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.push(characters.next().filter(char::is_ascii_punctuation)?),
            '.' => {
                narrowed = true;
                out.push('.');
            }
            '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|' | '\u{0}' => return None,
            other => out.push(other),
        }
    }
    let sound = !out.contains(['?', '#', '*', '{', '}']);
    sound.then_some((out, narrowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<T: ToString>(found: Option<Templates<T>>) -> String {
        let Some(found) = found else { return "none".to_owned() };
        let narrowed = if found.narrowed { " narrowed" } else { "" };
        match found.any_of {
            None => format!("any{narrowed}"),
            Some(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ") + narrowed,
        }
    }

    #[test]
    fn paths_are_read_where_they_are_templates() {
        for (expression, strict, ignoring) in [
            ("/.*", "any", "any"),
            ("/public/.*", "/public/**", "/public/**"),
            ("/public.*", "/public /public/** narrowed", "/public /public/** narrowed"),
            ("/public", "none", "/public"),
            (r"/a\.b(\?.*)?", "/a.b", "/a.b"),
            ("/a.b/.*", "/a.b/** narrowed", "/a.b/** narrowed"),
            ("/orders/[^/]+/items/.*", "/orders/{any}/items/**", "/orders/{any}/items/**"),
            ("/orders/[0-9]+", "none", "none"),
            ("^/(a|b)$", "none", "none"),
            ("/a/.*|/b/.*", "/a/** /b/**", "/a/** /b/**"),
            (r"/a\.*", "none", "none"),
            ("public", "none", "none"),
        ] {
            assert_eq!(shown(paths(expression, false)), strict, "{expression}");
            assert_eq!(shown(paths(expression, true)), ignoring, "{expression} without query");
        }
    }

    #[test]
    fn methods_and_hosts_are_read_where_they_are_literal() {
        assert_eq!(shown(methods("GET|POST")), "GET POST");
        assert_eq!(shown(methods("^(GET|PUT)$")), "GET PUT");
        assert_eq!(shown(methods("G.T")), "none");
        assert_eq!(shown(hosts("foo.bar.com", true)), "foo.bar.com narrowed");
        assert_eq!(shown(hosts(r"foo\.com", false)), "none");
        assert_eq!(shown(hosts(r".*\.foo\.com(:[0-9]+)?", false)), "*.foo.com");
    }
}

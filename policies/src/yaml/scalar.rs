//! What an unquoted scalar is, and the places where YAML 1.1 and 1.2 disagree.
//!
//! Kubernetes reads YAML 1.1: there `yes`, `on` and `0o17`-like spellings have other types than in YAML 1.2.
//! Such a scalar has no doubtless type: it is read neither as text nor as its other type, the writer has to quote it
//! or to write `true`. The letters `y` and `n` are text: most readers of YAML 1.1 agree on that, and they are good names.

/// A scalar as it stands in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// Text after quotes, escapes and folding are resolved.
    pub text: String,
    /// True if it was neither quoted nor a block scalar: only then can it be anything but text.
    pub plain: bool,
}

/// The type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarKind {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// An integer in decimal notation.
    Integer,
    /// Any other number.
    Float,
    /// Text.
    Text,
    /// Text in YAML 1.2 and something else in YAML 1.1.
    Ambiguous,
}

impl ScalarKind {
    /// With its article, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Boolean => "a boolean",
            Self::Integer | Self::Float => "a number",
            Self::Text => "text",
            Self::Ambiguous => "a word that YAML 1.1 reads as boolean or number",
        }
    }
}

impl Scalar {
    /// Its type.
    pub fn kind(&self) -> ScalarKind {
        if !self.plain {
            return ScalarKind::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Boolean,
            "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off" | "OFF" => {
                ScalarKind::Ambiguous
            }
            ".nan" | ".NaN" | ".NAN" => ScalarKind::Float,
            text => number_kind(text),
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        (self.kind() == ScalarKind::Text).then_some(self.text.as_str())
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        (self.kind() == ScalarKind::Boolean).then(|| self.text.starts_with(['t', 'T']))
    }

    /// The integer, if it is one that fits.
    pub fn as_integer(&self) -> Option<i64> {
        (self.kind() == ScalarKind::Integer).then(|| self.text.parse().ok()).flatten()
    }
}

fn number_kind(text: &str) -> ScalarKind {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let Some(first) = digits.bytes().next() else { return ScalarKind::Text };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return ScalarKind::Float;
    }
    if !first.is_ascii_digit() && first != b'.' {
        return ScalarKind::Text;
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        // A leading zero is decimal in YAML 1.2 and octal in YAML 1.1.
        return if digits.len() > 1 && first == b'0' { ScalarKind::Ambiguous } else { ScalarKind::Integer };
    }
    if is_float(digits) {
        return ScalarKind::Float;
    }
    if is_other_base(digits) || is_grouped(digits) { ScalarKind::Ambiguous } else { ScalarKind::Text }
}

/// Digits with a fraction, an exponent, or both (YAML 1.2.2 section 10.3.2).
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let exponent_reads = exponent.is_none_or(|e| {
        let digits = e.strip_prefix(['-', '+']).unwrap_or(e);
        !digits.is_empty() && all_digits(digits)
    });
    exponent_reads && all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty())
}

fn is_other_base(text: &str) -> bool {
    let rest = |prefix: &str| text.strip_prefix(prefix).filter(|rest| !rest.is_empty());
    rest("0x").is_some_and(|r| r.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_'))
        || rest("0o").is_some_and(|r| r.bytes().all(|b| (b'0'..b'8').contains(&b) || b == b'_'))
        || rest("0b").is_some_and(|r| r.bytes().all(|b| matches!(b, b'0' | b'1' | b'_')))
}

/// `1_000` is a number in YAML 1.1.
fn is_grouped(text: &str) -> bool {
    text.contains('_') && text.bytes().all(|b| b.is_ascii_digit() || b == b'_' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> ScalarKind {
        Scalar { text: text.into(), plain: true }.kind()
    }

    #[test]
    fn each_plain_scalar_has_the_type_of_both_versions_or_none() {
        for (text, expected) in [
            ("", ScalarKind::Null),
            ("~", ScalarKind::Null),
            ("true", ScalarKind::Boolean),
            ("yes", ScalarKind::Ambiguous),
            ("n", ScalarKind::Text),
            ("80", ScalarKind::Integer),
            ("-1", ScalarKind::Integer),
            ("0", ScalarKind::Integer),
            ("010", ScalarKind::Ambiguous),
            ("0x10", ScalarKind::Ambiguous),
            ("1_000", ScalarKind::Ambiguous),
            ("1.5", ScalarKind::Float),
            ("1e3", ScalarKind::Float),
            (".5", ScalarKind::Float),
            (".inf", ScalarKind::Float),
            ("1.2.3", ScalarKind::Text),
            ("10.0.0.0/8", ScalarKind::Text),
            ("8000-8010", ScalarKind::Text),
            ("2026-12-01", ScalarKind::Text),
            (".", ScalarKind::Text),
            ("-", ScalarKind::Text),
            ("e3", ScalarKind::Text),
            ("1e", ScalarKind::Text),
        ] {
            assert_eq!(kind(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_quoted_scalar_is_text_whatever_it_looks_like() {
        let scalar = Scalar { text: "true".into(), plain: false };
        assert_eq!(scalar.as_str(), Some("true"));
        assert_eq!(scalar.as_bool(), None);
    }
}

//! JSON (RFC 8259) with places, strict: one pass, no back-tracking.
//!
//! Here because inventories are large: `kubectl get -o json` of a big cluster is read at the speed of its bytes.
//! Not here: leniency. Whatever is no JSON is offered to the YAML reader by the caller.

use super::{Entry, Node, Scalar, Value, duplicate_keys};
use crate::diagnostics::{Report, Span, quoted};
use crate::limits::{DEPTH_MAX, DOCUMENTS_MAX};

/// Why a text is not read as JSON.
pub(super) struct Refusal {
    /// True if reading it as YAML would not change the answer.
    pub(super) is_final: bool,
    code: &'static str,
    span: Span,
    message: String,
    /// The limit that was reached, and what to do instead.
    limit: Option<(&'static str, &'static str)>,
}

impl Refusal {
    pub(super) fn report(self, report: &mut Report) {
        match self.limit {
            Some((limit, instead)) => report.over_limit(limit, self.span, self.message, instead),
            None => report.error(self.code, self.span, self.message),
        };
    }
}

/// One value, or several objects in a row.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Refusal> {
    let mut reader = Reader { text, at: 0, line: 1, line_start: 0 };
    let mut documents = Vec::new();
    loop {
        reader.skip_space();
        if reader.at == text.len() {
            return Ok(documents);
        }
        if documents.len() == DOCUMENTS_MAX {
            return Err(reader.over_limit(
                "DOCUMENTS_MAX",
                "split the file",
                format!("more than {DOCUMENTS_MAX} documents"),
            ));
        }
        if !documents.is_empty() && reader.peek() != Some(b'{') {
            return Err(reader.syntax("goes on after its end"));
        }
        documents.push(reader.value(0)?);
    }
}

struct Reader<'a> {
    text: &'a str,
    /// Byte that is read next; always at a character's beginning.
    at: usize,
    line: u32,
    /// Byte at which the line begins.
    line_start: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Node, Refusal> {
        if depth > DEPTH_MAX {
            return Err(self.over_limit(
                "DEPTH_MAX",
                "nest less",
                format!("nested deeper than {DEPTH_MAX} levels"),
            ));
        }
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => {
                let (text, span) = self.string()?;
                Ok(Node { span, value: Value::Scalar(Scalar { text, plain: false }) })
            }
            Some(_) => self.word(),
            None => Err(self.syntax("ends before the value")),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, Refusal> {
        let span = self.span(1);
        let mut entries = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.take(b'}') {
            return Ok(Node { span, value: Value::Map(entries) });
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.syntax("expects a key in double quotes"));
            }
            let (key, key_span) = self.string()?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.syntax("expects `:` after the key"));
            }
            self.skip_space();
            entries.push(Entry { key, key_span, value: self.value(depth + 1)? });
            self.skip_space();
            if self.take(b'}') {
                break;
            }
            if !self.take(b',') {
                return Err(self.syntax("expects `,` or `}`"));
            }
        }
        if let Some((_, second)) = duplicate_keys(&entries).first() {
            let message = format!("key {} is there twice", quoted(&second.key));
            return Err(Refusal {
                is_final: true,
                code: "duplicate-key",
                span: second.key_span,
                message,
                limit: None,
            });
        }
        Ok(Node { span, value: Value::Map(entries) })
    }

    fn list(&mut self, depth: usize) -> Result<Node, Refusal> {
        let span = self.span(1);
        let mut items = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.take(b']') {
            return Ok(Node { span, value: Value::List(items) });
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Node { span, value: Value::List(items) });
            }
            if !self.take(b',') {
                return Err(self.syntax("expects `,` or `]`"));
            }
        }
    }

    fn string(&mut self) -> Result<(String, Span), Refusal> {
        let start = self.at;
        let mut span = self.span(1);
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = rest.iter().take_while(|&&b| b != b'"' && b != b'\\' && b >= 0x20).count();
            text.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => text.push(self.escape()?),
                Some(_) => return Err(self.syntax("has a bare control character in a string")),
                None => return Err(self.syntax("ends inside a string")),
            }
        }
        self.at += 1;
        span.width = narrow(self.text[start..self.at].chars().count());
        Ok((text, span))
    }

    fn escape(&mut self) -> Result<char, Refusal> {
        self.at += 1;
        let Some(letter) = self.peek() else { return Err(self.syntax("ends inside a string")) };
        let character = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.syntax("has an unknown escape in a string")),
        };
        self.at += 1;
        Ok(character)
    }

    /// `\u` with four hexadecimal digits, or two of them for a character beyond the basic plane (RFC 8259 section 7).
    fn unicode_escape(&mut self) -> Result<char, Refusal> {
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.peek() == Some(b'\\') {
            self.at += 1;
            let second = self.hex4()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(self.syntax("has half a surrogate pair in a string"));
            }
            0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.syntax("has half a surrogate pair in a string"))
    }

    fn hex4(&mut self) -> Result<u32, Refusal> {
        if !self.take(b'u') {
            return Err(self.syntax("has half a surrogate pair in a string"));
        }
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(code) = digits.and_then(|d| u32::from_str_radix(d, 16).ok()) else {
            return Err(self.syntax("has a `\\u` without four hexadecimal digits"));
        };
        self.at += 4;
        Ok(code)
    }

    /// `true`, `false`, `null` or a number.
    fn word(&mut self) -> Result<Node, Refusal> {
        let rest = &self.text.as_bytes()[self.at..];
        let length =
            rest.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')).count();
        let word = &self.text[self.at..self.at + length];
        if !matches!(word, "true" | "false" | "null") && !is_number(word) {
            return Err(self.syntax("expects a value"));
        }
        let span = self.span(length);
        self.at += length;
        Ok(Node { span, value: Value::Scalar(Scalar { text: word.to_owned(), plain: true }) })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let hit = self.peek() == Some(byte);
        self.at += usize::from(hit);
        hit
    }

    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.line = self.line.saturating_add(1);
                    self.line_start = self.at + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    fn span(&self, width: usize) -> Span {
        // A line of one file that is a whole cluster is megabytes long: counting its characters for each node
        // would be quadratic, so far to the right the column counts bytes.
        let before = &self.text[self.line_start..self.at];
        let column = if before.len() < 4096 { before.chars().count() } else { before.len() };
        Span { line: self.line, column: narrow(column + 1), width: narrow(width.max(1)) }
    }

    fn syntax(&self, message: &str) -> Refusal {
        self.refuse("syntax", format!("not JSON: {message}"), false)
    }

    fn refuse(&self, code: &'static str, message: String, is_final: bool) -> Refusal {
        Refusal { is_final, code, span: self.span(1), message, limit: None }
    }

    fn over_limit(&self, limit: &'static str, instead: &'static str, message: String) -> Refusal {
        Refusal { limit: Some((limit, instead)), ..self.refuse("limit", message, true) }
    }
}

/// A number by the grammar of RFC 8259 section 6.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (digits, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let some_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    some_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(some_digits)
        && exponent.is_none_or(some_digits)
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

//! The one layout of a document: what `bulkhead policy fmt` writes.
//!
//! Two spaces for each level, items below their key, quotes as the writer set them, comments and single blank lines
//! where they stood. A list or mapping in braces stays so if it fits on its line, else it is broken up. At the
//! top `apiVersion`, `kind`, `metadata` and `spec` come first. Formatting twice changes nothing.

use super::comments::{Comment, Place, Remarks, collect};
use super::{Entry, Node, Scalar, ScalarKind, Value, parse};
use crate::diagnostics::{Diagnostic, Report, Source};
use std::fmt::Write;

/// Columns that a line may have before braces are broken up.
const WIDTH: usize = 110;

/// The text in its one layout; fails with what is wrong if it is no strict YAML, or holds aliases.
pub fn format(source: &Source) -> Result<String, Vec<Diagnostic>> {
    // Every line break that YAML knows becomes the one that is written.
    let text = source
        .text
        .strip_prefix('\u{feff}')
        .unwrap_or(&source.text)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let documents = parse(&Source { name: source.name.clone(), text: text.clone() })?;
    let mut report = Report::new(&*source.name);
    let Some(remarks) = collect(&text, &documents, &mut report) else { return Err(report.finish()) };
    let lines: Vec<&str> = text.lines().collect();
    let mut printer = Printer { remarks, lines, out: String::new() };
    for (index, document) in documents.iter().enumerate() {
        if index > 0 {
            printer.out.push_str("---\n");
        }
        printer.document(document);
        printer.trailing(index);
    }
    if documents.is_empty() {
        printer.trailing(0);
    }
    Ok(printer.out)
}

struct Printer<'a> {
    remarks: Remarks,
    lines: Vec<&'a str>,
    out: String,
}

impl Printer<'_> {
    fn document(&mut self, node: &Node) {
        match &node.value {
            Value::Map(entries) if !entries.is_empty() => {
                let rank = |entry: &&Entry| {
                    let first = ["apiVersion", "kind", "metadata", "spec"];
                    first.iter().position(|name| *name == entry.key).unwrap_or(first.len())
                };
                let mut ordered: Vec<&Entry> = entries.iter().collect();
                ordered.sort_by_key(rank);
                let start = self.out.len();
                ordered.into_iter().for_each(|entry| self.entry(entry, 0));
                // A blank line above the first entry would only move with it.
                let trimmed = self.out[start..].trim_start_matches('\n').to_owned();
                self.out.truncate(start);
                self.out.push_str(&trimmed);
            }
            Value::List(items) if !items.is_empty() => items.iter().for_each(|item| self.item(item, 0)),
            Value::Map(_) | Value::List(_) | Value::Scalar(_) => {
                let text = flow(node);
                self.line(0, &text, None);
            }
        }
    }

    fn trailing(&mut self, document: usize) {
        for comment in self.remarks.trailing(document) {
            self.comment(&comment, 0);
        }
    }

    fn entry(&mut self, entry: &Entry, indent: usize) {
        let place = Place::key(entry.key_span);
        self.before(place, indent);
        let comment = self.remarks.beside(place);
        self.value(&format!("{}:", key(&entry.key)), &entry.value, indent, comment);
    }

    fn item(&mut self, item: &Node, indent: usize) {
        let place = Place::item(item.span);
        self.before(place, indent);
        let comment = self.remarks.beside(place);
        if let Some(entries) = item.as_map().filter(|entries| !entries.is_empty())
            && !self.fits(item, indent + 2)
        {
            // The first key stands beside the dash, and has the comment of its line.
            if let Some(comment) = comment {
                self.remarks.put_beside(Place::key(entries[0].key_span), comment);
            }
            let start = self.out.len();
            entries.iter().for_each(|entry| self.entry(entry, indent + 2));
            self.put_dash(start, indent);
            return;
        }
        self.value("-", item, indent, comment);
    }

    /// Turns the indentation of the first line that is no comment into a dash; comments of the first key go above it.
    fn put_dash(&mut self, start: usize, indent: usize) {
        let block = self.out.split_off(start);
        let mut dashed = false;
        for line in block.lines() {
            let comment = line.trim_start().starts_with('#') || line.trim().is_empty();
            if dashed || line.len() < indent + 2 {
                let _ = writeln!(self.out, "{line}");
            } else if comment {
                let _ = writeln!(self.out, "{:indent$}{}", "", line.trim_start());
            } else {
                let _ = writeln!(self.out, "{:indent$}- {}", "", &line[indent + 2..]);
                dashed = true;
            }
        }
    }

    /// `head` with its value behind it or below it.
    fn value(&mut self, head: &str, node: &Node, indent: usize, comment: Option<String>) {
        match &node.value {
            Value::Scalar(scalar) if scalar.text.contains('\n') => {
                self.block_scalar(head, scalar, indent, comment);
            }
            Value::Scalar(_) => self.head(head, &flow(node), indent, comment),
            Value::List(_) | Value::Map(_) if self.fits(node, indent + head.chars().count() + 1) => {
                self.head(head, &flow(node), indent, comment);
            }
            Value::List(items) => {
                self.line(indent, head, comment);
                items.iter().for_each(|item| self.item(item, indent + 2));
            }
            Value::Map(entries) => {
                self.line(indent, head, comment);
                entries.iter().for_each(|entry| self.entry(entry, indent + 2));
            }
        }
    }

    /// Text of several lines, in literal style where it can be.
    fn block_scalar(&mut self, head: &str, scalar: &Scalar, indent: usize, comment: Option<String>) {
        let text = &scalar.text;
        let printable = text.chars().all(|c| c == '\n' || !c.is_control());
        let literal =
            printable && !text.starts_with([' ', '\n']) && text.lines().all(|line| line.trim_end() == line);
        if !literal || text.ends_with("\n\n") {
            self.head(head, &double_quoted(text), indent, comment);
            return;
        }
        let style = if text.ends_with('\n') { "|" } else { "|-" };
        self.head(head, style, indent, comment);
        for line in text.lines() {
            self.line(if line.is_empty() { 0 } else { indent + 2 }, line, None);
        }
    }

    fn head(&mut self, head: &str, value: &str, indent: usize, comment: Option<String>) {
        let text = if value.is_empty() { head.to_owned() } else { format!("{head} {value}") };
        self.line(indent, &text, comment);
    }

    fn line(&mut self, indent: usize, text: &str, comment: Option<String>) {
        let comment = comment.map(|comment| format!("  {comment}")).unwrap_or_default();
        let _ = writeln!(self.out, "{:indent$}{text}{comment}", "");
    }

    /// Comments above a place, with the blank lines among them.
    fn before(&mut self, place: Place, indent: usize) {
        let above = self.remarks.above(place);
        for comment in &above.comments {
            self.comment(comment, indent);
        }
        if above.blank {
            self.out.push('\n');
        }
    }

    fn comment(&mut self, comment: &Comment, indent: usize) {
        if comment.blank {
            self.out.push('\n');
        }
        self.line(indent, &comment.text, None);
    }

    /// True if a node that was written in braces (or is empty) still fits behind what stands before it.
    fn fits(&self, node: &Node, column: usize) -> bool {
        let empty = node.as_list().is_some_and(<[_]>::is_empty) || node.as_map().is_some_and(<[_]>::is_empty);
        let line = self.lines.get(node.span.line as usize - 1);
        let opening = line.and_then(|line| line.chars().nth(node.span.column as usize - 1));
        let in_braces = matches!(opening, Some('{' | '['));
        empty
            || in_braces
                && !self.remarks.inside(node)
                && !has_lines(node)
                && column + flow(node).chars().count() <= WIDTH
    }
}

/// True if text of several lines is in it.
fn has_lines(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(scalar) => scalar.text.contains('\n'),
        Value::List(items) => items.iter().any(has_lines),
        Value::Map(entries) => entries.iter().any(|entry| has_lines(&entry.value)),
    }
}

/// On one line, in braces.
fn flow(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) => shown_scalar(scalar),
        Value::List(items) => format!("[{}]", items.iter().map(within).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let shown = |entry: &Entry| format!("{}: {}", key(&entry.key), within(&entry.value));
            format!("{{{}}}", entries.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Within braces nothing has to be written out.
fn within(node: &Node) -> String {
    let text = flow(node);
    if text.is_empty() { "null".to_owned() } else { text }
}

fn shown_scalar(scalar: &Scalar) -> String {
    if scalar.plain && is_bare(&scalar.text) { scalar.text.clone() } else { double_quoted(&scalar.text) }
}

fn key(text: &str) -> String {
    let plain = Scalar { text: text.to_owned(), plain: true };
    let reads_alike = matches!(plain.kind(), ScalarKind::Text | ScalarKind::Integer | ScalarKind::Boolean);
    if reads_alike && is_bare(text) && text != "<<" { text.to_owned() } else { double_quoted(text) }
}

/// True if the text needs no quotes, in braces or out of them.
fn is_bare(text: &str) -> bool {
    let inner =
        |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}' | '[' | ']' | ',' | '#' | ':' | '"' | '\'');
    let first = |c: char| !matches!(c, '-' | '?' | '&' | '*' | '!' | '|' | '>' | '%' | '@' | '`' | '<' | '=');
    let Some(head) = text.chars().next() else { return true };
    let words = text.split(' ').all(|word| !word.is_empty() && inner_word(word, inner));
    let signed =
        head == '-' && text.len() > 1 && text[1..].starts_with(|c: char| c.is_ascii_digit() || c == '.');
    words && (first(head) || signed)
}

/// Colons may stand within a word that does not end in one: `group:shop`, `fd00::7`.
fn inner_word(word: &str, inner: impl Fn(char) -> bool) -> bool {
    word.chars().all(|c| inner(c) || c == ':') && !word.ends_with(':') && !word.starts_with(':')
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

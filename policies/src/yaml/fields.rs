//! Typed access to a mapping that collects what is wrong and goes on.
//!
//! Ask for each field by name, then call [`Fields::finish`]: what was not asked for is unknown. Every reader returns
//! `None` both for an absent field and for a refused one; what matters is that the report has the error.

use super::{Entry, Node, Scalar, ScalarKind, Value};
use crate::diagnostics::{Report, Span, nearest, quoted};
use std::ops::RangeInclusive;

/// What a field that is written without a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// The same as if it were not there (Kubernetes).
    Absent,
    /// A slip: half a line was deleted, and "nothing" must not become "any".
    Refused,
}

/// The fields of a mapping.
#[derive(Debug)]
pub struct Fields<'a> {
    entries: &'a [Entry],
    span: Span,
    what: &'a str,
    nulls: Nulls,
    asked: Vec<&'static str>,
    /// Fields without a value that were reported, each once.
    empty: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of a node, reported as `what` (`a rule`) if it is no mapping.
    pub fn open(report: &mut Report, node: &'a Node, what: &'a str, nulls: Nulls) -> Option<Self> {
        let entries = node.as_map();
        if entries.is_none() {
            report.error(
                "wrong-type",
                node.span,
                format!("{what} must be a mapping, not {}", node.kind_name()),
            );
        }
        Some(Self { entries: entries?, span: node.span, what, nulls, asked: Vec::new(), empty: Vec::new() })
    }

    /// Where the mapping begins.
    pub fn span(&self) -> Span {
        self.span
    }

    /// True if the field is written, with or without a value.
    pub fn has(&mut self, name: &'static str) -> bool {
        self.ask(name);
        self.entries.iter().any(|entry| entry.key == name)
    }

    /// The entry of a field.
    pub fn entry(&mut self, report: &mut Report, name: &'static str) -> Option<&'a Entry> {
        self.ask(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        if !entry.value.is_null() {
            return Some(entry);
        }
        if self.nulls == Nulls::Refused && !self.empty.contains(&name) {
            self.empty.push(name);
            report
                .error("empty-field", entry.key_span, format!("field `{name}` has no value"))
                .help("give it a value, or remove the line if it should not count");
        }
        None
    }

    /// The value of a field.
    pub fn get(&mut self, report: &mut Report, name: &'static str) -> Option<&'a Node> {
        self.entry(report, name).map(|entry| &entry.value)
    }

    /// The value of a field that has to be there.
    pub fn required(&mut self, report: &mut Report, name: &'static str) -> Option<&'a Node> {
        let value = self.get(report, name);
        if value.is_none() && !(self.has(name) && self.nulls == Nulls::Refused) {
            report.error("missing-field", self.span, format!("{} needs the field `{name}`", self.what));
        }
        value
    }

    /// A field that is text.
    pub fn text(&mut self, report: &mut Report, name: &'static str) -> Option<&'a str> {
        self.get(report, name)?.expect_text(report, name)
    }

    /// A field that is text and has to be there.
    pub fn required_text(&mut self, report: &mut Report, name: &'static str) -> Option<&'a str> {
        self.required(report, name)?.expect_text(report, name)
    }

    /// A field that is `true` or `false`.
    pub fn boolean(&mut self, report: &mut Report, name: &'static str) -> Option<bool> {
        self.get(report, name)?.expect_boolean(report, name)
    }

    /// A field that is an integer within a range.
    pub fn integer(
        &mut self,
        report: &mut Report,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        self.get(report, name)?.expect_integer(report, name, range)
    }

    /// A field that is a list.
    pub fn list(&mut self, report: &mut Report, name: &'static str) -> Option<&'a [Node]> {
        self.get(report, name)?.expect_list(report, name)
    }

    /// A field that is a list of texts, with their places.
    pub fn texts(&mut self, report: &mut Report, name: &'static str) -> Option<Vec<(&'a str, Span)>> {
        let items = self.list(report, name)?;
        Some(items.iter().filter_map(|item| Some((item.expect_text(report, name)?, item.span))).collect())
    }

    /// A field that is one of a few words.
    pub fn choice<T: Copy>(
        &mut self,
        report: &mut Report,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let node = self.get(report, name)?;
        let text = node.expect_text(report, name)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        report
            .error("bad-value", node.span, format!("`{name}` is {}", quoted(text)))
            .help(format!("write {}", alternatives(&words)));
        None
    }

    fn ask(&mut self, name: &'static str) {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
    }

    /// Accepts fields without reading them.
    pub fn ignore(&mut self, names: &[&'static str]) {
        self.asked.extend(names);
    }

    /// Fields that were not asked for.
    pub fn unknown(&self) -> impl Iterator<Item = &'a Entry> + '_ {
        self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str()))
    }

    /// Reports every field that was not asked for.
    pub fn finish(self, report: &mut Report) {
        for entry in self.unknown() {
            let message = format!("{} has no field {}", self.what, quoted(&entry.key));
            let help = match nearest(&entry.key, self.asked.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known fields: {}", self.asked.join(", ")),
            };
            report.error("unknown-field", entry.key_span, message).help(help);
        }
    }
}

impl Node {
    /// The text of a scalar that is text, or an error on the field `name`.
    pub fn expect_text<'a>(&'a self, report: &mut Report, name: &str) -> Option<&'a str> {
        if let Some(text) = self.as_str() {
            return Some(text);
        }
        let diagnostic =
            report.error("wrong-type", self.span, format!("`{name}` must be text, not {}", self.kind_name()));
        if let Value::Scalar(Scalar { text, .. }) = &self.value
            && !text.is_empty()
        {
            diagnostic.help(format!("quote it: \"{}\"", text.escape_default()));
        }
        None
    }

    /// `true` or `false`, or an error on the field `name`.
    pub fn expect_boolean(&self, report: &mut Report, name: &str) -> Option<bool> {
        let value = self.as_scalar().and_then(Scalar::as_bool);
        if value.is_none() {
            report
                .error(
                    "wrong-type",
                    self.span,
                    format!("`{name}` must be true or false, not {}", self.kind_name()),
                )
                .help("write true or false, without quotes");
        }
        value
    }

    /// An integer within a range, or an error on the field `name`.
    pub fn expect_integer(&self, report: &mut Report, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let (first, last) = (range.start(), range.end());
        let scalar = self.as_scalar().filter(|scalar| scalar.kind() == ScalarKind::Integer);
        let value = scalar.and_then(Scalar::as_integer).filter(|value| range.contains(value));
        if value.is_none() {
            let found = scalar.map_or(self.kind_name().to_owned(), |scalar| quoted(&scalar.text));
            report.error(
                "bad-value",
                self.span,
                format!("`{name}` must be a number from {first} to {last}, not {found}"),
            );
        }
        value
    }

    /// The items of a list, or an error on the field `name`.
    pub fn expect_list<'a>(&'a self, report: &mut Report, name: &str) -> Option<&'a [Self]> {
        let items = self.as_list();
        if items.is_none() {
            report
                .error("wrong-type", self.span, format!("`{name}` must be a list, not {}", self.kind_name()))
                .help(format!("write `{name}: [ … ]`, or one item per line behind `- `"));
        }
        items
    }
}

/// `a`, `a or b`, `a, b or c`, each in backticks.
pub(crate) fn alternatives(words: &[&str]) -> String {
    let ticked: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match ticked.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

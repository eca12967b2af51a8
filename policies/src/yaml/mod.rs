//! Strict YAML and JSON to a tree in which every node knows its place.
//!
//! A scalar keeps its text and whether it was quoted, so that the reader of a field decides by the type
//! that it wants: an unquoted `true` or `1` is no label value, as the Kubernetes API server has it. Refused: duplicate
//! keys, tags, merge keys, mappings as keys, and whatever reaches a limit of [`crate::limits`].
//!
//! Reading order: [`parse`], [`Node`], [`Fields`] (typed access that collects diagnostics).

mod comments;
mod fields;
mod format;
mod json;
mod reader;
mod scalar;

pub(crate) use fields::alternatives;
pub use fields::{Fields, Nulls};
pub use format::format;
pub use scalar::{Scalar, ScalarKind};

use crate::diagnostics::{Diagnostic, Report, Source, Span};
use crate::limits::{INVENTORY_SOURCE_BYTES_MAX, POLICY_SOURCE_BYTES_MAX};

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// A scalar, a list or a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, number, boolean or null.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order of the source, without duplicate keys.
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Value.
    pub value: Node,
}

/// The documents of a policy source; empty ones are left out.
///
/// Fails with what is wrong if it is no strict YAML or larger than [`POLICY_SOURCE_BYTES_MAX`].
pub fn parse(source: &Source) -> Result<Vec<Node>, Vec<Diagnostic>> {
    parse_within(source, POLICY_SOURCE_BYTES_MAX)
}

/// The documents of a source of at most `bytes_max` bytes; empty ones are left out.
///
/// A source called `….json` is JSON and nothing else. Other text that begins with `{` or `[` is read as JSON first, which
/// is many times faster, and as YAML if it is none. Several JSON objects in a row are as many documents.
pub fn parse_within(source: &Source, bytes_max: usize) -> Result<Vec<Node>, Vec<Diagnostic>> {
    let mut report = Report::new(&*source.name);
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    if text.len() > bytes_max {
        let limit = if bytes_max == INVENTORY_SOURCE_BYTES_MAX {
            "INVENTORY_SOURCE_BYTES_MAX"
        } else {
            "POLICY_SOURCE_BYTES_MAX"
        };
        let message = format!("source has {} bytes, at most {bytes_max} are read", text.len());
        report.over_limit(limit, Span::default(), message, "split it into several files");
        return Err(report.finish());
    }
    let is_json = source.name.ends_with(".json");
    let mut refused_as_json = None;
    if is_json || text.trim_start().starts_with(['{', '[']) {
        match json::read(text) {
            Ok(documents) => return Ok(documents),
            Err(refusal) if refusal.is_final || is_json => {
                refusal.report(&mut report);
                return Err(report.finish());
            }
            Err(refusal) => refused_as_json = Some(refusal),
        }
    }
    match reader::read(text, &mut report) {
        Some(documents) if !report.has_errors() => Ok(documents),
        Some(_) => Err(report.finish()),
        None => {
            // Neither: what stands between braces and quotes was probably meant as JSON.
            if let Some(refusal) = refused_as_json.filter(|_| text.trim_start().starts_with("{\"")) {
                report = Report::new(&*source.name);
                refusal.report(&mut report);
            }
            Err(report.finish())
        }
    }
}

impl Node {
    /// The scalar, if it is one.
    pub fn as_scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The items, if it is a list.
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            Value::Scalar(_) | Value::Map(_) => None,
        }
    }

    /// The entries, if it is a mapping.
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// The value of a key, if it is a mapping that has it.
    pub fn child(&self, key: &str) -> Option<&Self> {
        self.as_map()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The text of a scalar that is a string.
    pub fn as_str(&self) -> Option<&str> {
        self.as_scalar().and_then(Scalar::as_str)
    }

    /// True for `null`, `~` and nothing at all.
    pub fn is_null(&self) -> bool {
        self.as_scalar().is_some_and(|scalar| scalar.kind() == ScalarKind::Null)
    }

    /// What it is, for messages: `a list`, `a number`.
    pub fn kind_name(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) => scalar.kind().name(),
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Levels of lists and mappings below and including this one.
    fn height(&self) -> usize {
        match &self.value {
            Value::Scalar(_) => 0,
            Value::List(items) => 1 + items.iter().map(Self::height).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.value.height()).max().unwrap_or(0),
        }
    }

    /// Nodes below and including this one.
    fn size(&self) -> usize {
        match &self.value {
            Value::Scalar(_) => 1,
            Value::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.value.size()).sum::<usize>(),
        }
    }
}

/// Refuses a key that a mapping has twice: readers differ on which one counts.
fn duplicate_keys(entries: &[Entry]) -> Vec<(&Entry, &Entry)> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    sorted.windows(2).filter(|pair| pair[0].key == pair[1].key).map(|pair| (pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests;

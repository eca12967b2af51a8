//! Events of the YAML parser to trees, without recursion and within the limits.
//!
//! The parser checks the grammar; here is refused what has a grammar but no doubtless meaning: duplicate keys, tags,
//! merge keys, mappings or lists as keys, aliases to something that is still open.

use super::{Entry, Node, Scalar, ScalarKind, Value, duplicate_keys};
use crate::diagnostics::{Report, Span, quoted};
use crate::limits::{ALIAS_NODES_MAX, DEPTH_MAX, DOCUMENTS_MAX};
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::BTreeMap;

/// All documents; `None` if the text is no YAML. Errors are in the report.
pub(super) fn read(text: &str, report: &mut Report) -> Option<Vec<Node>> {
    let mut builder =
        Builder { report, open: Vec::new(), documents: Vec::new(), anchors: BTreeMap::new(), expanded: 0 };
    for event in Parser::new_from_str(text) {
        let (event, place) = match event {
            Ok(next) => next,
            Err(error) => {
                let marker = error.marker();
                let span =
                    Span { line: number(marker.line()).max(1), column: number(marker.col()) + 1, width: 1 };
                syntax_error(builder.report, span, error.info(), text);
                return None;
            }
        };
        if !builder.event(event, span_of(place)) {
            return None;
        }
    }
    Some(builder.documents)
}

fn syntax_error(report: &mut Report, span: Span, info: &str, text: &str) {
    if info.contains("recursion limit") {
        report.over_limit("DEPTH_MAX", span, format!("nested deeper than {DEPTH_MAX} levels"), "nest less");
        return;
    }
    let diagnostic = report.error("syntax", span, format!("not YAML: {info}"));
    let line = text.lines().nth(span.line as usize - 1).unwrap_or_default();
    let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
    if indent.contains('\t') {
        diagnostic.help("indent with spaces: YAML allows no tabs there");
    } else if info.contains("flow") {
        diagnostic
            .help("inside of `{…}` and `[…]`, quote a value that contains a bracket, a brace or a comma");
    } else if line.matches(": ").count() > 1 {
        diagnostic.help("quote a value that contains `: `");
    }
}

struct Builder<'r> {
    report: &'r mut Report,
    open: Vec<Open>,
    documents: Vec<Node>,
    anchors: BTreeMap<usize, Anchored>,
    /// Nodes that aliases have stood for so far.
    expanded: usize,
}

/// A finished node that an alias may stand for.
struct Anchored {
    node: Node,
    height: usize,
    size: usize,
}

/// A list or mapping whose end has not come.
struct Open {
    span: Span,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, Span)> },
}

impl Builder<'_> {
    /// False: nothing more can be read.
    fn event(&mut self, event: Event<'_>, span: Span) -> bool {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                let scalar = Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.finished(Node { span, value: Value::Scalar(scalar) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                self.begin(Open { span, anchor, content: Content::List(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span);
                self.begin(Open { span, anchor, content: Content::Map { entries: Vec::new(), key: None } })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                true
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => true,
        }
    }

    fn refuse_tag(&mut self, tagged: bool, span: Span) {
        if tagged {
            self.report
                .error("tag", span, "tags are not read")
                .help("leave the `!…` out and quote the value if it is text");
        }
    }

    fn begin(&mut self, open: Open) -> bool {
        if self.open.len() >= DEPTH_MAX {
            self.report.over_limit(
                "DEPTH_MAX",
                open.span,
                format!("nested deeper than {DEPTH_MAX} levels"),
                "nest less",
            );
            return false;
        }
        if let Some(Open { content: Content::Map { key: None, .. }, .. }) = self.open.last() {
            self.report
                .error("bad-key", open.span, "a list or mapping cannot be a key")
                .help("write the key as text");
            return false;
        }
        self.open.push(open);
        true
    }

    fn end(&mut self) -> bool {
        let Some(Open { span, anchor, content }) = self.open.pop() else { return true };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => {
                self.refuse_duplicates(&entries);
                Value::Map(entries)
            }
        };
        // A block mapping begins where its first key does.
        let span = match &value {
            Value::Map(entries) => entries
                .first()
                .map_or(span, |entry| if entry.key_span.line == span.line { span } else { entry.key_span }),
            Value::Scalar(_) | Value::List(_) => span,
        };
        self.finished(Node { span, value }, anchor)
    }

    fn refuse_duplicates(&mut self, entries: &[Entry]) {
        for (first, second) in duplicate_keys(entries) {
            self.report
                .error(
                    "duplicate-key",
                    second.key_span,
                    format!("key {} is there twice", quoted(&second.key)),
                )
                .help(format!("the first one is on line {}: keep one", first.key_span.line));
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> bool {
        let Some(anchored) = self.anchors.get(&anchor) else {
            self.report.error("alias", span, "an alias stands inside of what it names");
            return false;
        };
        let (node, size) = (anchored.node.clone(), anchored.size);
        if self.open.len() + anchored.height > DEPTH_MAX {
            self.report.over_limit(
                "DEPTH_MAX",
                span,
                format!("nested deeper than {DEPTH_MAX} levels"),
                "nest less",
            );
            return false;
        }
        self.spend(size, span) && self.finished(node, 0)
    }

    /// Counts copies that anchors and aliases make; false when there are too many.
    fn spend(&mut self, nodes: usize, span: Span) -> bool {
        self.expanded += nodes;
        if self.expanded > ALIAS_NODES_MAX {
            self.report.over_limit(
                "ALIAS_NODES_MAX",
                span,
                format!("anchors and aliases stand for more than {ALIAS_NODES_MAX} nodes"),
                "write the values out",
            );
        }
        self.expanded <= ALIAS_NODES_MAX
    }

    /// Puts a whole node where it belongs.
    fn finished(&mut self, node: Node, anchor: usize) -> bool {
        if anchor != 0 {
            let anchored = Anchored { height: node.height(), size: node.size(), node: node.clone() };
            if !self.spend(anchored.size, node.span) {
                return false;
            }
            self.anchors.insert(anchor, anchored);
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => return self.document(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key }) => match key.take() {
                Some((key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                None => {
                    let (span, name) = (node.span, key_text(node));
                    let Some(name) = name else {
                        self.report.error("bad-key", span, "key has no doubtless reading").help("quote it");
                        return false;
                    };
                    *key = Some((name, span));
                }
            },
        }
        true
    }

    fn document(&mut self, node: Node) -> bool {
        if self.documents.len() == DOCUMENTS_MAX {
            self.report.over_limit(
                "DOCUMENTS_MAX",
                node.span,
                format!("more than {DOCUMENTS_MAX} documents"),
                "split the file",
            );
            return false;
        }
        if !node.is_null() {
            self.documents.push(node);
        }
        true
    }
}

/// The text of a key. Integers and booleans are their text, as Kubernetes has it; a merge key, nothing, or what
/// readers spell differently is none.
fn key_text(node: Node) -> Option<String> {
    match node.value {
        Value::Scalar(scalar) => match scalar.kind() {
            ScalarKind::Null => None,
            _ if scalar.plain && scalar.text == "<<" => None,
            ScalarKind::Boolean | ScalarKind::Integer | ScalarKind::Text => Some(scalar.text),
            ScalarKind::Float | ScalarKind::Ambiguous => None,
        },
        Value::List(_) | Value::Map(_) => None,
    }
}

fn span_of(span: saphyr_parser::Span) -> Span {
    let width = if span.start.line() == span.end.line() { span.len().max(1) } else { 1 };
    Span {
        line: number(span.start.line()).max(1),
        column: number(span.start.col()) + 1,
        width: number(width),
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX - 1)
}

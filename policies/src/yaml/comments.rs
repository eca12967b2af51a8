//! Comments and blank lines of a text, each with the key or item that it belongs to.
//!
//! The tree does not hold them. A `#` is a comment where it stands behind white space and outside of every scalar; the
//! scalars' places come from the parser. A comment on a line of its own belongs to what comes next, one behind
//! something to that.

use super::{Node, Value};
use crate::diagnostics::{Report, Span};
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::{BTreeMap, BTreeSet};

/// A key or an item by where it begins; of an item whose first key begins at the same place, the item comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    line: u32,
    column: u32,
    is_key: bool,
}

impl Place {
    pub(super) fn key(span: Span) -> Self {
        Self { line: span.line, column: span.column, is_key: true }
    }

    pub(super) fn item(span: Span) -> Self {
        Self { is_key: false, ..Self::key(span) }
    }
}

/// What stands above a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Above {
    /// Comments on lines of their own.
    pub(super) comments: Vec<Comment>,
    /// Directly above the place is a blank line.
    pub(super) blank: bool,
}

/// A comment on a line of its own.
#[derive(Clone, Debug)]
pub(super) struct Comment {
    /// Above it is a blank line.
    pub(super) blank: bool,
    pub(super) text: String,
}

/// All that was found, to be taken out piece by piece.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    above: BTreeMap<Place, Above>,
    beside: BTreeMap<Place, String>,
    trailing: BTreeMap<usize, Vec<Comment>>,
}

impl Remarks {
    pub(super) fn above(&mut self, place: Place) -> Above {
        self.above.remove(&place).unwrap_or_default()
    }

    pub(super) fn beside(&mut self, place: Place) -> Option<String> {
        self.beside.remove(&place)
    }

    pub(super) fn put_beside(&mut self, place: Place, comment: String) {
        self.beside.insert(place, comment);
    }

    /// Comments behind the last entry of a document.
    pub(super) fn trailing(&mut self, document: usize) -> Vec<Comment> {
        self.trailing.remove(&document).unwrap_or_default()
    }

    /// True if a comment belongs to something within the node.
    pub(super) fn inside(&self, node: &Node) -> bool {
        let mut places = Vec::new();
        places_in(node, &mut places);
        let commented = |place: &Place| {
            self.beside.contains_key(place)
                || self.above.get(place).is_some_and(|above| !above.comments.is_empty())
        };
        places.iter().any(commented)
    }
}

/// Finds them; `None`, reported, if the text holds aliases, which a tree does not show.
pub(super) fn collect(text: &str, documents: &[Node], report: &mut Report) -> Option<Remarks> {
    let hidden = scalars(text, report)?;
    let mut places = Vec::new();
    let mut ends = Vec::new();
    for document in documents {
        places_in(document, &mut places);
        ends.push(places.len());
    }
    let mut order: Vec<Place> = places.clone();
    order.sort_unstable();
    let lines: Vec<&str> = text.lines().collect();
    let mut remarks = Remarks::default();
    let document_of = |line: u32| {
        let before = places.iter().take_while(|place| place.line <= line).count();
        ends.iter().position(|end| before <= *end).unwrap_or(0)
    };
    for (number, line) in (1u32..).zip(&lines) {
        let Some(column) = comment_column(line, number, &hidden) else { continue };
        let comment: String = line.chars().skip(column).collect::<String>().trim_end().to_owned();
        let alone = line.chars().take(column).all(char::is_whitespace);
        let here = order
            .iter()
            .filter(|place| place.line == number)
            .min_by_key(|place| (place.column, !place.is_key));
        if let Some(place) = here.filter(|_| !alone) {
            remarks.beside.insert(*place, comment);
            continue;
        }
        let blank = number > 1 && lines[number as usize - 2].trim().is_empty();
        let comment = Comment { blank, text: comment };
        let next = order.iter().find(|place| place.line > number);
        let reach = next.map_or(lines.len(), |place| place.line as usize);
        let parted = lines[number as usize..reach.max(number as usize)].iter().any(|line| is_separator(line));
        match next.filter(|_| {
            !parted || document_of(number) == 0 && places.first().is_none_or(|first| first.line > number)
        }) {
            Some(place) => remarks.above.entry(*place).or_default().comments.push(comment),
            None => remarks.trailing.entry(document_of(number)).or_default().push(comment),
        }
    }
    blank_lines(&lines, &order, &hidden, &mut remarks);
    Some(remarks)
}

fn is_separator(line: &str) -> bool {
    line == "---" || line.starts_with("--- ") || line == "..."
}

/// Marks the first place of each line that has a blank line above it.
fn blank_lines(lines: &[&str], order: &[Place], hidden: &Hidden, remarks: &mut Remarks) {
    let mut seen = BTreeSet::new();
    for place in order.iter().filter(|place| seen.insert(place.line)) {
        let above = place.line.saturating_sub(1);
        let is_blank = above > 0 && lines[above as usize - 1].trim().is_empty();
        if is_blank && !hidden.lines.contains(&above) {
            remarks.above.entry(*place).or_default().blank = true;
        }
    }
}

/// Where scalars are.
#[derive(Debug, Default)]
struct Hidden {
    /// By line: columns from and to (not included), from 0.
    spans: BTreeMap<u32, Vec<(usize, usize)>>,
    /// Lines in the middle of a scalar.
    lines: BTreeSet<u32>,
}

impl Hidden {
    fn add(&mut self, (first, start): (u32, usize), (last, end): (u32, usize)) {
        for number in first..=last {
            let from = if number == first { start } else { 0 };
            let to = if number == last { end } else { usize::MAX };
            self.spans.entry(number).or_default().push((from, to));
        }
        self.lines.extend(first.saturating_add(1)..last);
    }
}

/// Line, and column behind the quote that closes the scalar which begins at `start`.
fn closing_quote(lines: &[&str], (line, column): (u32, usize), quote: char) -> (u32, usize) {
    let mut from = column + 1;
    for (number, text) in (line..).zip(lines.iter().skip(line as usize - 1)) {
        let mut characters = text.chars().enumerate().skip(from).peekable();
        while let Some((at, character)) = characters.next() {
            let next_is_quote = characters.peek().is_some_and(|(_, next)| *next == quote);
            if quote == '"' && character == '\\' || quote == '\'' && character == quote && next_is_quote {
                characters.next();
            } else if character == quote {
                return (number, at + 1);
            }
        }
        from = 0;
    }
    (line, usize::MAX)
}

fn scalars(text: &str, report: &mut Report) -> Option<Hidden> {
    let lines: Vec<&str> = text.lines().collect();
    let mut hidden = Hidden::default();
    for event in Parser::new_from_str(text) {
        let Ok((event, place)) = event else { return Some(hidden) };
        let line = |marker: saphyr_parser::Marker| u32::try_from(marker.line()).unwrap_or(u32::MAX);
        match event {
            Event::Alias(_) => {
                let column = u32::try_from(place.start.col()).unwrap_or(u32::MAX - 1) + 1;
                let span = Span { line: line(place.start), column, width: 1 };
                report
                    .error("alias", span, "a text with aliases is not formatted")
                    .help("write the value out");
                return None;
            }
            Event::Scalar(_, style, ..) => {
                let start = (line(place.start), place.start.col());
                let end = match style {
                    // The parser's end of a quoted scalar lies behind the white space and comment after it.
                    ScalarStyle::SingleQuoted => closing_quote(&lines, start, '\''),
                    ScalarStyle::DoubleQuoted => closing_quote(&lines, start, '"'),
                    ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => {
                        (line(place.end), place.end.col())
                    }
                };
                hidden.add(start, end);
            }
            _ => {}
        }
    }
    Some(hidden)
}

/// The column, from 0, of the `#` that begins the comment of a line.
fn comment_column(line: &str, number: u32, hidden: &Hidden) -> Option<usize> {
    let spans = hidden.spans.get(&number).map(Vec::as_slice).unwrap_or_default();
    let mut before = ' ';
    for (column, character) in line.chars().enumerate() {
        let covered = spans.iter().any(|(from, to)| *from <= column && column < *to);
        if character == '#' && before.is_whitespace() && !covered {
            return Some(column);
        }
        before = character;
    }
    None
}

fn places_in(node: &Node, found: &mut Vec<Place>) {
    match &node.value {
        Value::Scalar(_) => {}
        Value::List(items) => {
            for item in items {
                found.push(Place::item(item.span));
                places_in(item, found);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                found.push(Place::key(entry.key_span));
                places_in(&entry.value, found);
            }
        }
    }
}

//! What is wrong with a document, where, and what to write instead.
//!
//! Everything that reads documents collects [`Diagnostic`]s in a [`Report`] and goes on, so that one run
//! shows all there is to mend. A diagnostic is plain text plus a place; [`Diagnostic::render`] adds the
//! source line with a caret. Machine formats: [`crate::diagnostics::formats`].

pub mod formats;

use crate::limits::{self, DIAGNOSTICS_MAX, QUOTE_CHARS_MAX};
use std::fmt;

/// One file, or standard input, with its whole text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Name as the user gave it; appears in every diagnostic.
    pub name: String,
    /// Text.
    pub text: String,
}

/// How grave a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The whole set is refused.
    Error,
    /// The set is used, but it probably does not say what was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place in a source: line and column from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// Characters that are meant, at least 1, all on this line.
    pub width: u32,
}

impl Default for Span {
    /// The beginning of the source.
    fn default() -> Self {
        Self { line: 1, column: 1, width: 1 }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable name of the kind of finding, for example `unknown-field`.
    pub code: &'static str,
    /// Name of the source.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// Characters that are meant.
    pub width: u32,
    /// What is wrong.
    pub message: String,
    /// A few words beside the caret.
    pub label: Option<String>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Adds words beside the caret.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// Adds what to write instead.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// The place.
    pub fn span(&self) -> Span {
        Span { line: self.line, column: self.column, width: self.width }
    }

    /// The diagnostic with the source line and a caret below it, ending in a line break.
    pub fn render(&self, sources: &[Source]) -> String {
        let mut out = format!(
            "{}[{}]: {}\n  --> {}:{}:{}\n",
            self.severity.as_str(),
            self.code,
            self.message,
            self.file,
            self.line,
            self.column
        );
        let line = sources
            .iter()
            .find(|source| source.name == self.file)
            .and_then(|source| self.source_line(source));
        if let Some(line) = line {
            out.push_str(&self.excerpt(line));
        }
        if let Some(help) = &self.help {
            out.push_str(&format!("  help: {help}\n"));
        }
        out
    }

    fn source_line<'a>(&self, source: &'a Source) -> Option<&'a str> {
        source.text.lines().nth(self.line as usize - 1)
    }

    /// The line with its number, and a caret line below. Long lines are cut around the caret.
    fn excerpt(&self, line: &str) -> String {
        const SHOWN: usize = 100;
        let column = self.column as usize - 1;
        let skipped = if column > SHOWN / 2 && line.chars().count() > SHOWN { column - SHOWN / 2 } else { 0 };
        let shown: String = line.chars().skip(skipped).take(SHOWN).map(plain).collect();
        let shown = shown.trim_end();
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(column - skipped);
        let room = shown.chars().count().saturating_sub(column - skipped).max(1);
        let width = (self.width as usize).min(quoted_width(line, column).unwrap_or(usize::MAX));
        let carets = "^".repeat(width.clamp(1, room));
        let label = self.label.as_deref().map(|label| format!(" {label}")).unwrap_or_default();
        format!(" {margin} |\n {number} | {shown}\n {margin} | {indent}{carets}{label}\n")
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, code, file, line, column, message, .. } = self;
        write!(f, "{file}:{line}:{column}: {}[{code}]: {message}", severity.as_str())?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// True if one of them is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

/// Collects the findings of one source.
///
/// At most [`DIAGNOSTICS_MAX`] of each severity are kept; what comes after is dropped, which never
/// turns a refused source into an accepted one.
#[derive(Clone, Debug, Default)]
pub struct Report {
    file: String,
    diagnostics: Vec<Diagnostic>,
    counts: [usize; 2],
    spare: Option<Diagnostic>,
}

impl Report {
    /// An empty report on the source of that name.
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), ..Self::default() }
    }

    /// Adds an error.
    pub fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, code, span, message.into())
    }

    /// Adds an error for something larger than a limit, by the limit's name in [`crate::limits`]: what to do instead, and
    /// where the limit is raised.
    pub fn over_limit(
        &mut self,
        limit: &'static str,
        span: Span,
        message: impl Into<String>,
        instead: &str,
    ) -> &mut Diagnostic {
        self.error("limit", span, message).help(limits::help(limit, instead))
    }

    /// Adds a warning.
    pub fn warning(&mut self, code: &'static str, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Warning, code, span, message.into())
    }

    /// True if an error was added.
    pub fn has_errors(&self) -> bool {
        self.counts[0] > 0
    }

    /// Errors so far: whether a part is sound is whether the number grew while reading it.
    pub fn error_count(&self) -> usize {
        self.counts[0]
    }

    /// Name of the source.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What was found, in the order of the source.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        self.diagnostics
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        span: Span,
        message: String,
    ) -> &mut Diagnostic {
        let diagnostic = Diagnostic {
            severity,
            code,
            file: self.file.clone(),
            line: span.line,
            column: span.column,
            width: span.width,
            message,
            label: None,
            help: None,
        };
        let count = &mut self.counts[severity as usize];
        *count += 1;
        if *count > DIAGNOSTICS_MAX {
            return self.spare.insert(diagnostic);
        }
        self.diagnostics.push(diagnostic);
        let last = self.diagnostics.len() - 1;
        &mut self.diagnostics[last]
    }
}

/// Input for a message: in backticks, control characters escaped, cut at [`QUOTE_CHARS_MAX`].
pub fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    for (count, character) in text.chars().enumerate() {
        if count == QUOTE_CHARS_MAX {
            out.push('…');
            break;
        }
        match character {
            '`' => out.push('\''),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('`');
    out
}

/// Characters from a quote to the one that closes it: the parser counts what stands behind it as well.
fn quoted_width(line: &str, column: usize) -> Option<usize> {
    let mut characters = line.chars().skip(column);
    let quote = characters.next().filter(|character| matches!(character, '"' | '\''))?;
    let mut escaped = false;
    let closing = characters.position(|character| {
        let closes = character == quote && !escaped;
        escaped = character == '\\' && quote == '"' && !escaped;
        closes
    });
    closing.map(|inner| inner + 2)
}

/// A terminal must not be steered by a document.
fn plain(character: char) -> char {
    match character {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// The candidate nearest to what was written, if it is near enough to be a slip.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written_lower = written.to_ascii_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(written.len()) <= 3 && written.len() <= 64)
        .map(|candidate| (distance(&written_lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(steps, candidate)| *steps <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, remove, replace, swap of neighbours) between two short texts.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Diagnostic {
        let mut report = Report::new("a.yaml");
        report
            .error("unknown-field", Span { line: 2, column: 3, width: 4 }, "unknown field `prot`")
            .label("not a field of a rule")
            .help("did you mean `ports`?");
        report.finish().remove(0)
    }

    #[test]
    fn a_diagnostic_prints_its_place_first() {
        let text = sample().to_string();
        assert_eq!(
            text,
            "a.yaml:2:3: error[unknown-field]: unknown field `prot`\n  help: did you mean `ports`?"
        );
    }

    #[test]
    fn a_caret_stands_below_what_is_meant() {
        let source = Source { name: "a.yaml".into(), text: "spec:\n  prot: [1]\n".into() };
        let expected = "error[unknown-field]: unknown field `prot`\n  --> a.yaml:2:3\n   |\n 2 |   prot: [1]\n   |   ^^^^ not a field of a rule\n  help: did you mean `ports`?\n";
        assert_eq!(sample().render(&[source]), expected);
    }

    #[test]
    fn a_source_cannot_steer_the_terminal() {
        let source = Source { name: "a.yaml".into(), text: "\n\x1b[2Jx: y".into() };
        assert!(!sample().render(&[source]).contains('\x1b'));
        assert_eq!(quoted("a\x1b\n`"), r"`a\u{1b}\n'`");
    }

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_does_not() {
        let fields = ["ports", "from", "http", "name"];
        assert_eq!(nearest("prots", fields), Some("ports"));
        assert_eq!(nearest("Form", fields), Some("from"));
        assert_eq!(nearest("telnet", fields), None);
    }

    #[test]
    fn dropped_errors_still_count_as_errors() {
        let mut report = Report::new("a");
        for _ in 0..DIAGNOSTICS_MAX + 5 {
            report.warning("w", Span::default(), "w");
        }
        report.error("e", Span::default(), "e").help("h");
        assert!(report.has_errors());
        let found = report.finish();
        assert!(has_errors(&found));
        assert_eq!(found.len(), DIAGNOSTICS_MAX + 1);
    }
}

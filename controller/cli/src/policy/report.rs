//! Findings and outcomes to text, JSON, SARIF, workflow commands and JUnit.

use super::Format;
use bulkhead_policies::cases::Outcome;
use bulkhead_policies::compile::{CompileError, CompileWarning};
use bulkhead_policies::diagnostics::{Diagnostic, Report, Severity, Source, Span, formats};
use bulkhead_policies::documents::Places;
use std::fmt::Write;

/// Text on standard output. Whoever reads it may have read enough: then the rest is nobody's.
pub(super) fn put(text: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    if let Err(error) = std::io::stdout().lock().write_fmt(text)
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("error: cannot write to standard output: {error}");
    }
}

/// Prints findings; in text with the source lines, on standard error.
pub(super) fn print(format: Format, diagnostics: &[Diagnostic], sources: &[Source]) {
    match format {
        Format::Text | Format::Junit => {
            for diagnostic in diagnostics {
                eprintln!("{}", diagnostic.render(sources));
            }
        }
        Format::Json => say!("{:#}", formats::to_json(diagnostics)),
        Format::Sarif => say!("{:#}", formats::to_sarif(diagnostics, env!("CARGO_PKG_VERSION"))),
        Format::Github => say_raw!("{}", formats::to_github(diagnostics)),
    }
}

/// One message about something that is no document, and the exit code for it.
pub(super) fn refuse(error: &dyn std::fmt::Display) -> u8 {
    eprintln!("error: {error}");
    super::BAD_INPUT
}

/// How many errors and warnings.
pub(super) fn counts(diagnostics: &[Diagnostic]) -> (usize, usize) {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    (errors, diagnostics.len() - errors)
}

/// What the compiler refuses, at the place of the collection if it is about one.
pub(super) fn compile_errors(errors: &[CompileError], places: &Places, file: &str) -> Vec<Diagnostic> {
    errors
        .iter()
        .flat_map(|error| {
            let place = match error {
                CompileError::TwoCollections { second, .. } => places.collection(second).cloned(),
                CompileError::OutOfPlace { policy, .. } => places.policy(policy),
                CompileError::TooMany { .. } => None,
            };
            let (file, span) =
                place.map_or((file.to_owned(), Span::default()), |place| (place.file, place.span));
            let mut report = Report::new(file);
            report.error("not-compiled", span, error.to_string());
            report.finish()
        })
        .collect()
}

/// What the compiler warns of. It is about workloads, so it stands at the beginning of the inventory.
pub(super) fn compile_warnings(warnings: &[CompileWarning], file: &str) -> Vec<Diagnostic> {
    let mut report = Report::new(file);
    for warning in warnings {
        match warning {
            CompileWarning::NoProgram(error) => {
                report.error("not-compiled", Span::default(), error.to_string());
            }
            CompileWarning::ServicePartlyAllowed { .. } => {
                report.warning("service-partly-allowed", Span::default(), warning.to_string());
            }
            CompileWarning::ServiceInspectedDifferently { .. } => {
                report.warning("service-inspected-differently", Span::default(), warning.to_string());
            }
            CompileWarning::QuestionsOpen { .. } => {
                report.warning("questions-open", Span::default(), warning.to_string());
            }
            CompileWarning::ContestedAddress { .. } => {
                report.warning("contested-address", Span::default(), warning.to_string());
            }
        }
    }
    report.finish()
}

/// Outcomes as JUnit XML: one suite for each `PolicyTest`.
pub(super) fn junit(outcomes: &[Outcome]) -> String {
    let failures = outcomes.iter().filter(|outcome| !outcome.problems.is_empty()).count();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{}\" failures=\"{failures}\">\n",
        outcomes.len()
    );
    for suite in outcomes.chunk_by(|a, b| a.suite == b.suite && a.place.file == b.place.file) {
        let failures = suite.iter().filter(|outcome| !outcome.problems.is_empty()).count();
        let (name, file) = (xml(&suite[0].suite), xml(&suite[0].place.file));
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" file=\"{file}\" tests=\"{}\" failures=\"{failures}\">",
            suite.len()
        );
        for outcome in suite {
            junit_case(&mut out, outcome, &name);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn junit_case(out: &mut String, outcome: &Outcome, suite: &str) {
    let (name, file, line) = (xml(&outcome.case), xml(&outcome.place.file), outcome.place.span.line);
    let head = format!("    <testcase name=\"{name}\" classname=\"{suite}\" file=\"{file}\" line=\"{line}\"");
    match outcome.problems.first() {
        None => {
            let _ = writeln!(out, "{head}/>");
        }
        Some(first) => {
            let text: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
            let (message, text) = (xml(&first.message), xml(&text.join("\n")));
            let _ = writeln!(
                out,
                "{head}>\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>"
            );
        }
    }
}

/// Text in XML 1.0: its markup escaped, what it cannot hold replaced.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_policies::documents::Place;

    fn outcome(case: &str, problem: Option<&str>) -> Outcome {
        let mut report = Report::new("a.yaml");
        if let Some(problem) = problem {
            report.error("case-differs", Span::default(), problem);
        }
        let place = Place { file: "a.yaml".into(), span: Span { line: 7, column: 1, width: 1 } };
        Outcome { suite: "shop".into(), case: case.into(), place, flows: 1, problems: report.finish() }
    }

    #[test]
    fn junit_counts_and_escapes() {
        let text = junit(&[outcome("a < b", None), outcome("c", Some("must be \"allow\" & is\u{1b} deny"))]);
        assert!(text.contains("<testsuites tests=\"2\" failures=\"1\">"));
        assert!(text.contains("<testcase name=\"a &lt; b\" classname=\"shop\" file=\"a.yaml\" line=\"7\"/>"));
        assert!(text.contains("<failure message=\"must be &quot;allow&quot; &amp; is\u{fffd} deny\">"));
    }
}

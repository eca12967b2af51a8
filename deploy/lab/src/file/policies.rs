//! The policies of a lab file, checked as the controller will check them, with places in the lab file.

use super::LabFile;
use super::reader::Places;
use crate::addresses::Plan;
use crate::collections::{Mode, documents};
use crate::inventory;
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::{Diagnostic, Report, Source, has_errors};
use bulkhead_policies::documents::{load, load_inventory};

/// Name of the source that holds the collections, which never appears: they are written by us.
const COLLECTIONS: &str = "collections";

/// Findings on the policies of a lab file whose parts fit together.
pub(super) fn check(source: &Source, lab: &LabFile, places: &Places) -> Vec<Diagnostic> {
    let policies = Source { name: source.name.clone(), text: lab.policies.clone() };
    let own = load(std::slice::from_ref(&policies));
    let mut found = moved(own.diagnostics, source, places);
    if has_errors(&found) {
        return found;
    }
    let mut report = Report::new(&source.name);
    if !own.set.collections.is_empty() {
        report
            .error(
                "misplaced",
                places.policies,
                "the lab changes the mode of its collections, so it has to write them",
            )
            .help("describe the collection under `collections`, at the top of the lab file");
    } else {
        compile(&mut report, lab, places, policies);
    }
    found.extend(report.finish());
    found
}

fn compile(report: &mut Report, lab: &LabFile, places: &Places, policies: Source) {
    let collections = Source { name: COLLECTIONS.into(), text: documents(&lab.collections, Mode::Enforce) };
    let all = load(&[policies, collections]);
    for diagnostic in all.diagnostics.iter().filter(|d| d.file == COLLECTIONS) {
        report.error("bad-collection", places.file, diagnostic.message.clone());
    }
    if all.has_errors() {
        return;
    }
    let files = inventory::files(lab, &Plan::new(lab));
    let files: Vec<Source> =
        files.into_iter().map(|(name, text)| Source { name: name.into(), text }).collect();
    match load_inventory(&files) {
        Err(diagnostics) => {
            for diagnostic in diagnostics {
                report.error(
                    "bad-inventory",
                    places.file,
                    format!("{}: {}", diagnostic.file, diagnostic.message),
                );
            }
        }
        Ok(inventory) => {
            for error in Compiler::new(&all.set, &inventory).err().unwrap_or_default() {
                report.error("does-not-compile", places.file, error.to_string());
            }
        }
    }
}

/// Diagnostics on the text of `policies` with their places in the lab file. Texts in block style keep their lines
/// and are indented; of others only the beginning is known.
fn moved(diagnostics: Vec<Diagnostic>, source: &Source, places: &Places) -> Vec<Diagnostic> {
    let begins = places.policies;
    let opens = source.text.lines().nth((begins.line as usize).saturating_sub(2)).unwrap_or_default();
    let block = ["|", "|-", "|+"].iter().any(|mark| opens.trim_end().ends_with(mark));
    let place = |line: u32, column: u32| match block {
        true => (line + begins.line - 1, column + begins.column - 1),
        false => (begins.line, begins.column),
    };
    diagnostics
        .into_iter()
        .map(|mut diagnostic| {
            (diagnostic.line, diagnostic.column) = place(diagnostic.line, diagnostic.column);
            diagnostic
        })
        .collect()
}

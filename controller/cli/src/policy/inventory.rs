//! Where inventory comes from: what `kubectl get … -o yaml` prints, or a lab file.
//!
//! A lab file describes pods and no objects, so it is brought into the shape that the lab tells its controller.

use super::{BAD_INPUT, Format, read, report};
use bulkhead_lab::addresses::Plan;
use bulkhead_lab::{file, inventory};
use bulkhead_policies::diagnostics::Source;
use std::path::PathBuf;

/// Where inventory is read from.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct InventoryArguments {
    /// Inventory: output of `kubectl get namespaces,pods,services,endpointslices,nodes -A -o yaml` (or json), a folder of
    /// such files, or a lab file; `-` is standard input
    #[arg(long = "inventory", value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

impl InventoryArguments {
    /// The sources, lab files among them as objects. What is wrong is printed, and the exit code comes back.
    pub(super) fn sources(&self) -> Result<Vec<Source>, u8> {
        let sources = read::sources(&self.files).map_err(|error| report::refuse(&error))?;
        let mut found = Vec::new();
        for source in sources {
            if is_lab_file(&source.text) {
                found.extend(of_lab(&source)?);
            } else {
                found.push(source);
            }
        }
        Ok(found)
    }
}

/// A lab file is one document with `pods` and without a kind.
fn is_lab_file(text: &str) -> bool {
    let has = |field: &str| text.lines().any(|line| line.starts_with(field));
    has("pods:") && !has("apiVersion:") && !has("kind:")
}

fn of_lab(source: &Source) -> Result<Vec<Source>, u8> {
    let (lab, _) = file::read(source).map_err(|found| {
        report::print(Format::Text, &found, std::slice::from_ref(source));
        BAD_INPUT
    })?;
    let files = inventory::files(&lab, &Plan::new(&lab)).into_iter();
    Ok(files.map(|(name, text)| Source { name: format!("{} of {}", name, source.name), text }).collect())
}

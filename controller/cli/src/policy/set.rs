//! Policies and inventory of one question, loaded and compiled, or refused with all that is wrong.

use super::{BAD_INPUT, DateArguments, Format, InventoryArguments, read, report};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::{Diagnostic, Source};
use bulkhead_policies::documents::{self, Loaded};
use bulkhead_policies::inventory::Inventory;
use std::path::PathBuf;

/// A sound set with its inventory.
pub(super) struct Set {
    pub(super) loaded: Loaded,
    pub(super) inventory: Inventory,
    pub(super) sources: Vec<Source>,
}

impl Set {
    /// Reads both; what is wrong is printed, and the exit code comes back.
    pub(super) fn read(
        policies: &[PathBuf],
        inventory: &InventoryArguments,
        date: DateArguments,
    ) -> Result<Self, u8> {
        let (sources, mut loaded) = load(policies)?;
        let stock = inventory.sources()?;
        // Without a file of its own the inventory stands beside the policies.
        let objects = if stock.is_empty() { &sources } else { &stock };
        let inventory = inventory_of(objects).map_err(|found| {
            report::print(Format::Text, &found, objects);
            BAD_INPUT
        })?;
        if loaded.has_errors() {
            return Err(BAD_INPUT);
        }
        date.hold(&mut loaded);
        if inventory.pods.is_empty() {
            return Err(report::refuse(
                &"the inventory has no pod: give `--inventory FILE` with the output of `kubectl get namespaces,pods,services,endpointslices,nodes -A -o yaml`",
            ));
        }
        Ok(Self { loaded, inventory, sources })
    }

    /// Other policies over the same inventory.
    pub(super) fn beside(&self, policies: &[PathBuf], date: DateArguments) -> Result<Self, u8> {
        let (sources, mut loaded) = load(policies)?;
        if loaded.has_errors() {
            return Err(BAD_INPUT);
        }
        date.hold(&mut loaded);
        Ok(Self { loaded, inventory: self.inventory.clone(), sources })
    }

    /// The compiler of the set; what it refuses is printed.
    pub(super) fn compiler(&self) -> Result<Compiler<'_>, u8> {
        Compiler::new(&self.loaded.set, &self.inventory).map_err(|errors| {
            let file = self.sources.first().map_or("", |source| source.name.as_str());
            let found = report::compile_errors(&errors, &self.loaded.places, file);
            report::print(Format::Text, &found, &self.sources);
            BAD_INPUT
        })
    }
}

/// Reads policies and prints what is wrong with them.
fn load(policies: &[PathBuf]) -> Result<(Vec<Source>, Loaded), u8> {
    let sources = read::sources(policies).map_err(|error| report::refuse(&error))?;
    let loaded = documents::load(&sources);
    report::print(Format::Text, &loaded.diagnostics, &sources);
    Ok((sources, loaded))
}

/// Reads the inventory; pods that do not run yet are asked about with stand-ins.
pub(super) fn inventory_of(objects: &[Source]) -> Result<Inventory, Vec<Diagnostic>> {
    let mut inventory = documents::load_inventory(objects)?;
    if let Some((first, rest)) = inventory.lend_addresses().split_first() {
        let others = match rest.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        eprintln!(
            "note: no address yet: pod `{}/{}`{others}; asked with stand-ins of 198.18.0.0/15 and 2001:2::/48, or the node's",
            first.namespace, first.name
        );
    }
    Ok(inventory)
}

//! The page for operators says what the program says: its flags, its routes, its metrics.

use crate::config::Config;
use crate::metrics::Metrics;
use bulkhead_api::rest::OPENAPI;
use clap::CommandFactory;
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/OPERATING.md");
const HEADING: &str = "## The controller: `bulkhead-controller`";

#[test]
fn every_flag_of_the_help_is_on_the_page_with_its_variable_and_no_other() {
    let command = Config::command();
    let known = command.get_arguments().filter_map(|flag| {
        let long = flag.get_long().filter(|long| !matches!(*long, "help" | "version"))?;
        let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Some((format!("--{long}"), variable))
    });
    let known: BTreeSet<_> = known.collect();
    assert!(known.len() > 10, "{known:?}");
    let shown = rows().filter_map(|cells| {
        let flag = cells[0].split(' ').next().filter(|flag| flag.starts_with("--"))?;
        Some((flag.to_owned(), cells[1].clone()))
    });
    assert_eq!(shown.collect::<BTreeSet<_>>(), known);
}

#[test]
fn every_route_is_on_the_page_and_no_other() {
    let document: serde_json::Value = serde_json::from_str(OPENAPI).expect("JSON");
    let paths = document["paths"].as_object().expect("an object");
    let served = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("an object").keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let shown =
        rows().map(|cells| cells[0].clone()).filter(|call| call.contains(" /api/")).collect::<BTreeSet<_>>();
    assert_eq!(shown, served.collect());
}

#[test]
fn every_metric_is_on_the_page_with_its_labels_and_no_other() {
    let metrics = Metrics::new().expect("no name twice");
    metrics.world(&crate::world::World::default());
    metrics.enrolled(true);
    metrics.program_answered(true);
    metrics.batch_taken(1, false);
    metrics.answered(200);
    let text = metrics.text().expect("text");
    let served = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, labels) = line.split_once(['{', ' '])?;
        let label = labels.split_once("=\"").map(|(label, _)| label).unwrap_or_default();
        Some((name.to_owned(), label.to_owned()))
    });
    let shown = rows()
        .filter(|cells| cells[0].starts_with("bulkhead_controller_"))
        .map(|cells| (cells[0].clone(), cells[1].split(':').next().unwrap_or_default().to_owned()));
    assert_eq!(shown.collect::<BTreeSet<_>>(), served.collect());
}

/// The rows of the tables below the controller's heading, without the marks of code.
fn rows() -> impl Iterator<Item = Vec<String>> {
    let (_, part) = PAGE.split_once(HEADING).expect("the heading is there");
    part.lines().filter(|line| line.starts_with("| ")).map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    })
}

//! Lab files that are wrong, each with the place and the remedy that a person sees.

use super::*;
use bulkhead_policies::diagnostics::{Severity, Source};

const GOOD: &str = "\
namespaces:
  - {name: a, labels: {team: a}}
pods:
  - {name: web, namespace: a, labels: {app: web}, ports: [{name: http, port: 80}], command: [bulkhead]}
services:
  - {name: web, namespace: a, selector: {app: web}, ports: [{port: 80}]}
traffic:
  - {name: t, from: a/web, command: [bulkhead]}
";

fn read_text(text: &str) -> Result<(LabFile, Vec<Diagnostic>), Vec<Diagnostic>> {
    read(&Source { name: "lab.yaml".into(), text: text.into() })
}

/// Changes the good file and expects one error at that place, with these words in message or help.
#[track_caller]
fn refused(from: &str, to: &str, (line, column): (u32, u32), words: &[&str]) {
    assert!(GOOD.contains(from), "`{from}` is not in the good file");
    let found = read_text(&GOOD.replacen(from, to, 1)).expect_err("the file is refused");
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    let errors: Vec<_> = found.iter().filter(|d| d.severity == Severity::Error).collect();
    assert_eq!((errors[0].line, errors[0].column), (line, column), "{text:#?}");
    for word in words {
        assert!(text[0].contains(word), "`{word}` is not in {text:#?}");
    }
}

#[test]
fn a_good_file_is_read_whole() {
    let (lab, warnings) = read_text(GOOD).expect("a good file");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(lab.pods[0].full_name(), "a/web");
    assert_eq!(lab.pods[0].pod_names().collect::<Vec<_>>(), ["web-0"]);
    assert_eq!(lab.services[0].ports_of(L4Protocol::TCP), [(80, 80)]);
    assert_eq!(lab.collections[0].name, "lab");
}

#[test]
fn the_labs_that_we_ship_are_good() {
    for text in [SHOP, include_str!("../../real.yaml")] {
        let (lab, warnings) = read_text(text).expect("a lab of ours");
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(!lab.compromised.is_empty() && !lab.traffic.is_empty());
    }
}

#[test]
fn an_unknown_field_is_named_with_the_nearest_known_one() {
    refused("ports: [{name: http", "port: [{name: http", (4, 51), &["`port`", "did you mean `ports`"]);
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_what_to_write() {
    refused("port: 80}], command", "port: eighty}], command", (4, 78), &["`port`", "1 to 65535"]);
    refused("command: [bulkhead]}\nservices", "command: [7]}\nservices", (4, 94), &["quote it", "\"7\""]);
    refused("command: [bulkhead]}\nservices", "command: []}\nservices", (4, 93), &["names no program"]);
}

#[test]
fn a_name_that_leads_nowhere_is_named_with_those_that_exist() {
    refused("namespace: a, labels: {app", "namespace: b, labels: {app", (4, 5), &["`b`", "write one of: a"]);
    refused("from: a/web", "from: a/wbe", (8, 5), &["`a/wbe`", "write one of: a/web"]);
    refused("selector: {app: web}", "selector: {app: x}", (6, 5), &["selects no pod"]);
}

#[test]
fn a_name_that_cannot_be_one_is_refused() {
    refused(
        "name: web, namespace: a, labels",
        "name: Web_1, namespace: a, labels",
        (4, 12),
        &["`Web_1`", "lower-case"],
    );
}

#[test]
fn what_is_there_twice_is_named_with_its_first_place() {
    let pod = "  - {name: web, namespace: a, labels: {app: web}}\nservices:";
    refused("services:", pod, (5, 5), &["`a/web`", "line 4"]);
}

#[test]
fn files_of_pods_stay_below_tmp_and_run() {
    for path in ["/etc/passwd", "/tmp/../etc/x", "/run/bin/bulkhead", "/tmp", "relative"] {
        let files = format!("command: [bulkhead], files: {{{path}: x}}}}\nservices");
        refused("command: [bulkhead]}\nservices", &files, (4, 113), &["cannot have a file", "/tmp/"]);
    }
}

#[test]
fn an_outside_host_has_one_address_of_each_family_outside_of_the_cluster() {
    let host = |addresses: &str| format!("outside:\n  - {{name: x, addresses: {addresses}}}\nservices:");
    refused("services:", &host("[203.0.113.1]"), (6, 26), &["an IPv4 and an IPv6 address"]);
    refused("services:", &host("[203.0.113.1, 203.0.113.2]"), (6, 40), &["one address of each family"]);
    refused("services:", &host("[10.77.1.1, \"2001:db8::1\"]"), (6, 5), &["own cluster"]);
    refused("services:", &host("[nowhere, \"2001:db8::1\"]"), (6, 27), &["`nowhere` is no IP address"]);
}

#[test]
fn policies_are_checked_with_their_place_in_the_lab_file() {
    let policies = "policies: |\n  apiVersion: bulkhead.dev/v1alpha1\n  kind: SegmentPolicy\n  metadata: {name: p, namespace: a}\n  \
                    spec:\n    workload: {app: web}\n    ingress: []\ntraffic:";
    refused("traffic:", policies, (12, 5), &["`workload`", "did you mean `workloads`"]);
    let collection = "policies: |\n  apiVersion: bulkhead.dev/v1alpha1\n  kind: Collection\n  metadata: {name: c}\n  \
                      spec: {covers: {namespaces: {}}, owners: [\"group:x\"], mode: enforce}\ntraffic:";
    refused("traffic:", collection, (8, 3), &["under `collections`"]);
}

#[test]
fn two_collections_that_cover_one_pod_do_not_compile() {
    let two = "collections:\n  - {name: one, namespaces: {team: a}}\n  - {name: two, namespaces: {team: a}}\ntraffic:";
    refused("traffic:", two, (1, 1), &["one", "two"]);
}

#[test]
fn a_file_that_is_no_yaml_or_holds_nothing_is_refused() {
    for (text, word) in [
        ("", "empty"),
        ("pods: [", "lab.yaml:"),
        ("- a\n", "must be a mapping"),
        ("namespaces: []\n", "`pods`"),
    ] {
        let found = read_text(text).expect_err("refused");
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(text[0].contains(word), "`{word}` is not in {text:?}");
    }
}

#[test]
fn more_pods_than_a_machine_carries_are_refused() {
    let pod = |n: usize| format!("  - {{name: p{n}, namespace: a, replicas: 20}}\n");
    let pods: String = (0..11).map(pod).collect();
    refused("services:", &format!("{pods}services:"), (1, 1), &["221 pods", "200"]);
}

#[test]
fn a_rendered_diagnostic_shows_place_line_and_remedy() {
    let source = Source {
        name: "lab.yaml".into(),
        text: GOOD.replace("replicas", "x").replace("ports: [{name", "port: [{name"),
    };
    let found = read(&source).expect_err("refused");
    let text = render(&found, &source);
    assert!(text.starts_with("lab.yaml:4:51: error[unknown-field]:"), "{text}");
    assert!(text.contains("^^^^") && text.contains("did you mean"), "{text}");
}

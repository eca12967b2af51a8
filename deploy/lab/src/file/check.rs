//! What shows only when the parts of a lab file are compared: names that lead nowhere, things that are there twice.

use super::reader::Places;
use super::{LabFile, PodSpec};
use crate::addresses::CLUSTER_BLOCKS;
use crate::limits::PLACES_MAX;
use bulkhead_policies::diagnostics::{Report, Span};
use std::collections::{BTreeMap, BTreeSet};

/// Compares names with what they refer to.
pub(super) fn references(report: &mut Report, lab: &LabFile, places: &Places) {
    names_are_unique(report, lab, places);
    namespaces_exist(report, lab, places);
    services_select_pods(report, lab, places);
    outside_addresses_are_outside(report, lab, places);
    let pods: BTreeSet<String> = lab.pods.iter().map(PodSpec::full_name).collect();
    for (traffic, span) in lab.traffic.iter().zip(&places.traffic) {
        known(report, &pods, &traffic.from, *span, "pod");
    }
    for (name, span) in lab.compromised.iter().zip(&places.compromised) {
        known(report, &pods, name, *span, "pod");
    }
    prizes_exist(report, lab, places, &pods);
    let count = lab.pods.iter().map(|p| p.replicas).sum::<usize>() + lab.outside.len();
    if count > PLACES_MAX {
        let message = format!("{count} pods and hosts are more than the {PLACES_MAX} that a lab can have");
        report.error("too-many", places.file, message).help("take away pods or replicas");
    }
}

fn names_are_unique(report: &mut Report, lab: &LabFile, places: &Places) {
    let pods = lab.pods.iter().map(PodSpec::full_name).zip(&places.pods);
    let services = lab.services.iter().map(|s| format!("{}/{}", s.namespace, s.name)).zip(&places.services);
    let hosts = lab.outside.iter().map(|h| h.name.clone()).zip(&places.outside);
    let traffic = lab.traffic.iter().map(|t| t.name.clone()).zip(&places.traffic);
    let collections = lab.collections.iter().map(|c| c.name.clone()).zip(&places.collections);
    unique(report, "collection", collections);
    unique(report, "pod", pods);
    unique(report, "Service", services);
    unique(report, "outside host", hosts);
    unique(report, "traffic", traffic);
}

fn unique<'a>(report: &mut Report, what: &str, names: impl Iterator<Item = (String, &'a Span)>) {
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    for (name, span) in names {
        if let Some(first) = seen.get(&name) {
            let message = format!("{what} `{name}` is there twice, first on line {}", first.line);
            report.error("duplicate", *span, message).help("give it another name");
        } else {
            seen.insert(name, *span);
        }
    }
}

fn namespaces_exist(report: &mut Report, lab: &LabFile, places: &Places) {
    let pods = lab.pods.iter().map(|p| &p.namespace).zip(&places.pods);
    let services = lab.services.iter().map(|s| &s.namespace).zip(&places.services);
    let namespaces: BTreeSet<String> = lab.namespaces.keys().cloned().collect();
    for (namespace, span) in pods.chain(services) {
        known(report, &namespaces, namespace, *span, "namespace");
    }
}

fn services_select_pods(report: &mut Report, lab: &LabFile, places: &Places) {
    for (service, span) in lab.services.iter().zip(&places.services) {
        if !lab.pods.iter().any(|pod| service.selects(pod)) {
            report
                .error("selects-nothing", *span, format!("Service `{}` selects no pod", service.name))
                .help(format!("give a pod of namespace `{}` the labels of its selector", service.namespace));
        }
    }
}

fn outside_addresses_are_outside(report: &mut Report, lab: &LabFile, places: &Places) {
    let mut seen = BTreeMap::new();
    for (host, span) in lab.outside.iter().zip(&places.outside) {
        for address in host.addresses {
            if CLUSTER_BLOCKS.iter().any(|block| block.contains(address)) {
                report
                    .error("bad-value", *span, format!("`{address}` is an address of the lab's own cluster"))
                    .help("use 192.0.2.0/24, 203.0.113.0/24 or 2001:db8::/32 for hosts outside");
            }
            if let Some(other) = seen.insert(address, host.name.clone()) {
                report.error("duplicate", *span, format!("`{address}` already belongs to host `{other}`"));
            }
        }
    }
}

fn prizes_exist(report: &mut Report, lab: &LabFile, places: &Places, pods: &BTreeSet<String>) {
    let services: BTreeSet<String> =
        lab.services.iter().map(|s| format!("{}/{}", s.namespace, s.name)).collect();
    let hosts: BTreeSet<String> = lab.outside.iter().map(|host| host.name.clone()).collect();
    let prizes = &lab.prizes;
    for (field, name, names, what) in [
        ("allowedService", &prizes.allowed_service, &services, "Service"),
        ("forbiddenService", &prizes.forbidden_service, &services, "Service"),
        ("database", &prizes.database, pods, "pod"),
        ("redis", &prizes.redis, &services, "Service"),
        ("postgres", &prizes.postgres, &services, "Service"),
        ("tls", &prizes.tls, &hosts, "host outside"),
    ] {
        if let Some(span) = places.prizes.get(field) {
            known(report, names, name, *span, what);
        }
    }
}

fn known(report: &mut Report, names: &BTreeSet<String>, name: &str, span: Span, what: &str) {
    if names.contains(name) {
        return;
    }
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    let help = match list.as_slice() {
        [] => format!("the file has no {what}"),
        list => format!("write one of: {}", list.join(", ")),
    };
    report.error("missing-reference", span, format!("there is no {what} `{name}`")).help(help);
}

//! YAML to a [`LabFile`], field by field, collecting everything that is wrong.

use super::{
    CollectionSpec, HostSpec, LabFile, PodSpec, PortSpec, PrizesSpec, ProgramSpec, ServicePortSpec,
    ServiceSpec, TrafficSpec, check, policies,
};
use crate::limits::LAB_FILE_BYTES_MAX;
use bulkhead_facts::L4Protocol;
use bulkhead_policies::diagnostics::{Diagnostic, Report, Source, Span, has_errors};
use bulkhead_policies::yaml::{self, Fields, Node, Nulls};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

const PROTOCOLS: &[(&str, L4Protocol)] =
    &[("TCP", L4Protocol::TCP), ("UDP", L4Protocol::UDP), ("SCTP", L4Protocol::SCTP)];

/// Reads and checks a lab file. Warnings do not stop it and are given with the file.
pub fn read(source: &Source) -> Result<(LabFile, Vec<Diagnostic>), Vec<Diagnostic>> {
    let documents = yaml::parse_within(source, LAB_FILE_BYTES_MAX)?;
    let mut report = Report::new(&source.name);
    let mut lab = LabFile::default();
    let mut places = Places::default();
    match documents.as_slice() {
        [document] => {
            read_document(&mut report, document, &mut lab, &mut places);
        }
        [] => {
            report.error("empty-file", Span::default(), "a lab file describes pods, and this one is empty");
        }
        [_, second, ..] => {
            report
                .error("several-documents", second.span, "a lab file is one YAML document")
                .help("remove the `---` between the documents");
        }
    }
    check::references(&mut report, &lab, &places);
    let mut diagnostics = report.finish();
    if !has_errors(&diagnostics) {
        diagnostics.extend(policies::check(source, &lab, &places));
    }
    if has_errors(&diagnostics) { Err(diagnostics) } else { Ok((lab, diagnostics)) }
}

/// Where the parts of a lab file stand, for errors that show only when parts are compared.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) file: Span,
    pub(super) collections: Vec<Span>,
    pub(super) pods: Vec<Span>,
    pub(super) services: Vec<Span>,
    pub(super) outside: Vec<Span>,
    pub(super) traffic: Vec<Span>,
    pub(super) compromised: Vec<Span>,
    pub(super) prizes: BTreeMap<&'static str, Span>,
    pub(super) policies: Span,
}

fn read_document(report: &mut Report, node: &Node, lab: &mut LabFile, places: &mut Places) -> Option<()> {
    let mut fields = Fields::open(report, node, "a lab file", Nulls::Refused)?;
    places.file = fields.span();
    for item in fields.list(report, "namespaces").unwrap_or_default() {
        if let Some((name, labels)) = read_namespace(report, item)
            && lab.namespaces.insert(name.clone(), labels).is_some()
        {
            report.error("duplicate", item.span, format!("namespace `{name}` is there twice"));
        }
    }
    let collections = fields.list(report, "collections").unwrap_or_default();
    (lab.collections, places.collections) = read_all(report, collections, read_collection);
    if !fields.has("collections") {
        let everything = CollectionSpec { name: "lab".into(), ..CollectionSpec::default() };
        lab.collections.push(everything);
        places.collections.push(fields.span());
    }
    let pods =
        fields.required(report, "pods").and_then(|n| n.expect_list(report, "pods")).unwrap_or_default();
    (lab.pods, places.pods) = read_all(report, pods, read_pod);
    let services = fields.list(report, "services").unwrap_or_default();
    (lab.services, places.services) = read_all(report, services, read_service);
    let outside = fields.list(report, "outside").unwrap_or_default();
    (lab.outside, places.outside) = read_all(report, outside, read_host);
    let traffic = fields.list(report, "traffic").unwrap_or_default();
    (lab.traffic, places.traffic) = read_all(report, traffic, read_traffic);
    for (name, span) in fields.texts(report, "compromised").unwrap_or_default() {
        lab.compromised.push(name.to_owned());
        places.compromised.push(span);
    }
    if let Some(prizes) = fields.get(report, "prizes") {
        read_prizes(report, prizes, &mut lab.prizes, &mut places.prizes);
    }
    if let Some(policies) = fields.get(report, "policies") {
        places.policies = policies.span;
        lab.policies = policies.expect_text(report, "policies").unwrap_or_default().to_owned();
    }
    fields.finish(report);
    Some(())
}

fn read_all<T>(
    report: &mut Report,
    items: &[Node],
    read: impl Fn(&mut Report, &Node) -> Option<T>,
) -> (Vec<T>, Vec<Span>) {
    items.iter().filter_map(|item| Some((read(report, item)?, item.span))).unzip()
}

fn read_namespace(report: &mut Report, node: &Node) -> Option<(String, BTreeMap<String, String>)> {
    let mut fields = Fields::open(report, node, "a namespace", Nulls::Refused)?;
    let name = required_name(report, &mut fields, "name");
    let labels = read_texts(report, &mut fields, "labels");
    fields.finish(report);
    Some((name?, labels))
}

fn read_collection(report: &mut Report, node: &Node) -> Option<CollectionSpec> {
    let mut fields = Fields::open(report, node, "a collection", Nulls::Refused)?;
    let name = required_name(report, &mut fields, "name");
    let namespaces = read_texts(report, &mut fields, "namespaces");
    let owners = fields.texts(report, "owners").unwrap_or_default();
    let owners = owners.into_iter().map(|(owner, _)| owner.to_owned()).collect();
    let infrastructure = fields.texts(report, "infrastructure");
    let infrastructure =
        infrastructure.map(|names| names.into_iter().map(|(name, _)| name.to_owned()).collect());
    fields.finish(report);
    Some(CollectionSpec { name: name?, namespaces, owners, infrastructure })
}

fn read_pod(report: &mut Report, node: &Node) -> Option<PodSpec> {
    let mut fields = Fields::open(report, node, "a pod", Nulls::Refused)?;
    let name = required_name(report, &mut fields, "name");
    let namespace = required_name(report, &mut fields, "namespace");
    let labels = read_texts(report, &mut fields, "labels");
    let service_account = fields.text(report, "serviceAccount").unwrap_or("default").to_owned();
    let replicas = fields.integer(report, "replicas", 1..=20).unwrap_or(1);
    let ports = read_ports(report, &mut fields);
    let ready = fields.integer(report, "ready", 1..=65535).and_then(|port| u16::try_from(port).ok());
    let program = read_program(report, &mut fields);
    fields.finish(report);
    Some(PodSpec {
        name: name?,
        namespace: namespace?,
        labels,
        service_account,
        replicas: usize::try_from(replicas).ok()?,
        ports,
        program,
        ready,
    })
}

fn read_host(report: &mut Report, node: &Node) -> Option<HostSpec> {
    let mut fields = Fields::open(report, node, "an outside host", Nulls::Refused)?;
    let name = required_name(report, &mut fields, "name");
    let addresses = fields.required(report, "addresses").and_then(|n| read_addresses(report, n));
    let ports = read_ports(report, &mut fields);
    let program = read_program(report, &mut fields);
    fields.finish(report);
    Some(HostSpec { name: name?, addresses: addresses?, ports, program })
}

fn read_addresses(report: &mut Report, node: &Node) -> Option<[IpAddr; 2]> {
    let items = node.expect_list(report, "addresses")?;
    let mut found: [Option<IpAddr>; 2] = [None, None];
    for item in items {
        let text = item.expect_text(report, "addresses")?;
        let Ok(address) = text.parse::<IpAddr>() else {
            report.error("bad-value", item.span, format!("`{text}` is no IP address"));
            return None;
        };
        if found[usize::from(address.is_ipv6())].replace(address).is_some() {
            report.error("duplicate", item.span, "an outside host has one address of each family");
            return None;
        }
    }
    match found {
        [Some(v4), Some(v6)] => Some([v4, v6]),
        _ => {
            report
                .error("missing-field", node.span, "an outside host needs an IPv4 and an IPv6 address")
                .help("write `addresses: [203.0.113.10, \"2001:db8::10\"]`");
            None
        }
    }
}

fn read_program(report: &mut Report, fields: &mut Fields<'_>) -> ProgramSpec {
    let command = fields.get(report, "command");
    let command = command.map(|node| command_of(report, node)).unwrap_or_default();
    let environment = read_texts(report, fields, "environment");
    let mut files = BTreeMap::new();
    for entry in fields.get(report, "files").and_then(|n| map_of(report, n, "files")).unwrap_or_default() {
        if let Some(text) = entry.value.expect_text(report, &entry.key)
            && let Some(path) = file_path(report, &entry.key, entry.key_span)
        {
            files.insert(path, text.to_owned());
        }
    }
    ProgramSpec { command, environment, files }
}

/// Below `/tmp` or `/run`, and not `/run/bin`, where our own programs are.
fn file_path(report: &mut Report, text: &str, span: Span) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let inside = ["/tmp", "/run"].iter().any(|top| path.starts_with(top) && path != Path::new(top));
    if plain && inside && !path.starts_with("/run/bin") {
        return Some(path.to_owned());
    }
    report
        .error("bad-value", span, format!("a pod cannot have a file at `{text}`"))
        .help("write a path below `/tmp/` or `/run/`, without `..`");
    None
}

fn command_of(report: &mut Report, node: &Node) -> Vec<String> {
    let Some(items) = node.expect_list(report, "command") else { return Vec::new() };
    if items.is_empty() {
        report
            .error("empty-field", node.span, "`command` names no program")
            .help("write `command: [program, argument]`, or leave it out");
    }
    items.iter().filter_map(|item| item.expect_text(report, "command")).map(ToOwned::to_owned).collect()
}

fn read_ports(report: &mut Report, fields: &mut Fields<'_>) -> Vec<PortSpec> {
    let items = fields.list(report, "ports").unwrap_or_default();
    items.iter().filter_map(|item| read_port(report, item)).collect()
}

fn read_port(report: &mut Report, node: &Node) -> Option<PortSpec> {
    let mut fields = Fields::open(report, node, "a port", Nulls::Refused)?;
    let name = fields.text(report, "name").unwrap_or_default().to_owned();
    let port = port_number(report, &mut fields, "port");
    let protocol = fields.choice(report, "protocol", PROTOCOLS).unwrap_or(L4Protocol::TCP);
    fields.finish(report);
    Some(PortSpec { name, port: port?, protocol })
}

fn read_service(report: &mut Report, node: &Node) -> Option<ServiceSpec> {
    let mut fields = Fields::open(report, node, "a Service", Nulls::Refused)?;
    let name = required_name(report, &mut fields, "name");
    let namespace = required_name(report, &mut fields, "namespace");
    let selector = fields.required(report, "selector");
    let selector = selector.map(|node| texts_of(report, node, "selector")).unwrap_or_default();
    let ports =
        fields.required(report, "ports").and_then(|n| n.expect_list(report, "ports")).unwrap_or_default();
    let ports = ports.iter().filter_map(|item| read_service_port(report, item)).collect();
    fields.finish(report);
    Some(ServiceSpec { name: name?, namespace: namespace?, selector, ports })
}

fn read_service_port(report: &mut Report, node: &Node) -> Option<ServicePortSpec> {
    let mut fields = Fields::open(report, node, "a port of a Service", Nulls::Refused)?;
    let name = fields.text(report, "name").unwrap_or_default().to_owned();
    let port = port_number(report, &mut fields, "port");
    let target = fields.integer(report, "targetPort", 1..=65535).and_then(|p| u16::try_from(p).ok());
    let protocol = fields.choice(report, "protocol", PROTOCOLS).unwrap_or(L4Protocol::TCP);
    fields.finish(report);
    Some(ServicePortSpec { name, port: port?, target: target.or(port)?, protocol })
}

fn read_traffic(report: &mut Report, node: &Node) -> Option<TrafficSpec> {
    let mut fields = Fields::open(report, node, "traffic", Nulls::Refused)?;
    let name = required_name(report, &mut fields, "name");
    let from = fields.required_text(report, "from");
    let command = fields.required(report, "command");
    let command = command.map(|node| command_of(report, node)).unwrap_or_default();
    let expect = fields.text(report, "expect").unwrap_or_default().to_owned();
    let repeat = fields.integer(report, "repeat", 1..=10_000).unwrap_or(1);
    fields.finish(report);
    Some(TrafficSpec {
        name: name?,
        from: from?.to_owned(),
        command,
        expect,
        repeat: usize::try_from(repeat).ok()?,
    })
}

fn read_prizes(
    report: &mut Report,
    node: &Node,
    prizes: &mut PrizesSpec,
    places: &mut BTreeMap<&'static str, Span>,
) -> Option<()> {
    let mut fields = Fields::open(report, node, "prizes", Nulls::Refused)?;
    for (field, value) in [
        ("allowedService", &mut prizes.allowed_service),
        ("allowedPath", &mut prizes.allowed_path),
        ("adminPath", &mut prizes.admin_path),
        ("forbiddenService", &mut prizes.forbidden_service),
        ("database", &mut prizes.database),
    ] {
        if let Some(node) = fields.required(report, field) {
            places.insert(field, node.span);
            node.expect_text(report, field).unwrap_or_default().clone_into(value);
        }
    }
    for (field, value) in [
        ("redis", &mut prizes.redis),
        ("redisKeys", &mut prizes.redis_keys),
        ("postgres", &mut prizes.postgres),
        ("postgresUser", &mut prizes.postgres_user),
        ("postgresDatabase", &mut prizes.postgres_database),
        ("tls", &mut prizes.tls),
    ] {
        if let Some(node) = fields.get(report, field) {
            places.insert(field, node.span);
            node.expect_text(report, field).unwrap_or_default().clone_into(value);
        }
    }
    fields.finish(report);
    Some(())
}

fn read_texts(report: &mut Report, fields: &mut Fields<'_>, name: &'static str) -> BTreeMap<String, String> {
    let node = fields.get(report, name);
    node.map(|node| texts_of(report, node, name)).unwrap_or_default()
}

fn texts_of(report: &mut Report, node: &Node, name: &'static str) -> BTreeMap<String, String> {
    let entries = map_of(report, node, name).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            Some((entry.key.clone(), entry.value.expect_text(report, &entry.key)?.to_owned()))
        })
        .collect()
}

fn map_of<'a>(report: &mut Report, node: &'a Node, name: &str) -> Option<&'a [yaml::Entry]> {
    let entries = node.as_map();
    if entries.is_none() {
        report.error(
            "wrong-type",
            node.span,
            format!("`{name}` must be a mapping, not {}", node.kind_name()),
        );
    }
    entries
}

fn port_number(report: &mut Report, fields: &mut Fields<'_>, name: &'static str) -> Option<u16> {
    let node = fields.required(report, name)?;
    node.expect_integer(report, name, 1..=65535).and_then(|port| u16::try_from(port).ok())
}

/// A name as Kubernetes has it for namespaces and hosts: RFC 1123 label, at most 50 characters here.
fn required_name(report: &mut Report, fields: &mut Fields<'_>, name: &'static str) -> Option<String> {
    let node = fields.required(report, name)?;
    let text = node.expect_text(report, name)?;
    let plain = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if plain && !text.is_empty() && text.len() <= 50 && !text.starts_with('-') && !text.ends_with('-') {
        return Some(text.to_owned());
    }
    report
        .error("bad-value", node.span, format!("`{text}` cannot be a `{name}`"))
        .help("use at most 50 lower-case letters, digits and `-`, with no `-` at either end");
    None
}

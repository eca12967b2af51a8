//! The description of the HTTP API says what the types are: the same fields, and the same words in closed lists.

use bulkhead_api::rest::{self, OPENAPI};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

#[test]
fn every_type_has_exactly_the_fields_that_are_described() {
    let evidence = rest::Evidence::default();
    let samples: Vec<(&str, Value)> = vec![
        ("Problem", json(rest::Problem { error: text(), help: text(), diagnostics: vec![] })),
        ("Diagnostic", json(diagnostic())),
        ("Refusal", json(rest::Refusal { at_ms: 0, diagnostics: vec![] })),
        ("CollectionState", json(collection_state())),
        ("PolicyState", json(policy_state())),
        ("InventoryState", json(inventory_state())),
        ("Status", json(status())),
        ("SidecarStatus", json(sidecar())),
        ("PolicyDocument", json(rest::PolicyDocument { kind: text(), namespace: None, name: text() })),
        ("PolicyFile", json(rest::PolicyFile { file: text(), text: text(), documents: vec![] })),
        ("AuditEntry", json(audit())),
        ("JoinTokenRequest", json(rest::JoinTokenRequest { uid: text() })),
        ("JoinToken", json(rest::JoinToken { token: text(), expires_ms: 0 })),
        ("Party", json(party())),
        ("HttpSummary", json(http())),
        ("TlsSummary", json(rest::TlsSummary { server_name: None, lowest: text(), encrypted: false })),
        ("RedisSummary", json(rest::RedisSummary { command: text(), key_prefix: None, database: None })),
        (
            "PostgresSummary",
            json(rest::PostgresSummary { user: text(), database: text(), statements: vec![] }),
        ),
        ("KafkaSummary", json(rest::KafkaSummary { api: 0, topics: vec![] })),
        ("RuleSummary", json(rule())),
        ("SeenBy", json(rest::SeenBy::default())),
        ("FlowEdge", json(flow())),
        ("VerdictCount", json(verdict())),
        ("Attempt", json(attempt())),
        ("Reach", json(rest::Reach { target: party(), ports: vec![] })),
        ("Incident", json(incident())),
        ("ProposalRequest", json(rest::ProposalRequest { collection: text() })),
        ("Evidence", json(&evidence)),
        ("RuleEvidence", json(rule_evidence(evidence))),
        ("Proposal", json(proposal())),
    ];
    let schemas = schemas();
    for (name, sample) in &samples {
        let described = keys(&schemas[name]["properties"]);
        assert_eq!(keys(sample), described, "{name}");
        let required: BTreeSet<String> = strings(&schemas[name]["required"]);
        assert_eq!(required, described, "{name}: every field is always there");
    }
    let closed_lists = BTreeSet::from(["Effect", "RequestSummary", "Side"].map(str::to_owned));
    let sampled: BTreeSet<String> = samples.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(&keys(&schemas) - &sampled, closed_lists, "every schema is compared");
}

#[test]
fn closed_lists_hold_the_words_that_are_sent() {
    use rest::{IncidentKind as Kind, PartyKind, ProposalState};
    let schemas = schemas();
    let kinds = [
        Kind::SidecarTampering,
        Kind::MetadataAccess,
        Kind::PortScan,
        Kind::Sweep,
        Kind::L7Probing,
        Kind::Exfiltration,
        Kind::LateralMovement,
        Kind::NewEdge,
        Kind::Flood,
    ];
    for kind in kinds {
        assert_eq!(json(kind), Value::from(kind.as_str()));
    }
    let parties = [PartyKind::Workload, PartyKind::Service, PartyKind::Node, PartyKind::Outside];
    let states = [
        ProposalState::Open,
        ProposalState::Applied,
        ProposalState::ApprovedNotApplied,
        ProposalState::Superseded,
    ];
    let cases = [
        (&schemas["Incident"]["properties"]["kind"], words(kinds)),
        (&schemas["Party"]["properties"]["kind"], words(parties)),
        (&schemas["Proposal"]["properties"]["state"], words(states)),
        (&schemas["Effect"], words([rest::Effect::Allow, rest::Effect::Deny])),
        (&schemas["Side"], words([rest::Side::Source, rest::Side::Destination])),
    ];
    for (schema, sent) in cases {
        assert_eq!(strings(&schema["enum"]), sent);
    }
}

#[test]
fn every_kind_of_request_is_described_under_its_name() {
    let described = schemas()["RequestSummary"]["oneOf"].as_array().expect("alternatives").clone();
    let names: BTreeSet<String> = described
        .iter()
        .flat_map(|alternative| match alternative.get("enum") {
            Some(words) => strings(words),
            None => keys(&alternative["properties"]),
        })
        .collect();
    let tls = rest::TlsSummary { server_name: None, lowest: text(), encrypted: false };
    let postgres = rest::PostgresSummary { user: text(), database: text(), statements: vec![] };
    let sent = [
        rest::RequestSummary::Tls(tls),
        rest::RequestSummary::Redis(rest::RedisSummary { command: text(), key_prefix: None, database: None }),
        rest::RequestSummary::Postgres(postgres),
        rest::RequestSummary::Kafka(rest::KafkaSummary { api: 0, topics: vec![] }),
        rest::RequestSummary::Others,
    ];
    let sent: BTreeSet<String> = sent
        .into_iter()
        .flat_map(|request| match json(request) {
            Value::String(word) => BTreeSet::from([word]),
            object => keys(&object),
        })
        .collect();
    assert_eq!(sent, names);
}

#[test]
fn every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 20, "there are references to check");
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn schemas() -> Value {
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    document["components"]["schemas"].clone()
}

fn json(value: impl Serialize) -> Value {
    serde_json::to_value(value).expect("serialises")
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().expect("an object").keys().cloned().collect()
}

fn strings(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().expect("a list");
    list.iter().map(|item| item.as_str().expect("a string").to_owned()).collect()
}

fn words<T: Serialize>(values: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    values.into_iter().map(|value| json(value).as_str().expect("a string").to_owned()).collect()
}

fn collect_references(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
            fields.values().for_each(|field| collect_references(field, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn text() -> String {
    "text".to_owned()
}

fn diagnostic() -> rest::Diagnostic {
    rest::Diagnostic {
        severity: text(),
        code: text(),
        file: text(),
        line: 1,
        column: 1,
        message: text(),
        help: text(),
    }
}

fn policy_state() -> rest::PolicyState {
    rest::PolicyState {
        revision: 0,
        loaded_ms: 0,
        policies: 0,
        collections: vec![],
        held: vec![],
        warnings: vec![],
        refused: None,
    }
}

fn collection_state() -> rest::CollectionState {
    rest::CollectionState {
        name: text(),
        mode: text(),
        canary: 100,
        pods_enforcing: 0,
        pods_audited: 0,
        pods_observed: 0,
    }
}

fn inventory_state() -> rest::InventoryState {
    rest::InventoryState { namespaces: 0, pods: 0, services: 0, nodes: 0, refused: None }
}

fn status() -> rest::Status {
    rest::Status {
        version: text(),
        started_ms: 0,
        policy: policy_state(),
        inventory: inventory_state(),
        sidecars_attached: 0,
        sidecars_current: 0,
        flows_dropped: 0,
    }
}

fn sidecar() -> rest::SidecarStatus {
    rest::SidecarStatus {
        namespace: text(),
        pod: text(),
        uid: text(),
        workload: text(),
        attached: true,
        version: text(),
        capability: text(),
        weaknesses: vec![text()],
        revision: 0,
        revision_wanted: 0,
        mode: text(),
        error: None,
        last_seen_ms: 0,
        connections_open: 0,
        tampering: 0,
        flows_dropped: 0,
    }
}

fn audit() -> rest::AuditEntry {
    rest::AuditEntry { at_ms: 0, actor: text(), action: text(), subject: text(), detail: text() }
}

fn party() -> rest::Party {
    rest::Party { kind: rest::PartyKind::Workload, namespace: Some(text()), name: text() }
}

fn http() -> rest::HttpSummary {
    rest::HttpSummary { method: text(), path: text(), host: text(), status: 2 }
}

fn rule() -> rest::RuleSummary {
    rest::RuleSummary { tier: text(), policy: text(), rule: text(), direction: text() }
}

fn flow() -> rest::FlowEdge {
    rest::FlowEdge {
        source: party(),
        destination: party(),
        via_service: None,
        protocol: text(),
        port: 0,
        http: None,
        request: None,
        application: text(),
        verdict: rest::Effect::Allow,
        reason: text(),
        rule: None,
        shadow_verdict: rest::Effect::Allow,
        shadow_reason: text(),
        shadow_rule: None,
        seen_by: rest::SeenBy::default(),
        count: 0,
        bytes_to_destination: 0,
        bytes_to_source: 0,
        first_seen_ms: 0,
        last_seen_ms: 0,
    }
}

fn verdict() -> rest::VerdictCount {
    rest::VerdictCount {
        source: party(),
        destination: party(),
        protocol: text(),
        port: 0,
        http: None,
        request: None,
        denied_by: rest::Side::Source,
        enforced: true,
        reason: text(),
        rule: None,
        revision: 0,
        sender_uid: None,
        report_id: None,
        count: 0,
        first_seen_ms: 0,
        last_seen_ms: 0,
    }
}

fn attempt() -> rest::Attempt {
    rest::Attempt {
        target: party(),
        protocol: text(),
        port: 0,
        http: None,
        request: None,
        stopped_by: rest::Side::Source,
        reason: text(),
        rule: None,
        count: 0,
    }
}

fn incident() -> rest::Incident {
    rest::Incident {
        id: text(),
        kind: rest::IncidentKind::Sweep,
        title: text(),
        attacker: party(),
        attacker_pods: vec![],
        targets: vec![],
        targets_more: 0,
        attempts: vec![],
        attempts_more: 0,
        blocked: true,
        count: 0,
        first_seen_ms: 0,
        last_seen_ms: 0,
        technique: text(),
        technique_name: text(),
        blast_radius: vec![],
        smallest_change: None,
    }
}

fn rule_evidence(evidence: rest::Evidence) -> rest::RuleEvidence {
    rest::RuleEvidence { policy: text(), direction: text(), rule: text(), summary: text(), evidence }
}

fn proposal() -> rest::Proposal {
    rest::Proposal {
        id: 0,
        collection: text(),
        created_ms: 0,
        state: rest::ProposalState::Open,
        document: text(),
        policies: 0,
        rules: vec![],
        held_back: vec![],
        decided_ms: None,
        written_to: None,
    }
}

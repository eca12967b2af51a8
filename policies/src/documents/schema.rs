//! The shape of our own kinds as data: JSON Schema for editors, and custom resource definitions for a cluster.
//!
//! Written beside the readers and compared with them by a test: a field that one of them knows and the other does not
//! fails it. Schemas say the shape only; what a document means is the readers' to judge.

mod companions;

use super::API_VERSION;
use serde_json::{Map, Value, json};

/// Kinds that a schema is written for.
pub const SCHEMA_KINDS: [&str; 5] = super::KINDS;

/// What a field may hold.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An integer within a range.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// A number or text.
    PortText,
    /// A number from 0, or text.
    NumberText,
    /// A list, of at least one item if so said.
    List(Box<Shape>, usize),
    /// One item, or a list of them.
    OneOrMore(Box<Shape>),
    /// Labels in the short or the full form.
    Selector,
    /// Text by text, or lists of text.
    TextMap,
    /// An object.
    Object(Vec<Field>),
}

/// A field of an object.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) says: &'static str,
    pub(super) shape: Shape,
}

fn field(name: &'static str, shape: Shape, says: &'static str) -> Field {
    Field { name, required: false, says, shape }
}

fn required(name: &'static str, shape: Shape, says: &'static str) -> Field {
    Field { required: true, ..field(name, shape, says) }
}

fn list(shape: Shape) -> Shape {
    Shape::List(Box::new(shape), 1)
}

/// The `spec` of a kind.
pub(super) fn spec(kind: &str) -> Option<Shape> {
    match kind {
        "SegmentPolicy" => Some(segment_policy()),
        "ClusterSegmentPolicy" => Some(cluster_segment_policy()),
        "Collection" => Some(collection()),
        "PolicyTest" => Some(companions::policy_test()),
        "PolicyProof" => Some(companions::policy_proof()),
        _ => None,
    }
}

const MODES: &[&str] = &["enforce", "audit", "audit-removal"];

fn segment_policy() -> Shape {
    let directions = [("ingress", "from"), ("egress", "to")].map(|(direction, peers)| {
        let says = "Rules; written, even empty, it isolates the workloads in this direction.";
        field(direction, Shape::List(Box::new(rule(peers, &["allow"])), 0), says)
    });
    let mut fields = vec![
        field(
            "workloads",
            Shape::Selector,
            "The pods that it speaks for; absent: every one of the namespace.",
        ),
        field("mode", Shape::Word(MODES), "Absent: as the collection says."),
    ];
    fields.extend(directions);
    Shape::Object(fields)
}

fn cluster_segment_policy() -> Shape {
    let actions: &[&str] = &["allow", "deny", "pass"];
    let directions = [("ingress", "from"), ("egress", "to")].map(|(direction, peers)| {
        let rules = Shape::List(Box::new(rule(peers, actions)), 0);
        field(direction, rules, "Rules in order; the first that matches decides.")
    });
    let mut fields = vec![
        required(
            "tier",
            Shape::Word(&["admin", "baseline"]),
            "Before or after the namespaces' own policies.",
        ),
        required("priority", Shape::Integer(0, 1000), "Lower first."),
        required("subjects", subjects(), "The workloads that it speaks for."),
        field("mode", Shape::Word(MODES), "Absent: enforce."),
    ];
    fields.extend(directions);
    Shape::Object(fields)
}

fn collection() -> Shape {
    Shape::Object(vec![
        required("covers", subjects(), "What the team owns."),
        field("owners", Shape::List(Box::new(Shape::Text), 0), "`user:NAME` or `group:NAME`."),
        field(
            "default",
            Shape::Word(&["deny", "kubernetes"]),
            "What holds where no policy selects a workload.",
        ),
        field(
            "mode",
            Shape::Word(&["observe", "audit", "enforce"]),
            "How strictly it is held; absent: enforce.",
        ),
        field("schedule", Shape::List(Box::new(schedule_step()), 0), "Modes that follow, by day."),
        field("freeze", Shape::List(Box::new(freeze()), 0), "Times without changes of mode."),
        field(
            "infrastructure",
            Shape::List(Box::new(Shape::Word(&["own-node", "probes", "resolver"])), 0),
            "The built-in rules that hold; absent: all.",
        ),
        field("criticality", Shape::Word(&["low", "normal", "high"]), "How much an incident weighs."),
    ])
}

fn schedule_step() -> Shape {
    Shape::Object(vec![
        required("from", Shape::Text, "First day, `YYYY-MM-DD`."),
        required("mode", Shape::Word(&["observe", "audit", "enforce"]), "The mode from then on."),
        field(
            "canary",
            Shape::Text,
            "The share of pods that enforce, as `10%`; the others are audited. Absent: all.",
        ),
    ])
}

fn freeze() -> Shape {
    Shape::Object(vec![
        required("from", Shape::Text, "First day, `YYYY-MM-DD`."),
        required("to", Shape::Text, "Last day."),
    ])
}

fn subjects() -> Shape {
    Shape::Object(vec![
        required("namespaces", Shape::Selector, "Namespaces; `{}` is all."),
        field("workloads", Shape::Selector, "Pods in them; absent: all."),
    ])
}

fn rule(peers: &'static str, actions: &'static [&'static str]) -> Shape {
    let action = if actions.len() > 1 { required } else { field };
    Shape::Object(vec![
        field("name", Shape::Text, "Appears in verdicts; unique within policy and direction."),
        action("action", Shape::Word(actions), "What a match means."),
        field(peers, list(peer()), "Peers, as alternatives; absent: everybody."),
        field(
            "ports",
            list(Shape::PortText),
            "`8080`, `\"8000-8010\"`, `http`, `udp/53`, `icmp/echo-request`; absent: all.",
        ),
        field("http", list(request()), "Narrows the rule to these requests."),
        field("grpc", list(grpc()), "Narrows the rule to these calls."),
        field("tls", tls(), "Narrows the rule to these TLS clients."),
        field("dns", list(dns()), "Narrows the rule to these questions."),
        field("redis", list(redis()), "Narrows the rule to these commands."),
        field("postgres", list(postgres()), "Narrows the rule to these sessions and statements."),
        field("kafka", list(kafka()), "Narrows the rule to these requests."),
    ])
}

fn grpc() -> Shape {
    Shape::Object(vec![
        field("service", Shape::Text, "Full name; absent: every one."),
        field("methods", list(Shape::Text), "Absent: all."),
    ])
}

fn tls() -> Shape {
    Shape::Object(vec![
        field("sni", list(Shape::Text), "Server names: exact, `*.` for one label, `**.` for any number."),
        field("min", Shape::Word(&["1.0", "1.1", "1.2", "1.3"]), "Lowest version that may be offered."),
        field("alpn", list(Shape::Text), "Application protocols that may be offered."),
        field("ech", Shape::Boolean, "Clients that encrypt the name are meant as well."),
        field("noSni", Shape::Boolean, "Clients that send no name are meant as well."),
        proxied(),
    ])
}

fn dns() -> Shape {
    Shape::Object(vec![
        field("names", list(Shape::Text), "Exact, `*.` for one label, `**.` for any number."),
        field("types", list(Shape::Text), "`A`, `AAAA`, … or `TYPE65`."),
    ])
}

fn redis() -> Shape {
    Shape::Object(vec![
        field("commands", list(Shape::Text), "First words, without case."),
        field("keyPrefix", Shape::Text, "How every key begins."),
        field("databases", list(Shape::Integer(0, 65_535)), "Numbers of databases."),
    ])
}

fn postgres() -> Shape {
    Shape::Object(vec![
        field("users", list(Shape::Text), "Roles."),
        field("databases", list(Shape::Text), "Databases."),
        field("statements", list(Shape::Word(STATEMENTS)), "Classes of statements."),
    ])
}

const STATEMENTS: &[&str] = &[
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "truncate",
    "copy",
    "call",
    "define",
    "grant",
    "transaction",
    "session",
];

fn kafka() -> Shape {
    Shape::Object(vec![
        field("apis", list(Shape::Text), "`produce`, `fetch`, … or `api-NUMBER`."),
        field("topics", list(Shape::Text), "Whole, or `orders.*` for how they begin."),
    ])
}

fn peer() -> Shape {
    let entities: &[&str] = &["world", "cluster", "node", "kube-apiserver", "dns", "metadata"];
    Shape::Object(vec![
        field("workloads", Shape::Selector, "Pods by label."),
        field("namespaces", Shape::Selector, "Their namespaces; absent: the policy's own."),
        field("service", Shape::Text, "`NAME` or `NAMESPACE/NAME`."),
        field("cidr", Shape::Text, "An address block."),
        field("except", list(Shape::Text), "Blocks inside of `cidr` that are not meant."),
        field("entity", Shape::Word(entities), "A well-known group of addresses."),
        field("fqdn", Shape::Text, "A name, `*.NAME` or `**.NAME`; only in `to`."),
        field("serviceAccounts", list(Shape::Text), "Peers proven by mutual TLS."),
        field("identities", list(Shape::Text), "Peers proven by mutual TLS."),
    ])
}

fn proxied() -> Field {
    field(
        "proxyProtocol",
        Shape::Word(&["accepted"]),
        "Also behind a header of the PROXY protocol, whose addresses are not believed.",
    )
}

fn request() -> Shape {
    let header = Shape::Object(vec![
        required("name", Shape::Text, "Name, without case."),
        field("present", Shape::Boolean, "Whether it has to be there."),
        field("exact", Shape::Text, "The whole value."),
        field("prefix", Shape::Text, "How the value begins."),
    ]);
    let parameter = Shape::Object(vec![
        required("name", Shape::Text, "Name, with its case."),
        required("present", Shape::Boolean, "Whether it has to be there."),
    ]);
    Shape::Object(vec![
        field("methods", list(Shape::Text), "Exact, with their case."),
        field("path", Shape::Text, "`/exact`, `/orders/{id}`, `/below/**`."),
        field("hosts", list(Shape::Text), "Exact, or `*.example.com`."),
        field("headers", list(header), "Requirements on header fields."),
        field("query", list(parameter), "Requirements on parameters of the query."),
        field("websocket", Shape::Boolean, "Whether it asks to become a WebSocket."),
        field(
            "frames",
            Shape::Word(&["checked"]),
            "Frames of the WebSocket are checked, beside `websocket: true`.",
        ),
        proxied(),
    ])
}

/// JSON Schema (draft 7, which editors read) of one kind, or of any of ours.
pub fn json_schema(kind: Option<&str>) -> Option<Value> {
    let mut schema = match kind {
        Some(kind) => document_schema(kind)?,
        None => any_document(),
    };
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = kind.unwrap_or("Bulkhead policy documents").into();
    Some(schema)
}

/// Documents of our group are of our kinds; files hold those of others as well, of which nothing is said.
fn any_document() -> Value {
    let of = |field: &str, value: Value| json!({"type": "object", "required": [field], "properties": {field: value}});
    let each = SCHEMA_KINDS.iter().filter_map(|kind| {
        Some(json!({"if": of("kind", json!({"const": kind})), "then": document_schema(kind)?}))
    });
    json!({
        "type": "object",
        "required": ["apiVersion", "kind"],
        "if": of("apiVersion", json!({"pattern": "^bulkhead\\.dev/"})),
        "then": {
            "properties": {"apiVersion": {"const": API_VERSION}, "kind": {"enum": SCHEMA_KINDS}},
            "allOf": each.collect::<Vec<_>>(),
        },
    })
}

fn document_schema(kind: &str) -> Option<Value> {
    Some(json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind},
            "metadata": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "namespace": {"type": "string"}}},
            "spec": for_editors(&spec(kind)?),
            "status": {"type": "object"},
        },
    }))
}

fn for_editors(shape: &Shape) -> Value {
    let text_or_texts = || json!({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]});
    match shape {
        Shape::Text => json!({"type": "string"}),
        Shape::Word(words) => json!({"enum": words}),
        Shape::Integer(first, last) => json!({"type": "integer", "minimum": first, "maximum": last}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::PortText => {
            json!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]})
        }
        Shape::NumberText => json!({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}),
        Shape::List(item, items_min) => {
            json!({"type": "array", "minItems": items_min, "items": for_editors(item)})
        }
        Shape::OneOrMore(item) => {
            let one = for_editors(item);
            json!({"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]})
        }
        Shape::TextMap => json!({"type": "object", "additionalProperties": text_or_texts()}),
        Shape::Selector => json!({"anyOf": [
            {"type": "object", "additionalProperties": false, "properties": {
                "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
                "matchExpressions": {"type": "array", "items": expression_schema()},
            }},
            {"type": "object", "additionalProperties": text_or_texts()},
        ]}),
        Shape::Object(fields) => object_schema(fields, &for_editors, true),
    }
}

fn expression_schema() -> Value {
    json!({"type": "object", "required": ["key", "operator"], "properties": {
        "key": {"type": "string"},
        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
        "values": {"type": "array", "items": {"type": "string"}},
    }})
}

fn object_schema(fields: &[Field], schema_of: &dyn Fn(&Shape) -> Value, closed: bool) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = schema_of(&field.shape);
        schema["description"] = field.says.into();
        properties.insert(field.name.to_owned(), schema);
    }
    let needed: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !needed.is_empty() {
        schema["required"] = needed.into();
    }
    if closed {
        schema["additionalProperties"] = false.into();
    }
    schema
}

/// The CustomResourceDefinition of a kind; `None` for kinds that no cluster stores.
pub fn custom_resource(kind: &str) -> Option<Value> {
    let (plural, scope, short) = match kind {
        "SegmentPolicy" => ("segmentpolicies", "Namespaced", "segpol"),
        "ClusterSegmentPolicy" => ("clustersegmentpolicies", "Cluster", "csegpol"),
        "Collection" => ("collections", "Cluster", "coll"),
        _ => return None,
    };
    let singular = kind.to_lowercase();
    let schema = json!({"type": "object", "required": ["spec"], "properties": {
        "spec": for_cluster(&spec(kind)?),
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    Some(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.bulkhead.dev")},
        "spec": {
            "group": "bulkhead.dev",
            "scope": scope,
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular,
                "shortNames": [short], "categories": ["bulkhead"]},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    }))
}

/// A structural schema: what the API server demands of a custom resource.
fn for_cluster(shape: &Shape) -> Value {
    match shape {
        Shape::Text => json!({"type": "string"}),
        Shape::Word(words) => json!({"type": "string", "enum": words}),
        Shape::Integer(first, last) => json!({"type": "integer", "minimum": first, "maximum": last}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::PortText | Shape::NumberText => json!({"x-kubernetes-int-or-string": true}),
        Shape::List(item, items_min) => {
            json!({"type": "array", "minItems": items_min, "items": for_cluster(item)})
        }
        // The short form of a selector has any label as a field, and its values are text or lists.
        Shape::Selector | Shape::TextMap => {
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
        }
        Shape::OneOrMore(_) => json!({"x-kubernetes-preserve-unknown-fields": true}),
        Shape::Object(fields) => object_schema(fields, &for_cluster, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::diagnostics::{Diagnostic, Source};
    use crate::documents::load;
    use crate::prove;
    use std::collections::BTreeSet;

    const STRANGE: &str = "zzzzzzzzzzzz";

    /// A value of the shape with every field, and a strange one in each object.
    fn sample(shape: &Shape) -> Value {
        match shape {
            Shape::Text | Shape::PortText | Shape::NumberText => "text".into(),
            Shape::Word(words) => words[0].into(),
            Shape::Integer(first, _) => (*first).into(),
            Shape::Boolean => true.into(),
            Shape::List(item, _) | Shape::OneOrMore(item) => json!([sample(item)]),
            Shape::Selector | Shape::TextMap => json!({"app": "text"}),
            Shape::Object(fields) => {
                let mut object: Map<String, Value> =
                    fields.iter().map(|field| (field.name.to_owned(), sample(&field.shape))).collect();
                object.insert(STRANGE.to_owned(), Value::Null);
                object.into()
            }
        }
    }

    /// The field names of every object of the shape.
    fn objects(shape: &Shape, found: &mut BTreeSet<BTreeSet<String>>) {
        match shape {
            Shape::Object(fields) => {
                found.insert(fields.iter().map(|field| field.name.to_owned()).collect());
                fields.iter().for_each(|field| objects(&field.shape, found));
            }
            Shape::List(item, _) | Shape::OneOrMore(item) => objects(item, found),
            Shape::Text
            | Shape::Word(_)
            | Shape::Integer(..)
            | Shape::Boolean
            | Shape::PortText
            | Shape::NumberText => {}
            Shape::Selector | Shape::TextMap => {}
        }
    }

    /// What the readers say that they know, where they meet the strange field.
    fn known(found: &[Diagnostic]) -> BTreeSet<BTreeSet<String>> {
        let strange = found.iter().filter(|diagnostic| diagnostic.message.contains(STRANGE));
        let lists =
            strange.filter_map(|diagnostic| diagnostic.help.as_deref()?.strip_prefix("known fields: "));
        let sets = lists.map(|list| list.split(", ").map(str::to_owned).collect::<BTreeSet<_>>());
        sets.collect()
    }

    #[test]
    fn schemas_and_readers_know_the_same_fields() {
        for kind in SCHEMA_KINDS {
            let shape = spec(kind).unwrap();
            let metadata = json!({"name": "a", "namespace": "x"});
            let document = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": sample(&shape)});
            let sources = [Source { name: "sample".into(), text: document.to_string() }];
            let mut found = load(&sources).diagnostics;
            found.extend(cases::load(&sources).1);
            found.extend(prove::load(&sources).1);
            let mut expected = BTreeSet::new();
            objects(&shape, &mut expected);
            assert_eq!(known(&found), expected, "{kind}: {found:#?}");
        }
    }

    #[test]
    fn every_kind_has_a_schema_and_every_stored_kind_a_definition() {
        for kind in SCHEMA_KINDS {
            let schema = json_schema(Some(kind)).unwrap();
            assert_eq!(schema["properties"]["kind"]["const"], kind);
            let stored = custom_resource(kind);
            assert_eq!(stored.is_some(), !["PolicyTest", "PolicyProof"].contains(&kind), "{kind}");
        }
        assert_eq!(json_schema(None).unwrap()["then"]["allOf"].as_array().map(Vec::len), Some(5));
        assert_eq!(json_schema(Some("Pod")), None);
    }
}

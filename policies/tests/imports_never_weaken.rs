//! Random policies of Cilium and Istio: what a direct evaluation of the original denies, the import denies too; and where
//! nothing was lost, Cilium's verdicts are the same.
//!
//! `BULKHEAD_CASES` sets how many policies are tried, `BULKHEAD_SEED` runs one case again.

mod support;

use bulkhead_facts::{Direction, Effect, HttpRequest, L4Protocol, Request, UrlPath};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::import::{Dialect, ImportOptions, Imported, import};
use bulkhead_policies::inventory::{Inventory, ObjectName};
use std::net::IpAddr;
use support::random::{Random, seeds};
use support::sound;

/// Who opens connections: pods by namespace and label, a node that is not the subject's, addresses outside.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Pod(&'static str, &'static str),
    Node,
    World,
}

const PEERS: [(Who, &str); 8] = [
    (Who::Pod("shop", "a"), "10.0.0.2"),
    (Who::Pod("shop", "b"), "10.0.0.3"),
    (Who::Pod("web", "a"), "10.0.1.1"),
    (Who::Pod("web", "b"), "10.0.1.2"),
    (Who::Node, "10.9.0.2"),
    (Who::World, "192.0.2.1"),
    (Who::World, "192.0.2.200"),
    (Who::World, "2001:db8::1"),
];

/// The subject is another pod of the first kind.
const SUBJECT: (&str, &str) = ("shop", "a");

fn inventory() -> Source {
    let mut text = String::from("apiVersion: v1\nkind: List\nitems:\n");
    for namespace in ["shop", "web"] {
        text += &format!("- {{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}\n");
    }
    let pods = PEERS.iter().filter_map(|(who, address)| match who {
        Who::Pod(namespace, app) => Some((*namespace, *app, *address)),
        Who::Node | Who::World => None,
    });
    for (index, (namespace, app, address)) in pods.chain([("shop", "a", "10.0.0.1")]).enumerate() {
        text += &format!(
            "- apiVersion: v1\n  kind: Pod\n  metadata: {{name: pod-{index}, namespace: {namespace}, labels: {{app: {app}}}}}\n  spec: {{nodeName: node-1, containers: []}}\n  status: {{phase: Running, podIPs: [{{ip: {address}}}]}}\n"
        );
    }
    for (name, address) in [("node-1", "10.9.0.1"), ("node-2", "10.9.0.2")] {
        text += &format!(
            "- apiVersion: v1\n  kind: Node\n  metadata: {{name: {name}}}\n  status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
        );
    }
    Source { name: "inventory.yaml".into(), text }
}

fn judge(imported: &Imported, inventory: &Source) -> Judge {
    let written = Source { name: "imported.yaml".into(), text: imported.documents.clone() };
    let (set, inventory): (_, Inventory) = sound(&[written], std::slice::from_ref(inventory));
    let compiler = Compiler::new(&set, &inventory).expect("a sound set");
    let subject = ObjectName { namespace: "shop".into(), name: "pod-4".into() };
    Judge::new(compiler.program(&subject, 1).expect("a program")).expect("a valid program")
}

fn allows(
    judge: &Judge,
    direction: Direction,
    peer: &str,
    protocol: L4Protocol,
    port: u16,
    request: &Request<'_>,
) -> bool {
    let peer: IpAddr = peer.parse().expect("an address");
    judge.decide(direction, peer, protocol, port, request).enforced.effect == Effect::Allow
}

#[derive(Debug)]
enum CiliumPeers {
    Absent,
    Endpoints(Vec<(Option<&'static str>, Option<&'static str>)>),
    Blocks(Vec<&'static str>),
    Entities(Vec<&'static str>),
}

#[derive(Debug)]
struct CiliumRule {
    peers: CiliumPeers,
    /// Protocol and first and last port; `None`: no `toPorts`.
    ports: Option<Vec<(&'static str, u16, u16)>>,
}

#[derive(Debug)]
struct CiliumPolicy {
    /// `None`: clusterwide.
    namespace: Option<&'static str>,
    subject: Option<&'static str>,
    allows: Vec<CiliumRule>,
    denies: Vec<CiliumRule>,
    default_deny: Option<bool>,
}

/// A block, and whether an address of a case is in it.
type Block = (&'static str, fn(&str) -> bool);

const BLOCKS: [Block; 4] = [
    ("192.0.2.0/24", |address| address.starts_with("192.0.2.")),
    ("192.0.2.128/25", |address| address == "192.0.2.200"),
    ("0.0.0.0/0", |address| !address.contains(':')),
    ("10.0.0.0/8", |address| address.starts_with("10.")),
];

fn in_block(block: &str, address: &str) -> bool {
    BLOCKS.iter().any(|(text, holds)| *text == block && holds(address))
}

impl CiliumRule {
    fn random(random: &mut Random) -> Self {
        let peers = match random.below(6) {
            0 | 1 => CiliumPeers::Absent,
            2 | 3 => CiliumPeers::Endpoints(
                (0..random.below(3))
                    .map(|_| {
                        (
                            random.pick(&[None, Some("shop"), Some("web")]),
                            random.pick(&[None, Some("a"), Some("b")]),
                        )
                    })
                    .collect(),
            ),
            4 => {
                let count = 1 + random.below(2);
                CiliumPeers::Blocks((0..count).map(|_| random.pick(&BLOCKS).0).collect())
            }
            _ => CiliumPeers::Entities(random.some(
                &["all", "world", "cluster", "none", "host", "remote-node", "world-ipv4"],
                1,
                2,
            )),
        };
        let ports = [("TCP", 80, 80), ("UDP", 53, 53), ("ANY", 80, 80), ("TCP", 0, 0), ("TCP", 8000, 8010)];
        let ports = if random.one_in(2) { None } else { Some(random.some(&ports, 1, 2)) };
        Self { peers, ports }
    }

    fn yaml(&self, direction: Direction) -> String {
        let side = if direction == Direction::Ingress { "from" } else { "to" };
        let mut fields = Vec::new();
        match &self.peers {
            CiliumPeers::Absent => {}
            CiliumPeers::Endpoints(all) => {
                let items = all.iter().map(|(namespace, app)| {
                    let namespace =
                        namespace.map(|name| format!("\"k8s:io.kubernetes.pod.namespace\": {name}"));
                    let labels: Vec<String> =
                        namespace.into_iter().chain(app.map(|app| format!("app: {app}"))).collect();
                    format!("{{matchLabels: {{{}}}}}", labels.join(", "))
                });
                fields.push(format!("{side}Endpoints: [{}]", items.collect::<Vec<_>>().join(", ")));
            }
            CiliumPeers::Blocks(all) => fields.push(format!("{side}CIDR: [{}]", all.join(", "))),
            CiliumPeers::Entities(all) => fields.push(format!("{side}Entities: [{}]", all.join(", "))),
        }
        if let Some(ports) = &self.ports {
            let items = ports.iter().map(|(protocol, first, last)| {
                format!("{{port: \"{first}\", endPort: {last}, protocol: {protocol}}}")
            });
            fields.push(format!("toPorts: [{{ports: [{}]}}]", items.collect::<Vec<_>>().join(", ")));
        }
        format!("{{{}}}", fields.join(", "))
    }

    fn matches(&self, own: Option<&str>, (who, address): (Who, &str), protocol: &str, port: u16) -> bool {
        let peer = match &self.peers {
            CiliumPeers::Absent => self.ports.is_some(),
            CiliumPeers::Endpoints(all) => all.iter().any(|(namespace, app)| match who {
                Who::Pod(of, label) => {
                    namespace.or(own).is_none_or(|name| name == of) && app.is_none_or(|app| app == label)
                }
                Who::Node | Who::World => false,
            }),
            CiliumPeers::Blocks(all) => who == Who::World && all.iter().any(|block| in_block(block, address)),
            CiliumPeers::Entities(all) => all.iter().any(|entity| match *entity {
                "all" => true,
                "world" => who == Who::World,
                "world-ipv4" => who == Who::World && !address.contains(':'),
                "cluster" => who != Who::World,
                "remote-node" => who == Who::Node,
                _ => false,
            }),
        };
        let hits = |(of, first, last): &(&str, u16, u16)| {
            (*of == protocol || *of == "ANY") && (*first == 0 || (*first..=*last).contains(&port))
        };
        peer && self.ports.as_ref().is_none_or(|ports| ports.iter().any(hits))
    }
}

impl CiliumPolicy {
    fn random(random: &mut Random) -> Self {
        let rules =
            |random: &mut Random, most| (0..random.below(most)).map(|_| CiliumRule::random(random)).collect();
        Self {
            namespace: random.pick(&[None, Some("shop"), Some("shop"), Some("web")]),
            subject: random.pick(&[None, Some("a"), Some("b")]),
            allows: rules(random, 4),
            denies: rules(random, 2),
            default_deny: random.pick(&[None, None, Some(true), Some(false)]),
        }
    }

    fn yaml(&self, index: usize, direction: Direction) -> String {
        let list = |rules: &[CiliumRule]| {
            rules.iter().map(|rule| rule.yaml(direction)).collect::<Vec<_>>().join(", ")
        };
        let (kind, namespace) = match self.namespace {
            Some(namespace) => ("CiliumNetworkPolicy", format!(", namespace: {namespace}")),
            None => ("CiliumClusterwideNetworkPolicy", String::new()),
        };
        let subject = self.subject.map_or(String::new(), |app| format!("matchLabels: {{app: {app}}}"));
        let wish = self
            .default_deny
            .map_or(String::new(), |wish| format!("  enableDefaultDeny: {{{direction}: {wish}}}\n"));
        format!(
            "apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: p{index}{namespace}}}\nspec:\n  endpointSelector: {{{subject}}}\n{wish}  {direction}: [{}]\n  {direction}Deny: [{}]\n",
            list(&self.allows),
            list(&self.denies)
        )
    }

    fn selects(&self) -> bool {
        self.namespace.is_none_or(|name| name == SUBJECT.0) && self.subject.is_none_or(|app| app == SUBJECT.1)
    }

    fn isolates(&self) -> bool {
        self.default_deny.unwrap_or(!self.allows.is_empty() || !self.denies.is_empty())
    }
}

fn cilium_allows(policies: &[CiliumPolicy], peer: (Who, &str), protocol: &str, port: u16) -> bool {
    let chosen: Vec<&CiliumPolicy> = policies.iter().filter(|policy| policy.selects()).collect();
    let hit = |policy: &CiliumPolicy, rules: &[CiliumRule]| {
        rules.iter().any(|rule| rule.matches(policy.namespace, peer, protocol, port))
    };
    if chosen.iter().any(|policy| hit(policy, &policy.denies)) {
        return false;
    }
    !chosen.iter().any(|policy| policy.isolates()) || chosen.iter().any(|policy| hit(policy, &policy.allows))
}

#[test]
fn an_import_of_cilium_never_allows_what_the_original_denies() {
    let inventory = inventory();
    let (mut denied, mut allowed, mut whole) = (0, 0, 0);
    for seed in seeds() {
        let random = &mut Random(seed);
        let direction = random.pick(&Direction::BOTH);
        let policies: Vec<CiliumPolicy> =
            (0..1 + random.below(3)).map(|_| CiliumPolicy::random(random)).collect();
        let text: Vec<String> =
            policies.iter().enumerate().map(|(index, policy)| policy.yaml(index, direction)).collect();
        let source = Source { name: "original.yaml".into(), text: text.join("---\n") };
        let mut options = ImportOptions::default();
        if random.one_in(2) {
            options.cluster_networks.push("10.0.0.0/8".parse().expect("a block"));
        }
        let imported = import(Dialect::Cilium, std::slice::from_ref(&source), &options);
        if imported.has_errors() {
            // Policies that say nothing at all are no policies.
            assert_eq!(
                imported.count, 0,
                "BULKHEAD_SEED={seed}\n{}\n{:#?}",
                source.text, imported.diagnostics
            );
            continue;
        }
        whole += u32::from(!imported.has_losses());
        let judge = judge(&imported, &inventory);
        for peer in PEERS {
            for (name, protocol, port) in [
                ("TCP", L4Protocol::TCP, 80),
                ("UDP", L4Protocol::UDP, 80),
                ("UDP", L4Protocol::UDP, 53),
                ("TCP", L4Protocol::TCP, 8005),
                ("SCTP", L4Protocol::SCTP, 80),
            ] {
                let original = cilium_allows(&policies, peer, name, port);
                let ours = allows(&judge, direction, peer.1, protocol, port, &Request::Opaque);
                let told = || {
                    format!(
                        "BULKHEAD_SEED={seed} {direction} {peer:?} {name}/{port}\n{}\n{}",
                        source.text, imported.documents
                    )
                };
                assert!(original || !ours, "weaker: {}", told());
                assert!(imported.has_losses() || original == ours, "stricter without a word: {}", told());
                *(if original { &mut allowed } else { &mut denied }) += 1;
            }
        }
    }
    let enough =
        std::env::var_os("BULKHEAD_SEED").is_some() || denied > 1_000 && allowed > 1_000 && whole > 50;
    assert!(enough, "{denied} denied, {allowed} allowed, {whole} without loss: the cases say too little");
}

#[derive(Debug, Default)]
struct IstioSource {
    namespaces: Vec<&'static str>,
    not_namespaces: Vec<&'static str>,
    blocks: Vec<&'static str>,
    not_blocks: Vec<&'static str>,
    /// A principal, which nobody has.
    principal: bool,
}

#[derive(Debug, Default)]
struct IstioOperation {
    ports: Vec<u16>,
    not_ports: Vec<u16>,
    methods: Vec<&'static str>,
    not_methods: Vec<&'static str>,
    paths: Vec<&'static str>,
    not_paths: Vec<&'static str>,
}

#[derive(Debug)]
struct IstioPolicy {
    namespace: &'static str,
    subject: Option<&'static str>,
    deny: bool,
    rules: Vec<(Vec<IstioSource>, Vec<IstioOperation>, Option<IstioCondition>)>,
}

const PATHS: [&str; 6] = ["/a", "/a/*", "/a*", "*b", "*", "/a/{*}/c"];

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern {
        "*" => true,
        "/a/{*}/c" => {
            let middle = path.strip_prefix("/a/").and_then(|rest| rest.strip_suffix("/c"));
            middle.is_some_and(|middle| !middle.is_empty() && !middle.contains('/'))
        }
        _ => match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
            (Some(front), _) => path.starts_with(front),
            (_, Some(end)) => path.ends_with(end),
            (None, None) => path == pattern,
        },
    }
}

fn listed(fields: &mut Vec<String>, name: &str, values: &[impl std::fmt::Display]) {
    if !values.is_empty() {
        let values: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
        fields.push(format!("{name}: [{}]", values.join(", ")));
    }
}

impl IstioSource {
    fn random(random: &mut Random) -> Self {
        let mut found = Self::default();
        for _ in 0..1 + random.below(2) {
            let blocks = BLOCKS.map(|(block, _)| block);
            match random.below(9) {
                0 | 1 => found.namespaces = random.some(&["shop", "web", "s*"], 1, 2),
                2 | 3 => found.not_namespaces = random.some(&["shop", "web"], 1, 2),
                4 | 5 => found.blocks = random.some(&blocks, 1, 2),
                6 | 7 => found.not_blocks = random.some(&blocks, 1, 2),
                _ => found.principal = true,
            }
        }
        found
    }

    fn yaml(&self) -> String {
        let mut fields = Vec::new();
        listed(&mut fields, "namespaces", &self.namespaces);
        listed(&mut fields, "notNamespaces", &self.not_namespaces);
        listed(&mut fields, "ipBlocks", &self.blocks);
        listed(&mut fields, "notIpBlocks", &self.not_blocks);
        if self.principal {
            listed(&mut fields, "principals", &["cluster.local/ns/x/sa/y"]);
        }
        format!("{{source: {{{}}}}}", fields.join(", "))
    }

    fn matches(&self, (who, address): (Who, &str)) -> bool {
        let namespace = match who {
            Who::Pod(namespace, _) => Some(namespace),
            Who::Node | Who::World => None,
        };
        let in_namespace =
            |name: &&str| namespace.is_some_and(|of| *name == of || *name == "s*" && of.starts_with('s'));
        let in_one = |block: &&str| in_block(block, address);
        !self.principal
            && (self.namespaces.is_empty() || self.namespaces.iter().any(in_namespace))
            && !self.not_namespaces.iter().any(in_namespace)
            && (self.blocks.is_empty() || self.blocks.iter().any(in_one))
            && !self.not_blocks.iter().any(in_one)
    }
}

impl IstioOperation {
    fn random(random: &mut Random) -> Self {
        let mut found = Self::default();
        for _ in 0..1 + random.below(2) {
            match random.below(9) {
                0 | 1 => found.ports = random.some(&[80, 8080], 1, 2),
                2 => found.not_ports = random.some(&[80, 8080], 1, 1),
                3 | 4 => found.methods = random.some(&["GET", "POST", "*"], 1, 2),
                5 => found.not_methods = random.some(&["GET", "POST"], 1, 1),
                6 | 7 => found.paths = random.some(&PATHS, 1, 2),
                _ => found.not_paths = random.some(&PATHS, 1, 1),
            }
        }
        found
    }

    fn yaml(&self) -> String {
        let mut fields = Vec::new();
        listed(&mut fields, "ports", &self.ports);
        listed(&mut fields, "notPorts", &self.not_ports);
        listed(&mut fields, "methods", &self.methods);
        listed(&mut fields, "notMethods", &self.not_methods);
        listed(&mut fields, "paths", &self.paths);
        listed(&mut fields, "notPaths", &self.not_paths);
        format!("{{operation: {{{}}}}}", fields.join(", "))
    }

    fn matches(&self, port: u16, method: &str, path: &str) -> bool {
        let is_method = |wanted: &&str| *wanted == method || *wanted == "*";
        let is_path = |pattern: &&str| path_matches(pattern, path);
        (self.ports.is_empty() || self.ports.contains(&port))
            && !self.not_ports.contains(&port)
            && (self.methods.is_empty() || self.methods.iter().any(is_method))
            && !self.not_methods.iter().any(is_method)
            && (self.paths.is_empty() || self.paths.iter().any(is_path))
            && !self.not_paths.iter().any(is_path)
    }
}

/// A condition of `when`: its key, its values, and whether none of them may hold.
#[derive(Debug)]
struct IstioCondition {
    key: &'static str,
    negated: bool,
    values: Vec<&'static str>,
}

impl IstioCondition {
    fn random(random: &mut Random) -> Self {
        let (key, values): (_, &[&str]) = random.pick(&[
            ("source.namespace", &["shop", "web", "s*"][..]),
            ("source.ip", &["192.0.2.0/24", "192.0.2.128/25", "10.0.0.0/8"][..]),
            ("destination.port", &["80", "8080"][..]),
            ("request.headers[x-a]", &["b", "c*", "*"][..]),
        ]);
        Self { key, negated: random.one_in(3), values: random.some(values, 1, 2) }
    }

    fn yaml(&self) -> String {
        let field = if self.negated { "notValues" } else { "values" };
        let values: Vec<String> = self.values.iter().map(|value| format!("{value:?}")).collect();
        format!("{{key: {:?}, {field}: [{}]}}", self.key, values.join(", "))
    }

    /// Requests of the cases carry no header field.
    fn matches(&self, (who, address): (Who, &str), port: u16) -> bool {
        let holds = |value: &&str| match (self.key, who) {
            ("source.namespace", Who::Pod(of, _)) => *value == of || *value == "s*" && of.starts_with('s'),
            ("source.ip", _) => in_block(value, address),
            ("destination.port", _) => *value == port.to_string(),
            _ => false,
        };
        self.values.iter().any(holds) != self.negated
    }
}

impl IstioPolicy {
    fn random(random: &mut Random) -> Self {
        let rules = (0..random.below(3)).map(|_| {
            let from = (0..random.below(3)).map(|_| IstioSource::random(random)).collect();
            let to = (0..random.below(3)).map(|_| IstioOperation::random(random)).collect();
            let when = random.one_in(2).then(|| IstioCondition::random(random));
            (from, to, when)
        });
        let rules = rules.collect();
        Self {
            namespace: random.pick(&["shop", "shop", "web", "istio-system"]),
            subject: random.pick(&[None, Some("a"), Some("b")]),
            deny: random.one_in(3),
            rules,
        }
    }

    fn yaml(&self, index: usize) -> String {
        let rules = self.rules.iter().map(|(from, to, when)| {
            let from: Vec<String> = from.iter().map(IstioSource::yaml).collect();
            let to: Vec<String> = to.iter().map(IstioOperation::yaml).collect();
            let mut fields = Vec::new();
            if !from.is_empty() {
                fields.push(format!("from: [{}]", from.join(", ")));
            }
            if !to.is_empty() {
                fields.push(format!("to: [{}]", to.join(", ")));
            }
            if let Some(when) = when {
                fields.push(format!("when: [{}]", when.yaml()));
            }
            format!("{{{}}}", fields.join(", "))
        });
        let rules: Vec<String> = rules.collect();
        let subject = self
            .subject
            .map_or(String::new(), |app| format!("  selector: {{matchLabels: {{app: {app}}}}}\n"));
        let action = if self.deny { "DENY" } else { "ALLOW" };
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{index}, namespace: {}}}\nspec:\n  action: {action}\n{subject}  rules: [{}]\n",
            self.namespace,
            rules.join(", ")
        )
    }

    fn selects(&self) -> bool {
        ["shop", "istio-system"].contains(&self.namespace) && self.subject.is_none_or(|app| app == SUBJECT.1)
    }

    fn matches(&self, peer: (Who, &str), port: u16, method: &str, path: &str) -> bool {
        self.rules.iter().any(|(from, to, when)| {
            (from.is_empty() || from.iter().any(|source| source.matches(peer)))
                && (to.is_empty() || to.iter().any(|operation| operation.matches(port, method, path)))
                && when.as_ref().is_none_or(|when| when.matches(peer, port))
        })
    }
}

#[test]
fn an_import_of_istio_never_allows_what_the_original_denies() {
    let inventory = inventory();
    let (mut denied, mut both_allow) = (0, 0);
    for seed in seeds() {
        let random = &mut Random(seed);
        let policies: Vec<IstioPolicy> =
            (0..1 + random.below(3)).map(|_| IstioPolicy::random(random)).collect();
        let text: Vec<String> =
            policies.iter().enumerate().map(|(index, policy)| policy.yaml(index)).collect();
        let source = Source { name: "original.yaml".into(), text: text.join("---\n") };
        let imported = import(Dialect::Istio, std::slice::from_ref(&source), &ImportOptions::default());
        if imported.has_errors() {
            continue;
        }
        let judge = judge(&imported, &inventory);
        let (chosen, paths) = (
            |deny| policies.iter().filter(move |p| p.selects() && p.deny == deny),
            ["/a", "/a/x", "/a/x/c", "/ab", "/xb", "/"],
        );
        for peer in PEERS {
            for (port, method) in [(80, "GET"), (80, "POST"), (8080, "GET"), (9, "PUT")] {
                for path in paths {
                    let hits = |policy: &IstioPolicy| policy.matches(peer, port, method, path);
                    let original =
                        !chosen(true).any(hits) && (chosen(false).count() == 0 || chosen(false).any(hits));
                    let url = UrlPath::parse(path).expect("a path");
                    let request = HttpRequest { method, path: &url, query: None, host: None, headers: &[] };
                    let request = Request::Http(request);
                    let ours = allows(&judge, Direction::Ingress, peer.1, L4Protocol::TCP, port, &request);
                    assert!(
                        original || !ours,
                        "weaker: BULKHEAD_SEED={seed} {peer:?} {port} {method} {path}\n{}\n{}",
                        source.text,
                        imported.documents
                    );
                    denied += u32::from(!original);
                    both_allow += u32::from(original && ours);
                }
            }
        }
    }
    let enough = std::env::var_os("BULKHEAD_SEED").is_some() || denied > 1_000 && both_allow > 1_000;
    assert!(enough, "{denied} denied, {both_allow} allowed by both: the cases say too little");
}

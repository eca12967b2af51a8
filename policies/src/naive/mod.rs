//! The reference: POLICY's meaning written down plainly, for tests to compare the compiled form with.
//!
//! Everything is asked one address, one port and one request at a time, straight from model and inventory. It shares no
//! code with [`crate::compile`] or [`crate::decide`]. Only built for tests.

mod agreement;
mod protocols;
pub(crate) mod random;

use crate::inventory::{Inventory, Labels, ObjectName, Pod, ServicePort};
use crate::model::*;
use crate::program::RuleInfo;
use bulkhead_facts::*;
use std::net::IpAddr;

/// An answer with its rule spelled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NaiveAnswer {
    pub(crate) effect: Effect,
    pub(crate) rule: Option<RuleInfo>,
    pub(crate) reason: Reason,
}

/// What is asked at layer 4.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) direction: Direction,
    pub(crate) peer: IpAddr,
    pub(crate) protocol: L4Protocol,
    pub(crate) port: u16,
}

/// `[enforced, shadow]`, straight from the documents.
pub(crate) fn decide(
    set: &PolicySet,
    inventory: &Inventory,
    pod: &ObjectName,
    packet: &Packet,
    request: &Request<'_>,
) -> [NaiveAnswer; 2] {
    let world = World { set, inventory, name: pod, pod: &inventory.pods[pod], direction: packet.direction };
    let ways = world.ways(packet).into_iter().map(|[enforced, shadow]| {
        let never_seen = enforced.always() == Some(Effect::Deny);
        [enforced.answer(request), shadow.answer(if never_seen { &Request::Opaque } else { request })]
    });
    let lesser = |one: NaiveAnswer, other: NaiveAnswer| match (one.effect, other.effect) {
        (Effect::Allow, Effect::Deny) => other,
        _ => one,
    };
    let least = |[a, b]: [NaiveAnswer; 2], [c, d]: [NaiveAnswer; 2]| [lesser(a, c), lesser(b, d)];
    ways.reduce(least).expect("there is always a way")
}

struct World<'a> {
    set: &'a PolicySet,
    inventory: &'a Inventory,
    name: &'a ObjectName,
    pod: &'a Pod,
    direction: Direction,
}

/// A rule that matches at layer 4.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hit<'a> {
    info: RuleInfo,
    action: RuleAction,
    /// `None`: whatever the bytes. `Some`: only these requests.
    section: Option<&'a L7Section>,
}

/// What the rules come to for one peer and port in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome<'a> {
    /// Matching rules in order of evaluation.
    hits: Vec<Hit<'a>>,
    isolated: bool,
    open: bool,
    /// Overrides everything.
    fixed: Option<NaiveAnswer>,
}

/// What the endpoints of a Service come to in one version.
enum Agreed<'a> {
    /// All of them to this.
    All(Outcome<'a>),
    /// These may be reached, and a rule that denies others.
    Some(Vec<usize>, Option<RuleInfo>),
}

impl<'a> Agreed<'a> {
    fn of(outcomes: &[Outcome<'a>]) -> Self {
        let denies = |outcome: &Outcome<'a>| outcome.always() == Some(Effect::Deny);
        let reached: Vec<usize> = (0..outcomes.len()).filter(|at| !denies(&outcomes[*at])).collect();
        let denied = outcomes.iter().find(|outcome| denies(outcome));
        let denied = denied.map(|outcome| outcome.answer(&Request::Opaque));
        let first = || Self::All(outcomes[0].clone());
        match denied {
            Some(denied) if reached.is_empty() => Self::All(Outcome::fixed(denied)),
            Some(denied) => Self::Some(reached, denied.rule),
            None if outcomes.iter().all(|outcome| outcome.always() == Some(Effect::Allow)) => first(),
            None if outcomes.iter().all(|outcome| outcome.same_as(&outcomes[0])) => first(),
            None => Self::Some(reached, None),
        }
    }

    /// Where nobody can choose.
    fn denied(&self) -> Outcome<'a> {
        match self {
            Self::All(outcome) => outcome.clone(),
            Self::Some(_, rule) => {
                let (effect, rule) = (Effect::Deny, rule.clone());
                Outcome::fixed(NaiveAnswer { effect, rule, reason: Reason::EndpointsDiffer })
            }
        }
    }

    /// The first that may be reached stands for all of them.
    fn stand_in(&self, outcomes: &[Outcome<'a>]) -> Outcome<'a> {
        match self {
            Self::All(outcome) => outcome.clone(),
            Self::Some(reached, _) => match &outcomes[reached[0]] {
                plain if plain.always().is_some() => {
                    let answer = plain.answer(&Request::Opaque);
                    Outcome::fixed(NaiveAnswer { reason: Reason::EndpointsDiffer, ..answer })
                }
                outcome => outcome.clone(),
            },
        }
    }
}

impl<'a> World<'a> {
    fn collection(&self) -> Option<&'a Collection> {
        self.set.collections.iter().find(|c| self.covers(&c.covers))
    }

    fn covers(&self, subject: &Subject) -> bool {
        self.in_namespace(&subject.namespaces, &self.name.namespace)
            && labels_match(&subject.workloads, &self.pod.labels)
    }

    fn in_namespace(&self, matcher: &NamespaceMatch, namespace: &str) -> bool {
        match matcher {
            NamespaceMatch::Own(own) => own == namespace,
            NamespaceMatch::Labels(selector) => {
                let mut labels = self.inventory.namespaces.get(namespace).cloned().unwrap_or_default();
                labels.insert("kubernetes.io/metadata.name".into(), namespace.into());
                labels_match(selector, &labels)
            }
        }
    }

    /// Wherever the packet may end, `[enforced, shadow]`: at one address, or at one of several endpoints of a Service.
    fn ways(&self, packet: &Packet) -> Vec<[Outcome<'a>; 2]> {
        let Some(port) = self.service_port(packet) else {
            return vec![[0, 1].map(|version| self.plain_outcome(version, packet, None))];
        };
        let mut endpoints = port.endpoints.clone();
        endpoints.retain(|(address, _)| address.is_ipv4() == packet.peer.is_ipv4());
        endpoints.sort_unstable();
        endpoints.dedup();
        if endpoints.is_empty() {
            return vec![[0, 1].map(|version| self.without_endpoint(version, packet))];
        }
        let outcomes = [0, 1].map(|version| -> Vec<Outcome<'a>> {
            let at = |(peer, port): &(IpAddr, u16)| {
                let endpoint = Packet { peer: *peer, port: *port, ..*packet };
                self.plain_outcome(version, &endpoint, Some(packet.peer))
            };
            endpoints.iter().map(at).collect()
        });
        let [enforced, shadow] = outcomes.each_ref().map(|outcomes| Agreed::of(outcomes));
        match enforced {
            _ if packet.protocol != L4Protocol::TCP => vec![[enforced.denied(), shadow.denied()]],
            Agreed::All(outcome) => vec![[outcome, shadow.stand_in(&outcomes[1])]],
            Agreed::Some(reached, _) => {
                let way = |at: usize| {
                    let other = match &shadow {
                        Agreed::Some(reached, _) if !reached.contains(&at) => shadow.stand_in(&outcomes[1]),
                        _ => outcomes[1][at].clone(),
                    };
                    [outcomes[0][at].clone(), other]
                };
                reached.into_iter().map(way).collect()
            }
        }
    }

    fn without_endpoint(&self, version: usize, packet: &Packet) -> Outcome<'a> {
        let outcome = self.plain_outcome(version, packet, None);
        let confined = outcome.isolated || !outcome.open;
        let denied = NaiveAnswer { effect: Effect::Deny, rule: None, reason: Reason::NoEndpoint };
        if confined { Outcome::fixed(denied) } else { outcome }
    }

    fn service_port(&self, packet: &Packet) -> Option<&'a ServicePort> {
        let service =
            self.inventory.services.values().find(|service| service.addresses.contains(&packet.peer))?;
        let asked = |p: &&ServicePort| p.protocol == packet.protocol && p.port == packet.port;
        let port = service.ports.iter().find(asked)?;
        (packet.direction == Direction::Egress).then_some(port)
    }

    /// `by_way_of`: the Service address that leads to this endpoint; a deny that names it counts as well.
    fn plain_outcome(&self, version: usize, packet: &Packet, by_way_of: Option<IpAddr>) -> Outcome<'a> {
        let collection = self.collection();
        let mode = collection.map_or(Mode::Enforce, |c| match c.mode {
            Mode::Enforce if !c.canary.holds(&self.pod.uid) => Mode::Audit,
            mode => mode,
        });
        let mut policies: Vec<&Policy> =
            self.set.policies.iter().filter(|p| self.covers(&p.subject)).collect();
        policies.sort_by_key(|p| (p.tier, p.priority, p.origin.clone()));
        let mut isolated = false;
        let mut hits = self.builtin(packet);
        for policy in policies {
            let held = policy.tier != Tier::Namespace || mode != Mode::Audit || version == 1;
            let counts = match policy.mode {
                PolicyMode::Inherit => true,
                PolicyMode::Audit => version == 1,
                PolicyMode::AuditRemoval => version == 0,
            };
            if !counts || !held {
                continue;
            }
            let enforces = version == 1 || mode == Mode::Enforce;
            isolated |=
                policy.tier == Tier::Namespace && policy.isolates[self.direction as usize] && enforces;
            for rule in policy.rules(self.direction) {
                let deny = rule.action == RuleAction::Deny;
                let matches = self.rule_matches(rule, packet, packet.peer)
                    || (deny && by_way_of.is_some_and(|address| self.rule_matches(rule, packet, address)));
                if matches {
                    hits.extend(self.hit(policy, rule, packet));
                }
            }
        }
        hits.sort_by_key(|hit| hit.info.tier);
        let open = collection.is_none_or(|c| {
            c.default == CollectionDefault::Kubernetes || (version == 0 && mode != Mode::Enforce)
        });
        Outcome { hits, isolated, open, fixed: None }
    }

    fn hit(&self, policy: &Policy, rule: &'a Rule, packet: &Packet) -> Option<Hit<'a>> {
        let info = RuleInfo {
            tier: policy.tier,
            policy: policy.origin.clone(),
            rule: rule.name.clone(),
            direction: self.direction,
        };
        let section = rule.l7.as_ref();
        let dns_on_udp = matches!(section, Some(L7Section::Dns(_))) && packet.protocol == L4Protocol::UDP;
        let readable = packet.protocol == L4Protocol::TCP || dns_on_udp;
        match (section, readable, rule.action) {
            (None, _, _) | (Some(_), true, _) => Some(Hit { info, action: rule.action, section }),
            (Some(_), false, RuleAction::Deny) => Some(Hit { info, action: rule.action, section: None }),
            (Some(_), false, RuleAction::Allow | RuleAction::Pass) => None,
        }
    }

    fn builtin(&self, packet: &Packet) -> Vec<Hit<'a>> {
        let own_node =
            self.inventory.nodes.get(&self.pod.node).is_some_and(|node| node.contains(&packet.peer));
        let default = self.collection().map_or(CollectionDefault::Kubernetes, |c| c.default);
        let tcp = packet.protocol == L4Protocol::TCP;
        let (rule, matches) = match (default, self.direction) {
            (CollectionDefault::Kubernetes, _) => ("own-node", own_node),
            (CollectionDefault::Deny, Direction::Ingress) => {
                ("probes", own_node && tcp && self.pod.probe_ports.contains(&packet.port))
            }
            (CollectionDefault::Deny, Direction::Egress) => {
                let dns = self.peer_matches(&Peer::Entity(Entity::Dns), packet.peer, RuleAction::Allow);
                ("resolver", dns && self.is_resolver_port(packet))
            }
        };
        let info = RuleInfo {
            tier: Tier::Infrastructure,
            policy: PolicyRef { kind: "Builtin".into(), namespace: None, name: "infrastructure".into() },
            rule: rule.into(),
            direction: self.direction,
        };
        let kept = self.collection().is_none_or(|c| match rule {
            "own-node" => c.infrastructure.own_node,
            "probes" => c.infrastructure.probes,
            _ => c.infrastructure.resolver,
        });
        if matches && kept { vec![Hit { info, action: RuleAction::Allow, section: None }] } else { vec![] }
    }

    fn is_resolver_port(&self, packet: &Packet) -> bool {
        let udp_or_tcp = [L4Protocol::UDP, L4Protocol::TCP].contains(&packet.protocol);
        let name = ObjectName { namespace: "kube-system".into(), name: "kube-dns".into() };
        let ports = self.inventory.services.get(&name).map_or(&[][..], |service| &service.ports);
        let leads = ports.iter().filter(|p| p.port == 53 && p.protocol == packet.protocol);
        udp_or_tcp
            && (packet.port == 53
                || leads.flat_map(|p| &p.endpoints).any(|(_, target)| *target == packet.port))
    }

    fn rule_matches(&self, rule: &Rule, packet: &Packet, peer: IpAddr) -> bool {
        let by_peer = match &rule.peers {
            Peers::Any => true,
            Peers::These(peers) => peers.iter().any(|p| self.peer_matches(p, peer, rule.action)),
        };
        let by_port = match &rule.ports {
            Ports::Any => true,
            Ports::These(ports) => ports.iter().any(|p| self.port_matches(p, packet, peer, rule.action)),
        };
        by_peer && by_port
    }

    fn port_matches(&self, port: &PortMatch, packet: &Packet, peer: IpAddr, action: RuleAction) -> bool {
        match port {
            PortMatch::Range(protocol, range) => *protocol == packet.protocol && range.contains(packet.port),
            PortMatch::Named(protocol, name) => {
                let has = |pod: &Pod| {
                    pod.ports.iter().any(|own| {
                        own.name == *name
                            && protocol.is_none_or(|p| p == own.protocol)
                            && (own.protocol, own.port) == (packet.protocol, packet.port)
                    })
                };
                match self.direction {
                    Direction::Ingress => has(self.pod),
                    Direction::Egress => {
                        quantified(self.holders(peer).iter().map(|(_, pod)| has(pod)), action)
                    }
                }
            }
        }
    }

    /// Pods, not in a node's network namespace, that hold the address.
    fn holders(&self, address: IpAddr) -> Vec<(&'a ObjectName, &'a Pod)> {
        let pods = self.inventory.pods.iter();
        pods.filter(|(_, pod)| !pod.host_network && pod.addresses.contains(&address)).collect()
    }

    fn peer_matches(&self, peer: &Peer, address: IpAddr, action: RuleAction) -> bool {
        match peer {
            Peer::Workloads { namespaces, workloads } => {
                let matches = |(name, pod): &(&ObjectName, &Pod)| {
                    self.in_namespace(namespaces, &name.namespace) && labels_match(workloads, &pod.labels)
                };
                quantified(self.holders(address).iter().map(matches), action)
            }
            Peer::Service { namespace, name } => self.in_service(namespace, name, address),
            Peer::Cidr { block, except } => {
                block.contains(address) && !except.iter().any(|cidr| cidr.contains(address))
            }
            Peer::Nodes(labels) => {
                let none = Labels::new();
                let selected =
                    |node: &str| labels_match(labels, self.inventory.node_labels.get(node).unwrap_or(&none));
                let node =
                    self.inventory.nodes.iter().any(|(node, own)| selected(node) && own.contains(&address));
                let pods =
                    self.inventory.pods.values().filter(|pod| pod.host_network && !pod.node.is_empty());
                node || pods.into_iter().any(|pod| selected(&pod.node) && pod.addresses.contains(&address))
            }
            Peer::Entity(entity) => self.in_entity(*entity, address),
            Peer::Unknown(_) | Peer::Name(_) => action != RuleAction::Allow,
        }
    }

    fn in_service(&self, namespace: &str, name: &str, address: IpAddr) -> bool {
        let name = ObjectName { namespace: namespace.into(), name: name.into() };
        self.inventory.services.get(&name).is_some_and(|service| {
            let endpoint = service.ports.iter().flat_map(|p| &p.endpoints).any(|(at, _)| *at == address);
            endpoint || service.addresses.contains(&address)
        })
    }

    fn in_entity(&self, entity: Entity, address: IpAddr) -> bool {
        let metadata = || {
            let known = [
                "169.254.169.254",
                "169.254.170.2",
                "169.254.170.23",
                "100.100.100.200",
                "168.63.129.16",
                "fd00:ec2::254",
                "fd00:ec2::23",
                "fd20:ce::254",
            ];
            known.iter().any(|text| text.parse() == Ok(address))
        };
        let node = || {
            let on_host =
                self.inventory.pods.values().any(|p| p.host_network && p.addresses.contains(&address));
            on_host || self.inventory.nodes.values().flatten().any(|at| *at == address)
        };
        let service = || self.inventory.services.values().any(|s| s.addresses.contains(&address));
        let cluster = || !self.holders(address).is_empty() || node() || service();
        match entity {
            Entity::World => !cluster() && !metadata(),
            Entity::Cluster => cluster(),
            Entity::Node => node(),
            Entity::KubeApiserver => self.in_service("default", "kubernetes", address),
            Entity::Dns => {
                let labelled = |(name, pod): &(&ObjectName, &Pod)| {
                    name.namespace == "kube-system"
                        && pod.labels.get("k8s-app").is_some_and(|app| app == "kube-dns")
                };
                self.holders(address).iter().any(labelled)
                    || self.in_service("kube-system", "kube-dns", address)
            }
            Entity::Metadata => metadata(),
        }
    }
}

/// Of several pods at one address, all must match for an allow, one for a deny or pass.
fn quantified(mut matches: impl ExactSizeIterator<Item = bool>, action: RuleAction) -> bool {
    match action {
        RuleAction::Allow => matches.len() > 0 && matches.all(|m| m),
        RuleAction::Deny | RuleAction::Pass => matches.any(|m| m),
    }
}

fn labels_match(selector: &Selector, labels: &Labels) -> bool {
    selector.requirements.iter().all(|r| match (&r.operator, labels.get(&r.key)) {
        (Operator::In(values), Some(value)) => values.contains(value),
        (Operator::In(_), None) => false,
        (Operator::NotIn(values), Some(value)) => !values.contains(value),
        (Operator::NotIn(_), None) => true,
        (Operator::Exists, value) => value.is_some(),
        (Operator::DoesNotExist, value) => value.is_none(),
    })
}

impl Outcome<'_> {
    fn fixed(answer: NaiveAnswer) -> Self {
        Self { hits: vec![], isolated: false, open: false, fixed: Some(answer) }
    }

    /// The effect, if it is the same whichever sections match.
    fn always(&self) -> Option<Effect> {
        let conditional = self.hits.iter().filter(|hit| hit.section.is_some()).count();
        let mut effects = (0..1u32 << conditional).map(|bits| self.walk(|at, _| bits & 1 << at != 0).effect);
        let first = effects.next()?;
        effects.all(|effect| effect == first).then_some(first)
    }

    fn same_as(&self, other: &Self) -> bool {
        let conditional = |outcome: &Self| -> Vec<_> {
            outcome.hits.iter().filter(|hit| hit.section.is_some()).map(|hit| hit.info.clone()).collect()
        };
        let mut all = [conditional(self), conditional(other)].concat();
        all.sort();
        all.dedup();
        let truth =
            |bits: u32, hit: &Hit<'_>| all.binary_search(&hit.info).is_ok_and(|at| bits & 1 << at != 0);
        (0..1u32 << all.len())
            .all(|bits| self.walk(|_, hit| truth(bits, hit)) == other.walk(|_, hit| truth(bits, hit)))
    }

    fn answer(&self, request: &Request<'_>) -> NaiveAnswer {
        if self.always().is_some() {
            return self.walk(|_, _| false);
        }
        match request {
            Request::Opaque => {
                let answer = self.walk(|_, hit| hit.action == RuleAction::Deny);
                match answer.reason {
                    Reason::L7Mismatch => NaiveAnswer { reason: Reason::ProtocolMismatch, ..answer },
                    _ => answer,
                }
            }
            Request::Http(http) => {
                let on = |path: &str| {
                    self.walk(|_, hit| match hit.section {
                        Some(L7Section::Http(any)) => any.iter().any(|m| requests(m, http, path, hit.action)),
                        Some(_) | None => hit.action == RuleAction::Deny,
                    })
                };
                let normal = on(http.path.normal());
                if normal.effect == Effect::Deny { normal } else { on(http.path.raw()) }
            }
            other => self.walk(|_, hit| {
                hit.section.is_some_and(|section| protocols::matches(section, other, hit.action))
            }),
        }
    }

    /// Walks the tiers; `matches(n, hit)` says whether the n-th conditional rule matches the bytes.
    fn walk(&self, matches: impl Fn(usize, &Hit<'_>) -> bool) -> NaiveAnswer {
        if let Some(fixed) = &self.fixed {
            return fixed.clone();
        }
        let conditional: Vec<_> = self.hits.iter().filter(|hit| hit.section.is_some()).collect();
        let holds = |hit: &Hit<'_>| match conditional.iter().position(|c| *c == hit) {
            Some(at) => matches(at, hit),
            None => true,
        };
        let rule =
            |hit: &Hit<'_>, effect, reason| NaiveAnswer { effect, rule: Some(hit.info.clone()), reason };
        let in_order = |tier: Tier| {
            let first = self.hits.iter().find(|hit| hit.info.tier == tier && holds(hit))?;
            match first.action {
                RuleAction::Allow => Some(rule(first, Effect::Allow, Reason::AllowedByRule)),
                RuleAction::Deny => Some(rule(first, Effect::Deny, Reason::DeniedByRule)),
                RuleAction::Pass => None,
            }
        };
        if let Some(answer) = in_order(Tier::Admin).or_else(|| in_order(Tier::Infrastructure)) {
            return answer;
        }
        let namespace = || self.hits.iter().filter(|hit| hit.info.tier == Tier::Namespace);
        // A rule that needs no bytes is named before one that does.
        let plain = namespace().find(|hit| hit.section.is_none());
        if let Some(hit) = plain.or_else(|| namespace().find(|hit| holds(hit))) {
            return rule(hit, Effect::Allow, Reason::AllowedByRule);
        }
        let denied = match namespace().next() {
            Some(hit) => rule(hit, Effect::Deny, Reason::L7Mismatch),
            None => NaiveAnswer { effect: Effect::Deny, rule: None, reason: Reason::NoRule },
        };
        if self.isolated {
            return denied;
        }
        if let Some(answer) = in_order(Tier::Baseline) {
            return answer;
        }
        if self.open {
            return NaiveAnswer { effect: Effect::Allow, rule: None, reason: Reason::NotIsolated };
        }
        denied
    }
}

fn requests(wanted: &HttpMatch, http: &HttpRequest<'_>, path: &str, action: RuleAction) -> bool {
    let deny = action == RuleAction::Deny;
    let method = wanted.methods.is_empty() || wanted.methods.iter().any(|m| m == http.method);
    let by_path = wanted.path.as_ref().is_none_or(|template| path_matches(template.as_str(), path));
    let host = match http.host {
        _ if wanted.hosts.is_empty() => true,
        None => deny,
        Some(host) => wanted.hosts.iter().any(|pattern| pattern.matches(host)),
    };
    let header = |wanted: &HeaderMatch| {
        let same = |f: &&HeaderField<'_>| f.name.eq_ignore_ascii_case(wanted.name.as_bytes());
        let values: Vec<&[u8]> = http.headers.iter().filter(same).map(|f| f.value).collect();
        let members = |value: &&[u8]| -> Vec<Vec<u8>> {
            let text = String::from_utf8_lossy(value).into_owned();
            text.split(',').map(|item| item.trim().as_bytes().to_vec()).chain([value.to_vec()]).collect()
        };
        let all_or_one = |test: &dyn Fn(&[u8]) -> bool| {
            if deny {
                values.iter().flat_map(members).any(|v| test(&v))
            } else {
                !values.is_empty() && values.iter().all(|v| test(v))
            }
        };
        match &wanted.value {
            HeaderValueMatch::Present => !values.is_empty(),
            HeaderValueMatch::Absent => values.is_empty(),
            HeaderValueMatch::Exact(text) => all_or_one(&|v| v == text.as_bytes()),
            HeaderValueMatch::Prefix(text) => all_or_one(&|v| v.starts_with(text.as_bytes())),
        }
    };
    let query = wanted.query.iter().all(|wanted| protocols::parameter(wanted, http.query, deny));
    let websocket = wanted.websocket.is_none_or(|wanted| protocols::websocket(wanted, http.headers, deny));
    method && by_path && host && wanted.headers.iter().all(header) && query && websocket
}

fn path_matches(template: &str, path: &str) -> bool {
    let mut wanted: Vec<&str> = template.split('/').collect();
    let parts: Vec<&str> = path.split('/').collect();
    let below = wanted.last() == Some(&"**");
    if below {
        wanted.pop();
    }
    let enough = if below { parts.len() > wanted.len() } else { parts.len() == wanted.len() };
    let segment = |(wanted, part): (&&str, &&str)| {
        if wanted.starts_with('{') { !part.is_empty() } else { wanted == part }
    };
    enough && wanted.iter().zip(&parts).all(segment)
}

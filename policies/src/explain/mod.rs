//! Why a flow is allowed or denied, and what would allow it.
//!
//! For each end that has a sidecar: the verdict, every policy that bears on it in the order of evaluation, and for a
//! denial the nearest rule, the fields in which it differs, and the smallest change that would allow the flow.

mod change;
mod differences;
mod written;

pub use change::{Change, Patch};
pub use differences::Difference;
pub(crate) use written::{is_name, is_word};

use crate::compile::{Compiler, PolicyTrace, RuleTrace};
use crate::documents::{Place, Places};
use crate::inventory::{Inventory, ObjectName};
use crate::model::{Peer, Peers, Policy, PolicyMode, RuleAction};
use crate::program::{Answer, RuleInfo};
use crate::questions::{FlowAnswer, Judges, NoJudge, Question, RequestQuestion, SideAnswer, Version};
use bulkhead_facts::{Direction, Effect, HostName, Reason, Tier};
use change::{Dialect, Flow, Near};
use differences::compare;
use std::fmt;
use std::net::IpAddr;

/// What there is to say of one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What both ends answer.
    pub answer: FlowAnswer,
    /// Each end that has a sidecar: egress first.
    pub sides: Vec<SideExplanation>,
}

/// What there is to say of one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideExplanation {
    /// Its answer.
    pub answer: SideAnswer,
    /// The collection that covers the pod.
    pub collection: Option<String>,
    /// What bears on the flow, in the order of evaluation.
    pub steps: Vec<Step>,
    /// For a denial, or one in the shadow answer: the rule that comes nearest to allowing it.
    pub nearest: Option<Nearest>,
    /// For a denial, or one in the shadow answer: the smallest change that would allow it at this end.
    pub change: Option<Change>,
}

/// One policy that selects the pod, or one built-in rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Tier.
    pub tier: Tier,
    /// Policy.
    pub policy: String,
    /// Where it stands.
    pub place: Option<Place>,
    /// What it says.
    pub says: String,
}

/// The rule that comes nearest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// `Kind/namespace/policy/rule`.
    pub rule: String,
    /// Where it stands.
    pub place: Option<Place>,
    /// In what it differs.
    pub differs: Vec<Difference>,
}

/// Explains one flow.
pub fn explain(
    compiler: &Compiler<'_>,
    judges: &mut Judges<'_>,
    places: &Places,
    question: &Question<'_>,
) -> Result<Explanation, NoJudge> {
    let answer = judges.ask(question)?;
    let teller = Teller { compiler, inventory: judges.inventory(), places, question };
    let sides = answer.sides.iter().map(|side| teller.side(side)).collect();
    Ok(Explanation { answer, sides })
}

struct Teller<'a> {
    compiler: &'a Compiler<'a>,
    inventory: &'a Inventory,
    places: &'a Places,
    question: &'a Question<'a>,
}

impl Teller<'_> {
    fn side(&self, side: &SideAnswer) -> SideExplanation {
        let protocol = self.question.protocol;
        let (peer, port) = self.peer_and_port(side.direction);
        let mut traces = self.compiler.trace(&side.pod, side.direction, peer, protocol, port);
        self.count_names(side.direction, &mut traces);
        let mut steps: Vec<Step> = traces.iter().map(|trace| self.step(trace, side)).collect();
        let builtin = self.compiler.trace_builtin(&side.pod, side.direction, peer, protocol, port);
        steps.extend(builtin.iter().map(|rule| Step {
            tier: Tier::Infrastructure,
            policy: "built-in".to_owned(),
            place: None,
            says: format!("rule `{rule}` allows it"),
        }));
        steps.sort_by_key(|step| step.tier);
        let collection = self.compiler.collection_of(&side.pod).map(|covering| covering.name.clone());
        steps.push(default_step(collection.as_deref(), side));
        // What is denied now, or else what would be once all that is audited counts.
        let denies = |version: &Version| side.version(*version).0.effect == Effect::Deny;
        let denied = [Version::Enforced, Version::Shadow].into_iter().find(denies);
        let nearest = denied.and_then(|version| self.nearest(side, version, &traces));
        let change = denied.map(|version| self.change(side, version, &traces, nearest.as_ref()));
        let told = nearest.as_ref().map(|near| Nearest {
            rule: format!("{}/{}", near.policy.origin, near.rule.name),
            place: self.places.rule(&near.policy.origin, side.direction, near.position),
            differs: near.compared.differs.clone(),
        });
        SideExplanation { answer: side.clone(), collection, steps, nearest: told, change }
    }

    /// Rules are about the target's port, so the trace looks behind a Service.
    fn peer_and_port(&self, direction: Direction) -> (IpAddr, u16) {
        match direction {
            Direction::Egress => (self.question.destination.address, self.question.port),
            Direction::Ingress => (self.question.source.address, self.question.port),
        }
    }

    /// A rule that names the name names the peer.
    fn count_names(&self, direction: Direction, traces: &mut [PolicyTrace<'_>]) {
        for trace in traces.iter_mut().flat_map(|trace| &mut trace.rules) {
            trace.peer |= self.is_named(&trace.rule.peers, direction);
        }
    }

    /// True if one of the peers is the name that led to the destination.
    fn is_named(&self, peers: &Peers, direction: Direction) -> bool {
        let (Some(name), Peers::These(peers)) = (self.name(direction), peers) else { return false };
        peers.iter().any(|peer| matches!(peer, Peer::Name(pattern) if pattern.matches(name)))
    }

    /// The name that led to the destination, as its source sees it.
    fn name(&self, direction: Direction) -> Option<&HostName> {
        self.question.name.filter(|_| direction == Direction::Egress)
    }

    /// What one policy says of the flow.
    fn step(&self, trace: &PolicyTrace<'_>, side: &SideAnswer) -> Step {
        let (policy, direction) = (trace.policy, side.direction);
        let at_layer_4: Vec<&RuleTrace<'_>> =
            trace.rules.iter().filter(|rule| rule.peer && rule.port).collect();
        let mut parts: Vec<String> = at_layer_4.iter().map(|rule| self.says(rule, side)).collect();
        if parts.is_empty() {
            parts.push(match (trace.rules.len(), policy.isolates[direction as usize]) {
                (0, true) => "isolates, and allows nothing".to_owned(),
                (0, false) => format!("says nothing of {direction}"),
                (count, true) => format!("isolates, and none of its {count} rules names this flow"),
                (count, false) => format!("none of its {count} rules names this flow"),
            });
        }
        match policy.mode {
            PolicyMode::Inherit => {}
            PolicyMode::Audit => parts.push("audited: it does not count yet".to_owned()),
            PolicyMode::AuditRemoval => parts.push("audited as if it were gone".to_owned()),
        }
        let place = self.places.policy(&policy.origin);
        Step { tier: policy.tier, policy: policy.origin.to_string(), place, says: parts.join("; ") }
    }

    /// What a rule that names peer and port says.
    fn says(&self, trace: &RuleTrace<'_>, side: &SideAnswer) -> String {
        let verb = match trace.rule.action {
            RuleAction::Allow => "allows it",
            RuleAction::Deny => "denies it",
            RuleAction::Pass => "passes it on",
        };
        let differs = compare(trace.rule, self.request()).differs;
        let reason = side.version(Version::Enforced).0.reason;
        let says_another = matches!(reason, Reason::NameMismatch | Reason::NameHidden);
        if differs.is_empty() && says_another && self.is_named(&trace.rule.peers, side.direction) {
            return format!(
                "rule `{}` names the peer by `fqdn`, but these bytes do not say that name",
                trace.rule.name
            );
        }
        if differs.is_empty() || trace.rule.action == RuleAction::Deny && self.request().is_none() {
            return format!("rule `{}` {verb}", trace.rule.name);
        }
        let differs: Vec<String> = differs.iter().map(ToString::to_string).collect();
        format!("rule `{}` names peer and port, but {}", trace.rule.name, differs.join(", "))
    }

    /// The request, if the protocol carries it.
    fn request(&self) -> Option<&RequestQuestion> {
        self.question.request.filter(|request| request.runs_on(self.question.protocol))
    }

    /// The allow that counts for this denial and differs in the fewest fields.
    fn nearest<'p>(
        &self,
        side: &SideAnswer,
        version: Version,
        traces: &[PolicyTrace<'p>],
    ) -> Option<Near<'p>> {
        let tier = denying_tier(side.version(version));
        let counting =
            traces.iter().filter(|trace| trace.policy.tier == tier && counts(trace.policy, version));
        let rules = counting.flat_map(|trace| trace.rules.iter().map(move |rule| (trace.policy, rule)));
        rules
            .filter(|(_, trace)| trace.rule.action == RuleAction::Allow)
            .map(|(policy, trace)| self.near(side, policy, trace))
            .filter(|near| !near.compared.differs.is_empty())
            .min_by_key(|near| near.compared.differs.iter().map(weight).sum::<usize>())
            .filter(|near| {
                let differs = &near.compared.differs;
                !differs.contains(&Difference::Peer) || !differs.contains(&Difference::Port)
            })
    }

    fn near<'p>(&self, side: &SideAnswer, policy: &'p Policy, trace: &RuleTrace<'p>) -> Near<'p> {
        let mut compared = compare(trace.rule, self.request());
        let layer_4 = [(trace.peer, Difference::Peer), (trace.port, Difference::Port)];
        let mut differs: Vec<Difference> =
            layer_4.into_iter().filter(|(named, _)| !named).map(|(_, difference)| difference).collect();
        differs.append(&mut compared.differs);
        compared.differs = differs;
        let place = self.places.rule(&policy.origin, side.direction, trace.position);
        let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
        Near {
            policy,
            rule: trace.rule,
            position: trace.position,
            section: self.places.section(&policy.origin, side.direction, trace.position),
            compared,
            shown: format!("rule `{}` of {}{place}", trace.rule.name, policy.origin),
        }
    }

    /// The smallest change that would allow the flow at this end.
    fn change(
        &self,
        side: &SideAnswer,
        version: Version,
        traces: &[PolicyTrace<'_>],
        near: Option<&Near<'_>>,
    ) -> Change {
        let (peer, port) = self.peer_and_port(side.direction);
        let only = |says: &str| Change { says: says.to_owned(), patch: None };
        let flow = Flow {
            direction: side.direction,
            pod: &side.pod,
            peer_pod: self.peer_pod(side.direction),
            service: self.service(side.direction),
            name: self.name(side.direction),
            peer,
            protocol: self.question.protocol,
            port,
            request: self.request(),
            inventory: self.inventory,
        };
        // Before the namespaces' own rules are asked, the platform's have to let it through.
        if let Some((policy, rule)) = self.denying_rule(side, version, traces) {
            return self.lift(policy, rule, &flow);
        }
        match side.version(version).0.reason {
            Reason::NoEndpoint => return only("the Service has no ready endpoint: no policy would help"),
            Reason::Malformed | Reason::Ambiguous | Reason::Limit => {
                return only("no rule is asked about such a request: send it in its plain form");
            }
            _ => {}
        }
        if let Some(change) = near.and_then(|near| flow.widen(near)) {
            return change;
        }
        let isolating = |trace: &&PolicyTrace<'_>| {
            let policy = trace.policy;
            policy.tier == Tier::Namespace
                && counts(policy, version)
                && policy.isolates[side.direction as usize]
        };
        // A kind of ours first, which can say what is sent.
        let mut isolating: Vec<&Policy> = traces.iter().filter(isolating).map(|trace| trace.policy).collect();
        isolating.sort_by_key(|policy| {
            (Dialect::of(policy) != Dialect::Segment, Some(*policy) != near.map(|near| near.policy))
        });
        let added = match isolating.first() {
            Some(policy) => flow.add_to(policy).or_else(|| flow.create()),
            None => flow.create(),
        };
        let Some(mut change) = added else {
            return only("no rule names this request alone: send it in its plain form");
        };
        if near.is_some_and(|near| near.compared.differs.contains(&Difference::NoRequest)) {
            change.says = format!("name a request to ask about, or {}", change.says);
        }
        change
    }

    /// The deny of the platform that stands in the way: before the namespaces' policies, or the one that settled it.
    fn denying_rule<'t, 'p>(
        &self,
        side: &SideAnswer,
        version: Version,
        traces: &'t [PolicyTrace<'p>],
    ) -> Option<(&'p Policy, &'t RuleTrace<'p>)> {
        let all = || {
            let counting = traces.iter().filter(|trace| counts(trace.policy, version));
            counting.flat_map(|trace| trace.rules.iter().map(move |rule| (trace.policy, rule)))
        };
        let first = all().filter(|(policy, _)| policy.tier == Tier::Admin).find(|(_, trace)| {
            trace.peer && trace.port && compare(trace.rule, self.request()).differs.is_empty()
        });
        if let Some(first) = first.filter(|(_, trace)| trace.rule.action == RuleAction::Deny) {
            return Some(first);
        }
        let (answer, settled) = side.version(version);
        let by_rule = matches!(answer.reason, Reason::DeniedByRule | Reason::EndpointsDiffer);
        let settled = settled.filter(|_| by_rule)?;
        all().find(|(policy, trace)| {
            let denies = trace.rule.action == RuleAction::Deny;
            denies && policy.origin == settled.policy && trace.rule.name == settled.rule
        })
    }

    /// What to do about a deny of the platform.
    fn lift(&self, policy: &Policy, trace: &RuleTrace<'_>, flow: &Flow<'_>) -> Change {
        let (origin, rule) = (&policy.origin, &trace.rule.name);
        let place = self.places.policy(origin).map(|place| format!(" ({place})")).unwrap_or_default();
        let says = format!("rule `{rule}` of {origin}{place} denies it, and only its owner can change that");
        match flow.except_from(policy, trace.position).or_else(|| flow.go_before(policy)) {
            Some(change) => Change { says: format!("{says}: {}", change.says), ..change },
            None => {
                let says = format!("{says}: narrow it, or put an allow or pass before it");
                Change { says, patch: None }
            }
        }
    }

    fn service(&self, direction: Direction) -> Option<&ObjectName> {
        let (address, _) = self.question.dialled.filter(|_| direction == Direction::Egress)?;
        let holds = |service: &crate::inventory::Service| service.addresses.contains(&address);
        self.inventory.services.iter().find(|(_, service)| holds(service)).map(|(name, _)| name)
    }

    fn peer_pod(&self, direction: Direction) -> Option<&ObjectName> {
        match direction {
            Direction::Egress => self.question.destination.pod,
            Direction::Ingress => self.question.source.pod,
        }
    }
}

/// True if a policy counts in this answer.
fn counts(policy: &Policy, version: Version) -> bool {
    match version {
        Version::Enforced => policy.mode != PolicyMode::Audit,
        Version::Shadow => policy.mode != PolicyMode::AuditRemoval,
    }
}

/// Where an allow would have to stand.
fn denying_tier((answer, rule): (Answer, Option<&RuleInfo>)) -> Tier {
    match (answer.reason, rule) {
        (Reason::DeniedByRule | Reason::EndpointsDiffer, Some(rule)) => rule.tier,
        (_, _) => Tier::Namespace,
    }
}

/// A peer is a bigger change than a port, a port than a part of a request.
fn weight(difference: &Difference) -> usize {
    match difference {
        Difference::Peer => 5,
        Difference::Port => 3,
        Difference::NoRequest | Difference::Section(_) => 2,
        Difference::Part { .. } => 1,
    }
}

fn default_step(collection: Option<&str>, side: &SideAnswer) -> Step {
    let says = match side.pair.enforced.reason {
        Reason::NotIsolated => "nothing isolates the pod in this direction: open",
        Reason::NoRule => {
            "the pod is isolated in this direction, or its collection denies by default: denied"
        }
        _ => "not reached",
    };
    let policy = collection.map_or("no collection".to_owned(), |name| format!("Collection/{name}"));
    Step { tier: Tier::Default, policy, place: None, says: says.to_owned() }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sides.is_empty() {
            return writeln!(f, "neither end is a protected pod: nothing is enforced");
        }
        self.sides.iter().try_for_each(|side| write!(f, "{side}"))
    }
}

impl fmt::Display for SideExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SideAnswer { direction, pod, .. } = &self.answer;
        for (name, version) in [("", Version::Enforced), ("shadow: ", Version::Shadow)] {
            let (answer, rule) = self.answer.version(version);
            let by = rule.map(|rule| format!(", rule `{}/{}`", rule.policy, rule.rule)).unwrap_or_default();
            if version == Version::Enforced || self.answer.pair.shadow != self.answer.pair.enforced {
                writeln!(
                    f,
                    "{direction} at {}/{}: {name}{} ({}{by})",
                    pod.namespace, pod.name, answer.effect, answer.reason
                )?;
            }
        }
        for step in &self.steps {
            let place = step.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
            writeln!(f, "  {:14} {}{place}: {}", step.tier.as_str(), step.policy, step.says)?;
        }
        if let Some(nearest) = &self.nearest {
            let place = nearest.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
            let differs: Vec<String> = nearest.differs.iter().map(ToString::to_string).collect();
            writeln!(f, "  nearest rule   {}{place}: {}", nearest.rule, differs.join(", "))?;
        }
        match &self.change {
            // Where only the shadow answer denies it, it passes until that counts.
            Some(change) => match self.answer.pair.enforced.effect {
                Effect::Deny => writeln!(f, "  to allow it    {}", change.says),
                Effect::Allow => writeln!(f, "  to keep it     {}", change.says),
            },
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

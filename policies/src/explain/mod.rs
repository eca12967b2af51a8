//! Why a flow is allowed or denied, and what would allow it.
//!
//! For each end that has a sidecar: the verdict, every policy that bears on it in the order of evaluation, and for a
//! denial the nearest rule, the fields in which it differs, and the smallest change that would allow the flow.

mod change;
mod request;

use crate::compile::{Compiler, PolicyTrace, RuleTrace};
use crate::documents::{Place, Places};
use crate::inventory::{Inventory, ObjectName};
use crate::model::{Policy, PolicyMode, RuleAction};
use crate::program::RuleInfo;
use crate::questions::{FlowAnswer, Judges, NoJudge, Question, SideAnswer, Version};
use bulkhead_facts::{Direction, Effect, Reason, Tier};
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
    /// For a denial: the rule that comes nearest to allowing it.
    pub nearest: Option<Nearest>,
    /// For a denial: the smallest change that would allow it.
    pub change: Option<String>,
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

/// One field in which a flow differs from a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The rule does not name the peer.
    Peer,
    /// The rule does not name the port.
    Port,
    /// The bytes are no HTTP, or the request was not given.
    NoRequest,
    /// The method.
    Method(String),
    /// The path.
    Path(String),
    /// The host.
    Host(Option<String>),
    /// A header field.
    Header(String),
    /// A parameter of the query.
    Query(String),
    /// Whether it asks to become a WebSocket.
    Websocket,
    /// The section speaks of another protocol.
    Section(&'static str),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer => f.write_str("the peer is not named"),
            Self::Port => f.write_str("the port is not named"),
            Self::NoRequest => f.write_str("no HTTP request is seen"),
            Self::Method(method) => write!(f, "method `{method}` is not named"),
            Self::Path(path) => write!(f, "path `{path}` does not match"),
            Self::Host(Some(host)) => write!(f, "host `{host}` is not named"),
            Self::Host(None) => f.write_str("the request names no host"),
            Self::Header(name) => write!(f, "header `{name}` is not as required"),
            Self::Query(name) => write!(f, "parameter `{name}` of the query is not as required"),
            Self::Websocket => f.write_str("whether it becomes a WebSocket is not as required"),
            Self::Section(name) => write!(f, "only what `{name}` names is meant, and that is not seen"),
        }
    }
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
        // Rules are about the target's port, so the trace looks behind a Service.
        let (peer, port) = match side.direction {
            Direction::Egress => (self.question.destination.address, self.question.port),
            Direction::Ingress => (self.question.source.address, self.question.port),
        };
        let traces = self.compiler.trace(&side.pod, side.direction, peer, protocol, port);
        let mut steps: Vec<Step> = traces.iter().map(|trace| self.step(trace, side.direction)).collect();
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
        let denied = side.pair.enforced.effect == Effect::Deny;
        let nearest = denied.then(|| self.nearest(&traces)).flatten();
        let change = denied.then(|| self.change(side, &traces, (peer, port)));
        let told = nearest.as_ref().map(|(policy, trace, differs)| Nearest {
            rule: format!("{}/{}", policy.origin, trace.rule.name),
            place: self.places.rule(&policy.origin, side.direction, trace.position),
            differs: differs.clone(),
        });
        SideExplanation { answer: side.clone(), collection, steps, nearest: told, change }
    }

    /// What one policy says of the flow.
    fn step(&self, trace: &PolicyTrace<'_>, direction: Direction) -> Step {
        let policy = trace.policy;
        let at_layer_4: Vec<&RuleTrace<'_>> =
            trace.rules.iter().filter(|rule| rule.peer && rule.port).collect();
        let mut parts: Vec<String> = at_layer_4.iter().map(|rule| self.says(rule)).collect();
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
    fn says(&self, trace: &RuleTrace<'_>) -> String {
        let verb = match trace.rule.action {
            RuleAction::Allow => "allows it",
            RuleAction::Deny => "denies it",
            RuleAction::Pass => "passes it on",
        };
        let differs = request::differences(trace.rule, self.question.request);
        if differs.is_empty() || trace.rule.action == RuleAction::Deny && self.question.request.is_none() {
            return format!("rule `{}` {verb}", trace.rule.name);
        }
        let differs: Vec<String> = differs.iter().map(ToString::to_string).collect();
        format!("rule `{}` names peer and port, but {}", trace.rule.name, differs.join(", "))
    }

    /// The allow that differs in the fewest fields.
    fn nearest<'t, 'p>(
        &self,
        traces: &'t [PolicyTrace<'p>],
    ) -> Option<(&'p Policy, &'t RuleTrace<'p>, Vec<Difference>)> {
        let rules = traces.iter().flat_map(|trace| trace.rules.iter().map(move |rule| (trace.policy, rule)));
        rules
            .filter(|(_, trace)| trace.rule.action == RuleAction::Allow)
            .map(|(policy, trace)| (policy, trace, self.differs(trace)))
            .filter(|(_, _, differs)| !differs.is_empty())
            .min_by_key(|(_, _, differs)| differs.iter().map(weight).sum::<usize>())
            .filter(|(_, _, differs)| {
                !differs.contains(&Difference::Peer) || !differs.contains(&Difference::Port)
            })
    }

    fn differs(&self, trace: &RuleTrace<'_>) -> Vec<Difference> {
        let mut differs = Vec::new();
        if !trace.peer {
            differs.push(Difference::Peer);
        }
        if !trace.port {
            differs.push(Difference::Port);
        }
        differs.extend(request::differences(trace.rule, self.question.request));
        differs
    }

    /// The smallest change that would allow the flow at this end.
    fn change(&self, side: &SideAnswer, traces: &[PolicyTrace<'_>], (peer, port): (IpAddr, u16)) -> String {
        match side.pair.enforced.reason {
            Reason::DeniedByRule => return self.lift(side),
            Reason::NoEndpoint => {
                return "the Service has no ready endpoint: no policy would help".to_owned();
            }
            Reason::Malformed | Reason::Ambiguous | Reason::Limit => {
                return "no rule is asked about such a request: send it in its plain form".to_owned();
            }
            _ => {}
        }
        let flow = change::Flow {
            direction: side.direction,
            pod: &side.pod,
            peer_pod: self.peer_pod(side.direction),
            peer,
            protocol: self.question.protocol,
            port,
            request: self.question.request,
            inventory: self.inventory,
        };
        match self.nearest(traces) {
            Some((policy, trace, differs)) => {
                let place = self.places.rule(&policy.origin, side.direction, trace.position);
                let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
                let whole = format!("rule `{}` of {}{place}", trace.rule.name, policy.origin);
                format!("in {whole}: {}", flow.widen(policy, &differs))
            }
            None => flow.new_rule(
                traces.iter().map(|trace| trace.policy).find(|policy| policy.tier == Tier::Namespace),
            ),
        }
    }

    /// What to do about a deny of a cluster-wide policy.
    fn lift(&self, side: &SideAnswer) -> String {
        let Some(rule) = &side.enforced_rule else { return "a default denies it".to_owned() };
        let RuleInfo { policy, rule, .. } = rule;
        let place = self.places.policy(policy).map(|place| format!(" ({place})")).unwrap_or_default();
        format!(
            "rule `{rule}` of {policy}{place} denies it, and only its owner can change that: narrow it, or put an allow or pass before it"
        )
    }

    fn peer_pod(&self, direction: Direction) -> Option<&ObjectName> {
        match direction {
            Direction::Egress => self.question.destination.pod,
            Direction::Ingress => self.question.source.pod,
        }
    }
}

/// A peer is a bigger change than a port, a port than a part of a request.
fn weight(difference: &Difference) -> usize {
    match difference {
        Difference::Peer => 5,
        Difference::Port => 3,
        Difference::NoRequest | Difference::Section(_) => 2,
        Difference::Method(_)
        | Difference::Path(_)
        | Difference::Host(_)
        | Difference::Header(_)
        | Difference::Query(_)
        | Difference::Websocket => 1,
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
            Some(change) => writeln!(f, "  to allow it    {change}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

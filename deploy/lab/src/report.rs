//! What came of a lab: the numbers, whether they are good, and the JSON document.
//!
//! Arrival is what canaries saw ([`crate::attack`]), never what a sidecar counted. An attack counts only if it
//! arrived while there was no firewall; a packet that arrives under the firewall is a leak whether its attack
//! counts or not.

use crate::addresses::NODE;
use crate::ground::Outcome;
use crate::node::Node;
use crate::screen::Screen;
use crate::traffic::Totals;
use bulkhead_api::rest::{Effect, FlowEdge, Incident, PolicyFile, Proposal, VerdictCount};
use bulkhead_facts::L4Protocol;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Kinds of attack that each family needs for a result that means something.
const KINDS_MIN: usize = 20;

/// Outcome of packets that no attack explains.
const STRAY: &str = "stray";

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) legitimate: Totals,
    pub(crate) controls: Vec<Outcome>,
    pub(crate) attacks: Vec<Outcome>,
    pub(crate) flows: Vec<FlowEdge>,
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) policies: Vec<PolicyFile>,
    pub(crate) verdicts: Vec<VerdictCount>,
    pub(crate) incidents: Vec<Incident>,
    /// Who an address is to the controller.
    pub(crate) names: Names,
    /// Seconds from the first sidecar's start until all had a program, and from the approval until all enforced.
    pub(crate) sidecars_s: [f64; 2],
    pub(crate) elapsed_s: f64,
}

/// The numbers of a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) controls_tried: usize,
    pub(crate) controls_arrived: usize,
    pub(crate) tried: usize,
    pub(crate) blocked: usize,
    pub(crate) reported: usize,
    pub(crate) leaks: usize,
    /// Kinds of attack that counted, by family.
    pub(crate) kinds: [usize; 2],
}

impl Report {
    /// Counts.
    pub(crate) fn numbers(&self) -> Numbers {
        let controls: Vec<&Outcome> =
            self.controls.iter().filter(|c| c.not_made.is_none() && c.kind != STRAY).collect();
        let counted: Vec<&Outcome> = self.counted().collect();
        let blocked: Vec<&&Outcome> = counted.iter().filter(|a| a.arrivals.is_empty()).collect();
        let kinds = [4, 6].map(|family| {
            counted.iter().filter(|a| a.family == family).map(|a| &a.kind).collect::<BTreeSet<_>>().len()
        });
        Numbers {
            controls_tried: controls.len(),
            controls_arrived: controls.iter().filter(|c| !c.arrivals.is_empty()).count(),
            tried: counted.len(),
            blocked: blocked.len(),
            reported: self.reported(&blocked),
            leaks: self.attacks.iter().map(|a| a.arrivals.len()).sum(),
            kinds,
        }
    }

    /// Attacks that the controller tells of. Denials of one attacker at one target are summed up by reason, so of attacks
    /// that share their denials no more count than there were denials.
    fn reported(&self, blocked: &[&&Outcome]) -> usize {
        let mut groups: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        for attack in blocked {
            let mine: Vec<usize> = self.verdicts_on(attack).map(|(position, _)| position).collect();
            *groups.entry(mine).or_default() += 1;
        }
        let told = |verdicts: &[usize]| verdicts.iter().map(|v| self.verdicts[*v].count).sum::<u64>();
        groups.iter().map(|(v, attacks)| (*attacks).min(usize::try_from(told(v)).unwrap_or(usize::MAX))).sum()
    }

    /// Attacks that arrived when nothing stood in their way.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &Outcome> {
        let arrived: BTreeSet<&str> =
            self.controls.iter().filter(|c| !c.arrivals.is_empty()).map(|c| c.id.as_str()).collect();
        self.attacks.iter().filter(move |a| a.kind != STRAY && arrived.contains(a.id.as_str()))
    }

    /// What speaks against a good result, one line each; empty if nothing does.
    pub(crate) fn shortcomings(&self) -> Vec<String> {
        let n = self.numbers();
        let mut lines = Vec::new();
        if self.legitimate.sent == 0 {
            lines.push("no legitimate request was sent after enforcement".to_owned());
        }
        if self.legitimate.failed > 0 {
            lines.push(format!("{} legitimate requests failed after enforcement", self.legitimate.failed));
            lines.extend(self.legitimate.failures.iter().map(|failure| format!("  {failure}")));
        }
        if n.leaks > 0 {
            lines.push(format!("{} packets or streams of attacks arrived", n.leaks));
            let leaked = self.attacks.iter().filter(|a| !a.arrivals.is_empty());
            lines.extend(leaked.map(|a| format!("  {}: {}: {}", a.id, a.tried, a.arrivals.join("; "))));
        }
        let lost = self.controls.iter().filter(|c| c.not_made.is_none() && c.arrivals.is_empty());
        let lost: Vec<&str> = lost.map(|c| c.id.as_str()).collect();
        if !lost.is_empty() {
            lines.push(format!(
                "without a firewall these did not arrive and prove nothing: {}",
                lost.join(", ")
            ));
        }
        for (family, kinds) in [4, 6].iter().zip(n.kinds).filter(|(_, kinds)| *kinds < KINDS_MIN) {
            lines.push(format!(
                "only {kinds} kinds of attack counted over IPv{family}, {KINDS_MIN} are needed"
            ));
        }
        lines
    }

    /// The denials that can be an attack's: several where others made the like at the same target.
    fn verdicts_on<'a>(&'a self, attack: &Outcome) -> impl Iterator<Item = (usize, &'a VerdictCount)> {
        let attacker = workload(&attack.attacker).to_owned();
        let protocol = L4Protocol(attack.protocol).to_string();
        let destinations = attack.destination.map(|address| self.names.of(address));
        let ports = attack.ports.clone();
        self.verdicts.iter().enumerate().filter(move |(_, verdict)| {
            verdict.enforced
                && verdict.source.to_string() == attacker
                && verdict.protocol == protocol
                && (ports.is_empty() || ports.contains(&verdict.port))
                && destinations.as_ref().is_none_or(|names| names.contains(&verdict.destination.to_string()))
        })
    }

    /// Reason and rule of the denials that can be an attack's, each once, those with a rule first.
    fn stopped_by(&self, attack: &Outcome) -> Vec<String> {
        let mut verdicts: Vec<&VerdictCount> = self.verdicts_on(attack).map(|(_, verdict)| verdict).collect();
        verdicts.sort_by_key(|verdict| (verdict.rule.is_none(), std::cmp::Reverse(verdict.count)));
        let mut texts: Vec<String> = Vec::new();
        for verdict in verdicts {
            let rule =
                verdict.rule.as_ref().map_or("default".to_owned(), |r| format!("{} {}", r.policy, r.rule));
            let text = format!("{} ({rule})", verdict.reason);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }

    /// The document of `--json`.
    pub(crate) fn json(&self) -> Value {
        let n = self.numbers();
        let denied: u64 = self.verdicts.iter().filter(|v| v.enforced).map(|v| v.count).sum();
        let allowed: u64 = self.flows.iter().filter(|f| f.verdict == Effect::Allow).map(|f| f.count).sum();
        let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
        for verdict in self.verdicts.iter().filter(|v| v.enforced) {
            *by_reason.entry(&verdict.reason).or_default() += verdict.count;
        }
        json!({
            "legitimate": {"sent": self.legitimate.sent, "failed": self.legitimate.failed},
            "controls": {"tried": n.controls_tried, "arrived": n.controls_arrived},
            "attacks": {
                "tried": n.tried,
                "blocked": n.blocked,
                "reported": n.reported,
                "kinds": {"4": n.kinds[0], "6": n.kinds[1]},
                "each": self.counted().map(|attack| self.attack_json(attack)).collect::<Vec<_>>(),
            },
            "leaks": n.leaks,
            "elapsed_s": rounded(self.elapsed_s),
            "sidecars_s": {"closed_to_observing": rounded(self.sidecars_s[0]), "to_enforcing": rounded(self.sidecars_s[1])},
            "flows": self.flows,
            "proposals": self.proposals,
            "policies": self.policies,
            "verdicts": {"allowed": allowed, "denied": denied, "by_reason": by_reason, "denials": self.verdicts},
            "incidents": self.incidents,
        })
    }

    fn attack_json(&self, attack: &Outcome) -> Value {
        json!({
            "id": attack.id,
            "attacker": attack.attacker,
            "target": attack.target,
            "tried": attack.tried,
            "arrivals": attack.arrivals,
            "not_made": attack.not_made,
            "stopped_by_one_of": self.stopped_by(attack),
        })
    }

    /// The report for a person.
    pub(crate) fn show(&self, screen: &Screen) {
        let n = self.numbers();
        screen.step("report");
        for attack in self.counted() {
            let what = if attack.arrivals.is_empty() { "blocked" } else { "ARRIVED" };
            let stopped = match self.stopped_by(attack).as_slice() {
                [] => "not seen by the controller".to_owned(),
                all => all.join(" or "),
            };
            screen.detail(&format!(
                "{what} {:<28} {} -> {}: {stopped}",
                attack.id, attack.attacker, attack.tried
            ));
        }
        screen.detail("");
        screen.detail("incidents:");
        self.incidents.iter().for_each(|incident| screen.incident(incident));
        screen.detail("");
        screen.detail(&format!(
            "legitimate {} sent, {} failed | controls {} of {} arrived | attacks {} of {} blocked, {} reported | leaks {}",
            self.legitimate.sent,
            self.legitimate.failed,
            n.controls_arrived,
            n.controls_tried,
            n.blocked,
            n.tried,
            n.reported,
            n.leaks,
        ));
        screen.detail(&format!(
            "kinds of attack: {} over IPv4, {} over IPv6 | sidecars ready in {:.1} s, enforcing {:.1} s after approval",
            n.kinds[0], n.kinds[1], self.sidecars_s[0], self.sidecars_s[1],
        ));
        for line in self.shortcomings() {
            screen.text(&format!("NOT GOOD: {line}"));
        }
    }
}

/// Whom the controller calls an address.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<IpAddr, BTreeSet<String>>);

impl Names {
    /// Names of everything in a lab.
    pub(crate) fn new(node: &Node) -> Self {
        let mut names: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
        for pod in &node.plan.pods {
            for address in pod.addresses() {
                names.entry(address).or_default().insert(node.lab.pods[pod.spec].full_name());
            }
        }
        for (service, (v4, v6)) in node.lab.services.iter().zip(&node.plan.services) {
            for address in [IpAddr::V4(*v4), IpAddr::V6(*v6)] {
                let behind =
                    node.plan.endpoints(&node.lab, service).map(|p| node.lab.pods[p.spec].full_name());
                let entry = names.entry(address).or_default();
                entry.extend(behind);
                entry.insert(format!("service {}/{}", service.namespace, service.name));
            }
        }
        for address in [IpAddr::V4(NODE.0), IpAddr::V6(NODE.1)] {
            names.entry(address).or_default().insert("node node".into());
        }
        Self(names)
    }

    fn of(&self, address: IpAddr) -> BTreeSet<String> {
        self.0.get(&address).cloned().unwrap_or_else(|| BTreeSet::from([address.to_string()]))
    }
}

/// `shop/reviews` of `shop/reviews-0`.
fn workload(place: &str) -> &str {
    place.rsplit_once('-').map_or(place, |(name, _)| name)
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kind: &str, family: u8, arrivals: usize) -> Outcome {
        Outcome {
            id: format!("{kind}/{family}"),
            kind: kind.into(),
            family,
            attacker: "shop/reviews-0".into(),
            target: "shop/store-0".into(),
            tried: "something".into(),
            destination: None,
            protocol: 6,
            ports: vec![5432],
            arrivals: vec!["bytes".into(); arrivals],
            not_made: None,
        }
    }

    /// A lab in which all is well.
    fn good() -> Report {
        let kinds = |arrivals| {
            (0..KINDS_MIN)
                .flat_map(move |k| [4, 6].map(|f| outcome(&format!("kind{k}"), f, arrivals)))
                .collect()
        };
        Report {
            legitimate: Totals { sent: 10, failed: 0, failures: Vec::new() },
            controls: kinds(1),
            attacks: kinds(0),
            ..Report::default()
        }
    }

    #[test]
    fn a_lab_in_which_all_is_well_has_no_shortcoming() {
        assert_eq!(good().shortcomings(), Vec::<String>::new());
        let n = good().numbers();
        assert_eq!((n.tried, n.blocked, n.leaks, n.kinds), (2 * KINDS_MIN, 2 * KINDS_MIN, 0, [KINDS_MIN; 2]));
    }

    #[test]
    fn one_arrival_one_failed_request_or_one_silent_control_spoils_it() {
        let mut leaked = good();
        leaked.attacks[3].arrivals.push("one packet".into());
        let mut stray = good();
        stray.attacks.push(Outcome { id: STRAY.into(), ..outcome(STRAY, 4, 1) });
        let mut failed = good();
        failed.legitimate.failed = 1;
        let mut silent = good();
        silent.controls[0].arrivals.clear();
        let mut idle = good();
        idle.legitimate.sent = 0;
        for report in [leaked, stray, failed, silent, idle] {
            assert!(!report.shortcomings().is_empty(), "{:?}", report.numbers());
        }
    }

    #[test]
    fn an_attack_that_never_arrived_counts_neither_as_tried_nor_as_blocked() {
        let mut report = good();
        report.controls[0].arrivals.clear();
        let n = report.numbers();
        assert_eq!((n.tried, n.blocked), (2 * KINDS_MIN - 1, 2 * KINDS_MIN - 1));
        assert_eq!(n.controls_tried - n.controls_arrived, 1);
    }

    #[test]
    fn the_document_has_the_shape_that_was_promised() {
        let document = good().json();
        for key in
            ["legitimate", "controls", "attacks", "leaks", "elapsed_s", "flows", "proposals", "policies"]
        {
            assert!(!document[key].is_null(), "{key}");
        }
        assert!(document["verdicts"].is_object() && document["incidents"].is_array());
        assert_eq!(document["legitimate"], json!({"sent": 10, "failed": 0}));
        assert_eq!(document["controls"], json!({"tried": 2 * KINDS_MIN, "arrived": 2 * KINDS_MIN}));
    }
}

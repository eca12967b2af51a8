//! Cases to outcomes, with every difference explained.

use super::read::shown_port;
use super::{Case, Expected, Suite};
use crate::diagnostics::{Diagnostic, Report, Span, quoted};
use crate::documents::Place;
use crate::program::{Answer, RuleInfo};
use crate::questions::{Destination, End, Ends, FlowAnswer, Judges, Question, SideAnswer, Version};
use bulkhead_facts::{Effect, L4Protocol, Reason};

/// What came out of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Name of the suite.
    pub suite: String,
    /// Name of the case.
    pub case: String,
    /// Where the case stands.
    pub place: Place,
    /// Flows that were asked.
    pub flows: usize,
    /// What differs; empty if the case holds.
    pub problems: Vec<Diagnostic>,
}

/// Differences that are told of one case; the rest are counted.
const TOLD_MAX: usize = 3;

/// Asks every case of a suite.
pub fn run(suite: &Suite, judges: &mut Judges<'_>) -> Vec<Outcome> {
    suite.cases.iter().map(|case| run_case(suite, case, judges)).collect()
}

fn run_case(suite: &Suite, case: &Case, judges: &mut Judges<'_>) -> Outcome {
    let mut report = Report::new(&*suite.file);
    let mut tally = Tally::default();
    let inventory = judges.inventory();
    let find = |report: &mut Report, names: &[(String, Span)]| -> Vec<(Ends, Span)> {
        names
            .iter()
            .filter_map(|(name, span)| Some((find_end(report, name, *span, inventory)?, *span)))
            .collect()
    };
    let (from, to) = (find(&mut report, &case.from), find(&mut report, &case.to));
    for (source, span) in &from {
        if matches!(source, Ends::Service(_)) {
            report.error("bad-case", *span, "a Service opens no flow").help("name the workload behind it");
        }
        if matches!(source, Ends::Name(_)) {
            report
                .error("bad-case", *span, "a name opens no flow")
                .help("name the address that it comes from");
        }
        for (destination, _) in &to {
            for (protocol, port) in &case.ports {
                let arriving = destination.destinations(inventory, *protocol, *port);
                let flows = source.sources(inventory).into_iter().flat_map(|source| {
                    arriving
                        .iter()
                        .filter(move |arriving| can_talk(source, arriving, *protocol))
                        .map(move |arriving| (source, *arriving))
                });
                for (source, arriving) in flows {
                    ask(case, judges, source, arriving, *protocol, &mut tally, &mut report);
                }
            }
        }
    }
    if tally.flows == 0 && !report.has_errors() {
        report
            .error("bad-case", case.span, "the case asks about no flow at all")
            .help("both ends need addresses of one family, and must be two pods");
    }
    if tally.differing > TOLD_MAX {
        let more = tally.differing - TOLD_MAX;
        report.error("case-differs", case.span, format!("{more} more flows of this case differ"));
    }
    let place = Place { file: suite.file.clone(), span: case.span };
    Outcome {
        suite: suite.name.clone(),
        case: case.name.clone(),
        place,
        flows: tally.flows,
        problems: report.finish(),
    }
}

fn find_end(
    report: &mut Report,
    name: &str,
    span: Span,
    inventory: &crate::inventory::Inventory,
) -> Option<Ends> {
    match Ends::find(name, inventory) {
        Ok(ends) => Some(ends),
        Err(unknown) => {
            report.error("unknown-reference", span, unknown.to_string()).help(unknown.help());
            None
        }
    }
}

#[derive(Default)]
struct Tally {
    flows: usize,
    differing: usize,
}

/// Two different pods, with addresses of one family that the protocol exists in.
fn can_talk(source: End<'_>, arriving: &Destination<'_>, protocol: L4Protocol) -> bool {
    let v4 = source.address.is_ipv4();
    let same_pod = source.pod.is_some() && source.pod == arriving.end.pod;
    let of_family = match protocol {
        L4Protocol::ICMP => v4,
        L4Protocol::ICMPV6 => !v4,
        _ => true,
    };
    v4 == arriving.end.address.is_ipv4() && !same_pod && of_family
}

fn ask(
    case: &Case,
    judges: &mut Judges<'_>,
    source: End<'_>,
    arriving: Destination<'_>,
    protocol: L4Protocol,
    tally: &mut Tally,
    report: &mut Report,
) {
    let Destination { end: destination, port, dialled, name } = arriving;
    let request = case.request.as_ref();
    let question = Question { source, destination, dialled, name, protocol, port, request };
    tally.flows += 1;
    let flow = format!("{} to {} {}", shown(source), shown(destination), shown_port((protocol, port)));
    match judges.ask(&question) {
        Ok(answer) => {
            if let Some(difference) = difference(&case.expected, &answer) {
                tally.differing += 1;
                if tally.differing <= TOLD_MAX {
                    report
                        .error("case-differs", case.span, format!("{flow}: {difference}"))
                        .help(explained(&answer, case.expected.version));
                }
            }
        }
        Err(error) => {
            report.error("not-compiled", case.span, format!("{flow}: {error}"));
        }
    }
}

fn shown(end: End<'_>) -> String {
    match end.pod {
        Some(pod) => format!("{}/{} ({})", pod.namespace, pod.name, end.address),
        None => end.address.to_string(),
    }
}

/// What is not as expected; `None` if all is.
fn difference(expected: &Expected, answer: &FlowAnswer) -> Option<String> {
    let effect = answer.effect(expected.version);
    if effect != expected.effect {
        return Some(format!("must be {}, is {effect}", expected.effect));
    }
    let deciding = answer.deciding(expected.version);
    if let Some(reason) = expected.reason {
        let found = deciding.map_or(Reason::NotIsolated, |side| side.version(expected.version).0.reason);
        if found != reason {
            return Some(format!("must be {effect} for reason `{reason}`, is for `{found}`"));
        }
    }
    if let Some(wanted) = &expected.rule {
        let rules: Vec<&RuleInfo> = match effect {
            // Both ends allow, so either end's rule will do.
            Effect::Allow => {
                answer.sides.iter().filter_map(|side| side.version(expected.version).1).collect()
            }
            Effect::Deny => deciding.and_then(|side| side.version(expected.version).1).into_iter().collect(),
        };
        if !rules.iter().any(|rule| is_rule(rule, wanted)) {
            let found = rules.iter().map(|rule| shown_rule(rule)).collect::<Vec<_>>().join(" and ");
            let found = if found.is_empty() { "none".to_owned() } else { found };
            return Some(format!("must be {effect} by rule {}, is by {found}", quoted(wanted)));
        }
    }
    None
}

/// `rule`, `policy/rule`, `namespace/policy/rule`, or the whole `Kind/namespace/policy/rule`.
fn is_rule(rule: &RuleInfo, wanted: &str) -> bool {
    let whole = shown_rule(rule);
    whole == wanted || whole.strip_suffix(wanted).is_some_and(|front| front.ends_with('/'))
}

fn shown_rule(rule: &RuleInfo) -> String {
    format!("{}/{}", rule.policy, rule.rule)
}

/// What each end says, in one line.
fn explained(answer: &FlowAnswer, version: Version) -> String {
    if answer.sides.is_empty() {
        return "neither end is a pod of the inventory: nothing is enforced".to_owned();
    }
    answer.sides.iter().map(|side| explained_side(side, version)).collect::<Vec<_>>().join("; ")
}

fn explained_side(side: &SideAnswer, version: Version) -> String {
    let (Answer { effect, reason, .. }, rule) = side.version(version);
    let by = match rule {
        Some(rule) => format!("rule `{}` ({} tier, {reason})", shown_rule(rule), rule.tier.as_str()),
        None => format!("default ({reason})"),
    };
    format!("{} at {}/{}: {effect} by {by}", side.direction, side.pod.namespace, side.pod.name)
}

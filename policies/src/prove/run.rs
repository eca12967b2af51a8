//! Assertions to outcomes, each that does not hold with a flow that shows it.

use super::ends::{EndSet, nodes};
use super::flows::{Named, Search, Traffic};
use super::reach::{Reached, Station, reach};
use super::{Assertion, Claim, Flow, Names, Proof};
use crate::diagnostics::{Diagnostic, Report, Span};
use crate::documents::Place;
use crate::inventory::{Inventory, ObjectName};
use crate::questions::Version;
use crate::space::{Block, Programs, TooManyKinds};
use bulkhead_facts::{Direction, WorkloadRef};
use std::collections::BTreeSet;

/// What came out of one assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Name of the proof.
    pub proof: String,
    /// Name of the assertion.
    pub assertion: String,
    /// Where it stands.
    pub place: Place,
    /// A flow that shows that it does not hold.
    pub counter_example: Option<Flow>,
    /// For a containment: the steps that lead there, the last one last.
    pub path: Vec<Reached>,
    /// What is wrong with the assertion, or `not-proven`; empty if it holds.
    pub problems: Vec<Diagnostic>,
}

impl Outcome {
    /// True if it is proven.
    pub fn holds(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Decides every assertion of a proof.
pub fn prove(proof: &Proof, programs: &Programs, inventory: &Inventory, version: Version) -> Vec<Outcome> {
    let stock = Stock { programs, inventory, version };
    proof.assertions.iter().map(|assertion| decide(proof, assertion, &stock)).collect()
}

/// What assertions are decided over.
struct Stock<'a> {
    programs: &'a Programs,
    inventory: &'a Inventory,
    version: Version,
}

fn decide(proof: &Proof, assertion: &Assertion, stock: &Stock<'_>) -> Outcome {
    let mut report = Report::new(&*proof.file);
    let span = assertion.span;
    let mut outcome = Outcome {
        proof: proof.name.clone(),
        assertion: assertion.name.clone(),
        place: Place { file: proof.file.clone(), span },
        counter_example: None,
        path: Vec::new(),
        problems: Vec::new(),
    };
    let found = match &assertion.claim {
        Claim::Never { .. } => never(&mut report, &assertion.claim, stock),
        Claim::Contained { from, within } => contained(&mut report, (from, within), stock).map(|path| {
            outcome.path = path;
            outcome.path.last().map(|last| last.flow.clone())
        }),
    };
    if !report.has_errors() {
        match found {
            Ok(None) => {}
            Ok(Some(flow)) => {
                not_proven(&mut report, span, format!("does not hold: {flow}"));
                outcome.counter_example = Some(flow);
            }
            Err(error) => not_proven(&mut report, span, format!("cannot be decided: {error}")),
        }
    }
    outcome.problems = report.finish();
    outcome
}

fn not_proven(report: &mut Report, span: Span, message: String) {
    report.error("not-proven", span, message);
}

fn never(report: &mut Report, claim: &Claim, stock: &Stock<'_>) -> Result<Option<Flow>, TooManyKinds> {
    let Stock { programs, inventory, version } = *stock;
    let Claim::Never { from, except, to, ports, section } = claim else { return Ok(None) };
    let sources = EndSet::find(report, from, inventory);
    let apart = EndSet::find(report, &Some(except.clone()), inventory);
    let targets = EndSet::find(report, to, inventory).with_services(inventory);
    if report.has_errors() {
        return Ok(None);
    }
    let traffic = Traffic { ports: ports.as_deref(), section: section.as_ref() };
    let mut search = Search::new(programs, inventory, version, traffic);
    let nodes = nodes(inventory);
    let mut cuts: Vec<Block> = nodes.iter().map(|address| (*address, *address)).collect();
    cuts.extend([&sources, &apart, &targets].into_iter().flat_map(|set| set.blocks.iter().copied()));
    let pods: Vec<Named<'_>> = inventory.pods.iter().filter(|(_, pod)| !pod.host_network).collect();
    for from in &pods {
        let source = |address| sources.holds_pod(from.0, address) && !apart.holds_pod(from.0, address);
        for to in &pods {
            let wanted =
                |hop: &crate::space::Hop<'_>| source(hop.source) && targets.holds_pod(to.0, hop.destination);
            if let Some(flow) = search.between(*from, *to, wanted)? {
                return Ok(Some(flow));
            }
        }
        let leaving = |own, address| source(own) && targets.holds_outside(address, &nodes);
        if let Some(flow) = search.outside(*from, Direction::Egress, &cuts, leaving)? {
            return Ok(Some(flow));
        }
    }
    for to in &pods {
        let coming = |own, address| {
            let source = sources.holds_outside(address, &nodes) && !apart.holds_outside(address, &nodes);
            source && targets.holds_pod(to.0, own)
        };
        if let Some(flow) = search.outside(*to, Direction::Ingress, &cuts, coming)? {
            return Ok(Some(flow));
        }
    }
    Ok(None)
}

/// Names with their places.
type Written = [(String, Span)];

/// The steps to something that must not be reached; none if all that is reached may be.
fn contained(
    report: &mut Report,
    (from, within): (&Written, &Written),
    stock: &Stock<'_>,
) -> Result<Vec<Reached>, TooManyKinds> {
    let Stock { programs, inventory, version } = *stock;
    let named = |names: &Written| -> Names { Some(names.to_vec()) };
    let start = EndSet::find(report, &named(from), inventory);
    let limits: Vec<(String, Span)> =
        within.iter().filter(|(name, _)| name != "outside" && name != "nodes").cloned().collect();
    let allowed = EndSet::find(report, &named(&limits), inventory);
    let pods = || inventory.pods.iter().filter(|(_, pod)| !pod.host_network);
    let members = |set: &EndSet| -> BTreeSet<ObjectName> {
        let holds = |(name, pod): &Named<'_>| {
            pod.addresses.iter().any(|address| set.holds_pod(name, address.to_canonical()))
        };
        pods().filter(holds).map(|(name, _)| name.clone()).collect()
    };
    let start = members(&start);
    if let (true, false, Some((_, span))) = (start.is_empty(), report.has_errors(), from.first()) {
        report
            .error("bad-proof", *span, "no pod is meant by `from`")
            .help("name a pod, a workload or a namespace with pods");
    }
    if report.has_errors() {
        return Ok(Vec::new());
    }
    let allowed = members(&allowed);
    let whole = |workload: &WorkloadRef| {
        let mut all = pods().filter(|(_, pod)| pod.workload == *workload);
        all.all(|(name, _)| allowed.contains(name))
    };
    let found = reach(programs, inventory, &start, version)?;
    let may = |station: &Station| match station {
        Station::Workload(workload) => whole(workload),
        Station::Nodes => within.iter().any(|(name, _)| name == "nodes"),
        Station::Outside => within.iter().any(|(name, _)| name == "outside"),
    };
    let Some(beyond) = found.iter().find(|reached| !may(&reached.station)) else { return Ok(Vec::new()) };
    let mut path = vec![beyond.clone()];
    while let Some(before) = found.iter().find(|reached| {
        path.last()
            .is_some_and(|last| reached.station == Station::Workload(last.by.clone()) && last.steps > 1)
    }) {
        path.push(before.clone());
    }
    path.reverse();
    Ok(path)
}

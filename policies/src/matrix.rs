//! The truth table: for every ordered pair of pods and every probe, whether a connection passes, and by which rule.
//!
//! Both ends are asked: the source's egress and the destination's ingress. A pod reaches itself, by its own address; a pod
//! in its node's network namespace has no sidecar and is seen as its node. Rows are those of the destination's primary
//! address that the source can reach; where another family answers differently, the row says so. A port on which
//! requests are inspected counts as allowed if some request may pass.

use crate::compile::{CompileError, Compiler, builtin_policy};
use crate::decide::{InvalidProgram, Judge};
use crate::inventory::{Inventory, ObjectName, Pod};
use crate::program::{Action, Answer, AnswerPair, L7Stage, RuleInfo};
use bulkhead_facts::{Direction, Effect, L4Protocol, Reason, Tier};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// Protocol.
    pub protocol: L4Protocol,
    /// The destination's port; `type << 8 | code` for ICMP.
    pub port: u16,
}

/// One cell of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Who connects.
    pub from: &'a ObjectName,
    /// To whom.
    pub to: &'a ObjectName,
    /// What is tried.
    pub probe: Probe,
    /// What holds.
    pub enforced: Cell,
    /// What would hold if audited policies counted.
    pub shadow: Cell,
    /// True if not every request passes: layer 7 decides.
    pub inspected: bool,
    /// True if the pods have addresses of another family and it is answered otherwise there.
    pub differs_by_family: bool,
}

/// One verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Allow or deny.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// The rule that decided: of the end that denies, else of the destination, else of the source.
    pub rule: Option<RuleInfo>,
    /// The end that decided; `None` where neither end has a sidecar, or the pod reaches itself.
    pub decided_by: Option<Direction>,
}

/// Why there is no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatrixError {
    /// A program cannot be compiled.
    Compile(CompileError),
    /// A compiled program is not sound: a fault of ours.
    Invalid(InvalidProgram),
}

impl fmt::Display for MatrixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compile(error) => write!(f, "{error}"),
            Self::Invalid(error) => write!(f, "compiled program is not sound: {error}"),
        }
    }
}

impl std::error::Error for MatrixError {}

/// The programs of all pods, ready to be asked.
pub struct Matrix<'a> {
    inventory: &'a Inventory,
    judges: Vec<Judge>,
    by_pod: BTreeMap<&'a ObjectName, usize>,
}

impl<'a> Matrix<'a> {
    /// Compiles every program once.
    pub fn new(compiler: &Compiler<'_>, inventory: &'a Inventory) -> Result<Self, MatrixError> {
        let mut matrix = Self { inventory, judges: Vec::new(), by_pod: BTreeMap::new() };
        for group in compiler.programs(1).map_err(MatrixError::Compile)? {
            let at = matrix.judges.len();
            matrix.judges.push(Judge::new(group.program).map_err(MatrixError::Invalid)?);
            let pods = group.pods.iter().filter_map(|pod| inventory.pods.get_key_value(pod));
            matrix.by_pod.extend(pods.map(|(name, _)| (name, at)));
        }
        Ok(matrix)
    }

    /// Every row, by source, destination, probe. Pods without an address have none.
    pub fn rows(&self, probes: &[Probe]) -> impl Iterator<Item = Row<'a>> {
        let pods = &self.inventory.pods;
        let pairs = pods.iter().flat_map(move |from| pods.iter().map(move |to| (from, to)));
        pairs.flat_map(move |(from, to)| probes.iter().filter_map(move |probe| self.row(from, to, *probe)))
    }

    fn row(
        &self,
        (from, source): (&'a ObjectName, &'a Pod),
        (to, destination): (&'a ObjectName, &'a Pod),
        probe: Probe,
    ) -> Option<Row<'a>> {
        let reachable =
            |address: &&IpAddr| source.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4());
        let mut addresses = destination.addresses.iter().filter(reachable);
        let primary = *addresses.next()?;
        let answer = |address: IpAddr| {
            let own = source.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4());
            own.map(|own| self.asked((from, *own), (to, address), probe))
        };
        let Asked { cells: [enforced, shadow], inspected } = answer(primary)?;
        let effects = |asked: Asked| asked.cells.map(|cell| cell.effect);
        let same = |address: &IpAddr| answer(*address).map(effects) == Some([enforced.effect, shadow.effect]);
        let differs_by_family = !addresses.all(same);
        Some(Row { from, to, probe, enforced, shadow, inspected, differs_by_family })
    }

    fn asked(
        &self,
        (from, source): (&ObjectName, IpAddr),
        (to, destination): (&ObjectName, IpAddr),
        probe: Probe,
    ) -> Asked {
        if from == to {
            return Asked { cells: [itself(), itself()], inspected: false };
        }
        let mut asked = Asked { cells: [unprotected(), unprotected()], inspected: false };
        for (pod, direction, peer) in
            [(from, Direction::Egress, destination), (to, Direction::Ingress, source)]
        {
            let Some(judge) = self.by_pod.get(pod).map(|at| &self.judges[*at]) else { continue };
            let (pair, inspected) = best(judge, judge.action(direction, peer, probe.protocol, probe.port));
            asked.inspected |= inspected;
            for (cell, answer) in asked.cells.iter_mut().zip([pair.enforced, pair.shadow]) {
                // The first end that denies settles it, else the last that is asked.
                if cell.effect == Effect::Allow {
                    *cell = spelled(judge, answer, direction);
                }
            }
        }
        asked
    }
}

struct Asked {
    cells: [Cell; 2],
    inspected: bool,
}

/// The pair of an action, and whether it depends on the bytes: then what the kindest request would get.
fn best(judge: &Judge, action: Action) -> (AnswerPair, bool) {
    let chain = match action {
        Action::Answer(id) | Action::Learn(id) => return (judge.answer(id), false),
        Action::Inspect { chain, .. } => &judge.program().l7_chains[chain.0 as usize],
    };
    let end = judge.answer(chain.end);
    let enforced = kindest(&chain.enforced, end.enforced);
    let shadow = if chain.shadow.is_empty() { enforced } else { kindest(&chain.shadow, end.shadow) };
    (AnswerPair { enforced, shadow }, true)
}

fn kindest(stages: &[L7Stage], end: Answer) -> Answer {
    let allows =
        stages.iter().flat_map(|stage| &stage.entries).find(|entry| entry.effect == Some(Effect::Allow));
    match allows {
        Some(entry) => {
            Answer { effect: Effect::Allow, rule: Some(entry.rule), reason: Reason::AllowedByRule }
        }
        None => end,
    }
}

fn spelled(judge: &Judge, answer: Answer, direction: Direction) -> Cell {
    Cell {
        effect: answer.effect,
        reason: answer.reason,
        rule: answer.rule.map(|rule| judge.rule(rule).clone()),
        decided_by: Some(direction),
    }
}

/// Traffic to the own address never leaves the pod.
fn itself() -> Cell {
    let rule = RuleInfo {
        tier: Tier::Infrastructure,
        policy: builtin_policy(),
        rule: "itself".to_owned(),
        direction: Direction::Egress,
    };
    Cell { effect: Effect::Allow, reason: Reason::AllowedByRule, rule: Some(rule), decided_by: None }
}

/// Neither end has a sidecar.
fn unprotected() -> Cell {
    Cell { effect: Effect::Allow, reason: Reason::NotIsolated, rule: None, decided_by: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Source;
    use crate::documents::{load, load_inventory};

    const INVENTORY: &str = r#"
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Namespace, metadata: {name: x}}
  - {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {pod: a}}, spec: {nodeName: n, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}}
  - {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x, labels: {pod: b}}, spec: {nodeName: n, containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}}
"#;

    fn table(policy: &str) -> Vec<String> {
        let loaded = load(&[Source { name: "policy.yaml".into(), text: policy.into() }]);
        assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics);
        let inventory =
            load_inventory(&[Source { name: "inventory.yaml".into(), text: INVENTORY.into() }]).unwrap();
        let compiler = Compiler::new(&loaded.set, &inventory).unwrap();
        let matrix = Matrix::new(&compiler, &inventory).unwrap();
        let probe = Probe { protocol: L4Protocol::TCP, port: 80 };
        let shown = |row: Row<'_>| {
            let rule = row.enforced.rule.map_or("-".to_owned(), |rule| rule.rule);
            let by = row.enforced.decided_by.map_or("nobody", Direction::as_str);
            let marks = format!(
                "{}{}",
                if row.inspected { " l7" } else { "" },
                if row.differs_by_family { " family" } else { "" }
            );
            format!("{}->{} {} {rule} {by}{marks}", row.from.name, row.to.name, row.enforced.effect)
        };
        matrix.rows(&[probe]).map(shown).collect()
    }

    #[test]
    fn both_ends_are_asked_and_the_one_that_denies_is_named() {
        let policy = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress], egress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]}
";
        let expected = [
            "a->a allow itself nobody",
            "a->b allow - ingress",
            "b->a deny - ingress",
            "b->b allow itself nobody",
        ];
        assert_eq!(table(policy), expected);
    }

    #[test]
    fn inspected_ports_and_families_that_differ_are_marked() {
        let policy = "
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: p, namespace: x}
spec:
  workloads: {pod: b}
  ingress: [{name: web, from: [{cidr: 10.0.0.0/24}], ports: [80], http: [{methods: [GET], path: /}]}]
";
        assert_eq!(table(policy)[1], "a->b allow web ingress l7 family");
    }
}

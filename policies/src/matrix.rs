//! The truth table: for every ordered pair of pods and every probe, whether a connection passes, and by which rule.
//!
//! Both ends are asked: the source's egress and the destination's ingress. A pod reaches itself, by its own address; a pod
//! in its node's network namespace has no sidecar and is seen as its node. Rows are those of the destination's primary
//! address that the source can reach; where another family answers differently, the row says so. With a request, each row
//! says what holds for it; without one, a port on which requests are inspected counts as allowed if some request passes
//! both ends.

use crate::compile::{CompileError, Compiler, builtin_policy};
use crate::decide::{InvalidProgram, Judge};
use crate::inventory::{Inventory, ObjectName, Pod};
use crate::program::{Action, Answer, L7Stage, RuleInfo};
use crate::questions::{RequestQuestion, Version};
use crate::space::{Gate, RequestKind, Sent, allows, requests};
use bulkhead_facts::{Direction, Effect, L4Protocol, Reason, Tier};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

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
    request: Option<RequestQuestion>,
    kindest: RefCell<HashMap<Vec<(usize, Action)>, Kindest>>,
}

/// Of all requests one that passes the ends of a flow: enforced, and shadow. `None` where rules tell too many kinds of
/// requests apart: then what each end says by itself has to do.
type Kindest = Option<Rc<[Option<RequestKind>; 2]>>;

impl<'a> Matrix<'a> {
    /// Compiles every program once.
    pub fn new(compiler: &Compiler<'_>, inventory: &'a Inventory) -> Result<Self, MatrixError> {
        let mut matrix = Self {
            inventory,
            judges: Vec::new(),
            by_pod: BTreeMap::new(),
            request: None,
            kindest: RefCell::default(),
        };
        for group in compiler.programs(1).map_err(MatrixError::Compile)? {
            let at = matrix.judges.len();
            matrix.judges.push(Judge::new(group.program).map_err(MatrixError::Invalid)?);
            let pods = group.pods.iter().filter_map(|pod| inventory.pods.get_key_value(pod));
            matrix.by_pod.extend(pods.map(|(name, _)| (name, at)));
        }
        Ok(matrix)
    }

    /// The same, asked with a request where the probe's protocol carries it.
    pub fn with_request(self, request: RequestQuestion) -> Self {
        Self { request: Some(request), ..self }
    }

    /// Every row, by source, destination, probe. Pods that have no address of one family have none.
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
        let ends = [(from, Direction::Egress, destination), (to, Direction::Ingress, source)];
        let doors: Vec<Door<'_>> = ends
            .into_iter()
            .filter_map(|(pod, direction, peer)| {
                let number = *self.by_pod.get(pod)?;
                let judge = &self.judges[number];
                let action = judge.action(direction, peer, probe.protocol, probe.port);
                Some(Door { direction, number, gate: Gate { judge, action } })
            })
            .collect();
        let inspected = doors.iter().any(|door| door.gate.inspects());
        let cells = match self.request.as_ref().filter(|request| request.runs_on(probe.protocol)) {
            Some(request) => {
                both(|version| settled(&doors, |gate| gate.answer(Sent::Request(request), version)))
            }
            None if inspected => self.kindest_cells(&doors),
            None => both(|version| settled(&doors, |gate| gate.answer(Sent::Opaque, version))),
        };
        Asked { cells, inspected }
    }

    /// What the request gets that fares best at both ends together.
    fn kindest_cells(&self, doors: &[Door<'_>]) -> [Cell; 2] {
        // An end that denies every byte settles it, whatever the other would read.
        let closed = |version: Version| {
            let denies = |door: &Door<'_>| {
                !door.gate.inspects() && door.gate.answer(Sent::Opaque, version).effect == Effect::Deny
            };
            doors.iter().any(denies)
        };
        if closed(Version::Enforced) && closed(Version::Shadow) {
            return both(|version| settled(doors, |gate| gate.answer(Sent::Opaque, version)));
        }
        let key: Vec<(usize, Action)> = doors.iter().map(|door| (door.number, door.gate.action)).collect();
        let known = self.kindest.borrow().get(&key).cloned();
        let found = known.unwrap_or_else(|| {
            let found = kindest_of(&doors.iter().map(|door| door.gate).collect::<Vec<_>>());
            self.kindest.borrow_mut().insert(key, found.clone());
            found
        });
        match found {
            Some(kinds) => both(|version| {
                let kind = &kinds[version as usize];
                let sent = kind.as_ref().map_or(Sent::Opaque, RequestKind::sent);
                settled(doors, |gate| gate.answer(sent, version))
            }),
            None => both(|version| settled(doors, |gate| best(gate, version))),
        }
    }
}

struct Asked {
    cells: [Cell; 2],
    inspected: bool,
}

/// One end that has a sidecar.
struct Door<'j> {
    direction: Direction,
    number: usize,
    gate: Gate<'j>,
}

fn both(cell: impl Fn(Version) -> Cell) -> [Cell; 2] {
    [Version::Enforced, Version::Shadow].map(cell)
}

/// The first end that denies settles it, else the last that is asked.
fn settled(doors: &[Door<'_>], answer: impl Fn(&Gate<'_>) -> Answer) -> Cell {
    let mut cell = unprotected();
    for door in doors.iter() {
        if cell.effect == Effect::Allow {
            cell = spelled(door.gate.judge, answer(&door.gate), door.direction);
        }
    }
    cell
}

fn kindest_of(gates: &[Gate<'_>]) -> Kindest {
    let kinds = requests(gates, None, false).ok()?;
    // Where none passes, a request says more than bytes that nobody can read.
    let usual = kinds.iter().find(|kind| kind.request.is_some()).or(kinds.first());
    Some(Rc::new(
        [Version::Enforced, Version::Shadow]
            .map(|version| kinds.iter().find(|kind| allows(gates, kind.sent(), version)).or(usual).cloned()),
    ))
}

/// What the kindest rule of one end says.
fn best(gate: &Gate<'_>, version: Version) -> Answer {
    let Action::Inspect { chain, .. } = gate.action else { return gate.answer(Sent::Opaque, version) };
    let chain = &gate.judge.program().l7_chains[chain.0 as usize];
    let end = gate.judge.answer(chain.end);
    match version {
        Version::Shadow if !chain.shadow.is_empty() => kindest(&chain.shadow, end.shadow),
        Version::Enforced | Version::Shadow => kindest(&chain.enforced, end.enforced),
    }
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

    const NARROW: &str = "
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: b, namespace: x}
spec: {workloads: {pod: b}, ingress: [{name: web, ports: [80], http: [{methods: [GET], path: /a}]}]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SegmentPolicy
metadata: {name: a, namespace: x}
spec: {workloads: {pod: a}, egress: [{name: out, ports: [80], http: [{methods: [GET], path: METHOD}]}]}
";

    #[test]
    fn an_inspected_port_is_allowed_if_some_request_passes_both_ends() {
        assert_eq!(table(&NARROW.replace("METHOD", "\"/{any}\""))[1], "a->b allow web ingress l7");
        assert_eq!(table(&NARROW.replace("METHOD", "/b"))[1], "a->b deny out egress l7");
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

//! What compiling costs: 6,000 workloads with 100,000 rules, all programs, one program of them, and the difference that one
//! pod or one policy makes. `--once` does it once in a process of its own and tells the memory it took.

use bulkhead_benches::{Case, measure, report};
use bulkhead_facts::{L4Protocol, PathTemplate, PolicyRef, PortRange, Tier, WorkloadRef};
use bulkhead_policies::compile::{Compiler, Difference, Kept};
use bulkhead_policies::inventory::{Inventory, Labels, ObjectName, Pod};
use bulkhead_policies::model::{
    HttpMatch, L7Section, NamespaceMatch, Operator, Peer, Peers, Policy, PolicyMode, PolicySet, PortMatch,
    Ports, Requirement, Rule, RuleAction, Selector, Subject,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

const WORKLOADS: u32 = 6_000;
const NAMESPACES: u32 = 60;
const RULES_PER_WORKLOAD: u32 = 17;
const ROUNDS: usize = 3;

fn main() {
    let inventory = inventory();
    let set = policies();
    if std::env::args().any(|argument| argument == "--once") {
        return once(&set, &inventory);
    }
    let rules: usize = set.policies.iter().map(|p| p.ingress.len() + p.egress.len()).sum();
    let one = name(WORKLOADS / 2);
    let all = || {
        let compiler = Compiler::new(&set, &inventory).expect("a valid set");
        let groups = compiler.programs(1).expect("programs within the limits");
        assert_eq!(groups.iter().map(|g| g.pods.len()).sum::<usize>(), WORKLOADS as usize);
        groups.len()
    };
    let compiler = Compiler::new(&set, &inventory).expect("a valid set");
    let elsewhere = [1, 2].map(|round| {
        let mut inventory = inventory.clone();
        if let Difference::Pod(name, Some(pod)) = moved(&one, round) {
            inventory.pods.insert(name, pod);
        }
        inventory
    });
    let mut kept = [(); 4].map(|()| keep(&set, &inventory));
    let [moving, coming, compared, rewritten] = &mut kept;
    let rows = measure(
        vec![
            Case::new("index policies and inventory", 1, |_| Compiler::new(&set, &inventory).is_ok()),
            Case::new("all programs of 6,000 workloads", 1, |_| all()),
            Case::new("one program of them", 20, |_| compiler.program(&one, 1).is_some()),
            Case::new("a pod changes its address", 20, |round| apply(moving, vec![moved(&one, round)])),
            Case::new("a pod comes or goes", 20, |round| apply(coming, vec![come_or_go(&one, round)])),
            Case::new("a pod changes its address, found by comparing", 20, |round| {
                let now = &elsewhere[usize::from(round.is_multiple_of(2))];
                let differences = compared.inventory_differences(now);
                apply(compared, differences)
            }),
            Case::new("a policy is rewritten", 20, |_| {
                let policy = Arc::new(policy(WORKLOADS / 2));
                let differences =
                    vec![Difference::PolicyGoes(policy.clone()), Difference::PolicyComes(policy)];
                apply(rewritten, differences)
            }),
        ],
        ROUNDS,
    );
    let figures = [
        ("rules", rules as f64),
        ("all programs, seconds", rows[1].median_ns / 1e9),
        ("one program, milliseconds", rows[2].median_ns / 1e6),
        (
            "one pod's change, milliseconds",
            rows[3..=5].iter().map(|row| row.median_ns).fold(0.0, f64::max) / 1e6,
        ),
        ("one policy's change, milliseconds", rows[6].median_ns / 1e6),
        ("peak memory, MiB", peak_memory_mib()),
    ];
    report("compile", &rows, &figures);
}

/// All programs kept, in a process that does nothing else: what a controller takes that starts.
fn once(set: &PolicySet, inventory: &Inventory) {
    let start = Instant::now();
    let kept = keep(set, inventory);
    println!(
        "{} programs, {:.2} s, {:.0} MiB at most",
        kept.programs().len(),
        start.elapsed().as_secs_f64(),
        peak_memory_mib()
    );
}

fn keep(set: &PolicySet, inventory: &Inventory) -> Kept {
    let mut kept = Kept::default();
    kept.apply(kept.differences(set, inventory), 1).expect("programs within the limits");
    kept
}

/// How many programs were compiled anew.
fn apply(kept: &mut Kept, differences: Vec<Difference>) -> usize {
    let renewed = kept.apply(differences, 2).expect("programs within the limits");
    assert!((1..100).contains(&renewed.compiled), "{} programs for one change", renewed.compiled);
    renewed.compiled
}

fn moved(name: &ObjectName, round: u64) -> Difference {
    let address = 0x0a80_0000 + u32::from(round.is_multiple_of(2));
    let pod = Pod { addresses: vec![IpAddr::V4(Ipv4Addr::from(address))], ..pod(WORKLOADS / 2) };
    Difference::Pod(name.clone(), Some(pod))
}

fn come_or_go(name: &ObjectName, round: u64) -> Difference {
    Difference::Pod(name.clone(), (!round.is_multiple_of(2)).then(|| pod(WORKLOADS / 2)))
}

fn name(index: u32) -> ObjectName {
    ObjectName { namespace: format!("ns-{}", index % NAMESPACES), name: format!("svc-{index}-0") }
}

fn labels(pairs: &[(&str, String)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
}

fn inventory() -> Inventory {
    let namespaces = (0..NAMESPACES)
        .map(|n| (format!("ns-{n}"), labels(&[("kubernetes.io/metadata.name", format!("ns-{n}"))])))
        .collect();
    let pods = (0..WORKLOADS).map(|i| (name(i), pod(i))).collect();
    let nodes = BTreeMap::from([("node".to_owned(), vec![IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1))])]);
    Inventory { namespaces, pods, nodes, ..Inventory::default() }
}

fn pod(index: u32) -> Pod {
    Pod {
        uid: format!("uid-{index}"),
        workload: WorkloadRef {
            namespace: format!("ns-{}", index % NAMESPACES),
            name: format!("svc-{index}"),
        },
        labels: labels(&[("app", format!("svc-{index}"))]),
        service_account: "default".into(),
        addresses: vec![IpAddr::V4(Ipv4Addr::from(0x0a00_0100 + index))],
        host_network: false,
        node: "node".into(),
        ports: vec![],
        probe_ports: vec![],
    }
}

fn policies() -> PolicySet {
    PolicySet { policies: (0..WORKLOADS).map(policy).collect(), collections: vec![] }
}

fn policy(index: u32) -> Policy {
    let namespace = format!("ns-{}", index % NAMESPACES);
    Policy {
        origin: PolicyRef {
            kind: "SegmentPolicy".into(),
            namespace: Some(namespace.clone()),
            name: format!("svc-{index}"),
        },
        tier: Tier::Namespace,
        priority: 0,
        subject: Subject { namespaces: NamespaceMatch::Own(namespace.clone()), workloads: app(index) },
        isolates: [true, true],
        mode: PolicyMode::Inherit,
        ingress: (0..RULES_PER_WORKLOAD - 1).map(|r| rule(index, r)).collect(),
        egress: vec![rule(index, RULES_PER_WORKLOAD)],
    }
}

fn rule(index: u32, number: u32) -> Rule {
    let peer = (index + 1 + number * 61) % WORKLOADS;
    let namespace = NamespaceMatch::Own(format!("ns-{}", peer % NAMESPACES));
    let http = HttpMatch {
        methods: vec!["GET".into()],
        path: Some(PathTemplate::parse(&format!("/api/{number}/{{id}}")).expect("a template")),
        ..HttpMatch::default()
    };
    Rule {
        name: format!("rule-{number}"),
        action: RuleAction::Allow,
        peers: Peers::These(vec![Peer::Workloads { namespaces: namespace, workloads: app(peer) }]),
        ports: Ports::These(vec![PortMatch::Range(L4Protocol::TCP, PortRange::single(8080))]),
        l7: number.is_multiple_of(4).then(|| L7Section::Http(vec![http])),
    }
}

fn app(index: u32) -> Selector {
    Selector {
        requirements: vec![Requirement {
            key: "app".into(),
            operator: Operator::In(vec![format!("svc-{index}")]),
        }],
    }
}

/// Peak resident set of this process; 0 where the kernel does not tell.
fn peak_memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or_default() / 1024.0
}

//! Whatever changes in whatever order, what is kept is what compiling everything gives.

use super::*;
use crate::naive::random::{self, Random};

const SEEDS: u64 = 60;
const SEEDS_LONG: u64 = 2_000;
const STEPS: usize = 25;

/// What compiling everything gives: each pod's program, and the warnings.
type Outcome = Result<(BTreeMap<ObjectName, Program>, Vec<CompileWarning>), Vec<CompileError>>;

#[derive(Clone)]
struct World {
    set: PolicySet,
    inventory: Inventory,
}

impl World {
    fn compiled(&self) -> Outcome {
        let compiler = Compiler::new(&self.set, &self.inventory)?;
        let (groups, warnings) = compiler.programs_with_warnings(0).map_err(|error| vec![error])?;
        let of_group = |group: super::super::ProgramGroup| {
            group.pods.into_iter().map(move |pod| (pod, group.program.clone()))
        };
        Ok((groups.into_iter().flat_map(of_group).collect(), warnings))
    }

    /// One difference, or now and then none.
    fn change(&mut self, random: &mut Random) {
        let (other, set) = (random::inventory(random), random::policy_set(random));
        let Inventory { namespaces, pods, services, nodes, node_labels } = &mut self.inventory;
        match random.below(16) {
            0..=3 => exchange(random, pods, &other.pods),
            4..=5 => remove(random, pods),
            6..=8 => {
                exchange(random, services, &other.services);
                if !random.once_in(4) {
                    services.values_mut().for_each(|service| fill(random, service));
                }
            }
            9 => remove(random, services),
            10..=11 => self.set.policies.extend(set.policies.into_iter().next()),
            12..=13 if !self.set.policies.is_empty() => {
                self.set.policies.swap_remove(random.below(self.set.policies.len()));
            }
            14 if random.once_in(4) => exchange(random, namespaces, &other.namespaces),
            14 if random.once_in(3) => remove(random, nodes),
            14 if random.once_in(2) => exchange(random, node_labels, &other.node_labels),
            14 => exchange(random, nodes, &other.nodes),
            15 if random.once_in(3) => self.set.collections = set.collections,
            _ => {
                // A ready endpoint more or less is what happens most.
                let ports = services.values_mut().flat_map(|service| &mut service.ports);
                if let Some(port) = ports.into_iter().next() {
                    let extra = other.services.values().flat_map(|service| &service.ports);
                    port.endpoints.extend(extra.flat_map(|port| &port.endpoints).next());
                }
            }
        }
    }
}

/// Endpoints of both families on every port, sometimes on the port that is dialled: a Service that lacks none bears on few.
fn fill(random: &mut Random, service: &mut Service) {
    for port in &mut service.ports {
        for family in ["10.0.0.", "fd00::"] {
            let address = format!("{family}{}", random.below(6) + 1).parse().unwrap();
            let target = if random.once_in(2) { port.port } else { 8080 };
            port.endpoints.push((address, target));
        }
    }
}

fn exchange<K: Ord + Clone, V: Clone>(random: &mut Random, own: &mut BTreeMap<K, V>, other: &BTreeMap<K, V>) {
    if !other.is_empty() {
        let (key, value) = other.iter().nth(random.below(other.len())).unwrap();
        own.insert(key.clone(), value.clone());
    }
}

fn remove<K: Ord + Clone, V>(random: &mut Random, own: &mut BTreeMap<K, V>) {
    if !own.is_empty() {
        let key = own.keys().nth(random.below(own.len())).unwrap().clone();
        own.remove(&key);
    }
}

fn kept_outcome(kept: &Kept) -> (BTreeMap<ObjectName, Program>, Vec<CompileWarning>) {
    let program = |kept: &KeptProgram| Program { revision: 0, ..Program::clone(&kept.program) };
    (kept.programs().iter().map(|(name, kept)| (name.clone(), program(kept))).collect(), kept.warnings())
}

#[test]
fn what_is_kept_is_what_compiling_everything_gives() {
    let (mut steps, mut in_part, mut refused) = (0, 0, 0);
    let seeds = if std::env::var_os("BULKHEAD_LONG").is_some() { SEEDS_LONG } else { SEEDS };
    for seed in 0..seeds {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1c);
        let mut world =
            World { set: random::policy_set(&mut random), inventory: random::inventory(&mut random) };
        let mut kept = Kept::default();
        kept.apply(kept.differences(&world.set, &world.inventory), 1).unwrap();
        for step in 0..STEPS {
            let before = world.clone();
            (0..=random.below(2)).for_each(|_| world.change(&mut random));
            let changes = kept.differences(&world.set, &world.inventory);
            let renewed = kept.apply(changes, step as u64 + 2);
            match world.compiled() {
                Ok(expected) => {
                    let renewed = renewed.unwrap();
                    assert_eq!(kept_outcome(&kept), expected, "seed {seed}, step {step}");
                    steps += 1;
                    in_part += usize::from(renewed.compiled < expected.0.len());
                }
                Err(errors) => {
                    assert_eq!(renewed, Err(errors), "seed {seed}, step {step}");
                    world = before;
                    assert_eq!(
                        kept.inventory(),
                        &world.inventory,
                        "seed {seed}, step {step}: nothing changes"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(
        in_part * 3 > steps,
        "{in_part} of {steps} changes compiled less than everything ({refused} refused)"
    );
    println!("{in_part} of {steps} changes compiled less than everything, {refused} were refused");
}

#[test]
fn a_program_of_the_same_content_keeps_its_revision() {
    let mut random = Random(7);
    let (set, mut inventory) = (random::policy_set(&mut random), random::inventory(&mut random));
    let mut kept = Kept::default();
    let all = kept.apply(kept.differences(&set, &inventory), 1).unwrap();
    assert_eq!(all.changed.len(), kept.programs().len());
    let name = kept.programs().keys().next().unwrap().clone();
    inventory.pods.get_mut(&name).unwrap().service_account = "other".into();
    let renewed = kept.apply(kept.differences(&set, &inventory), 2).unwrap();
    assert_eq!(renewed.changed, []);
    assert!(kept.programs().values().all(|kept| kept.program.revision == 1));
    inventory.pods.get_mut(&name).unwrap().uid = "born again".into();
    let renewed = kept.apply(kept.differences(&set, &inventory), 3).unwrap();
    assert_eq!((renewed.changed.as_slice(), renewed.gone.len()), ([name.clone()].as_slice(), 1));
    assert_eq!(kept.programs()[&name].program.revision, 3);
}

#[test]
fn a_change_that_does_not_compile_changes_nothing() {
    let mut random = Random(11);
    let (mut set, inventory) = (random::policy_set(&mut random), random::inventory(&mut random));
    set.collections.clear();
    let mut kept = Kept::default();
    kept.apply(kept.differences(&set, &inventory), 1).unwrap();
    let before = kept_outcome(&kept);
    let everything = crate::model::Subject {
        namespaces: crate::model::NamespaceMatch::Labels(Default::default()),
        workloads: Default::default(),
    };
    let collection = |name: &str| Collection {
        name: name.into(),
        covers: everything.clone(),
        owners: vec![],
        default: Default::default(),
        mode: Mode::Enforce,
        canary: Default::default(),
        schedule: vec![],
        freeze: vec![],
        infrastructure: crate::model::Infrastructure::ALL,
        criticality: Default::default(),
    };
    let mut wrong = set.clone();
    wrong.collections = vec![collection("one"), collection("two")];
    wrong.policies.pop();
    let errors = kept.apply(kept.differences(&wrong, &inventory), 2).unwrap_err();
    assert_eq!(errors, Compiler::new(&wrong, &inventory).err().unwrap());
    assert_eq!(kept_outcome(&kept), before);
    assert!(kept.differences(&set, &inventory).is_empty());
}

/// What no name may lead to is part of programs that name somebody else altogether.
#[test]
fn a_pod_that_comes_is_inside_for_every_rule_by_name() {
    let mut random = Random(5);
    let mut inventory = random::inventory(&mut random);
    inventory.services.clear();
    let mut policy = random::policy_set(&mut random).policies.remove(0);
    policy.tier = bulkhead_facts::Tier::Namespace;
    let name = bulkhead_facts::NamePattern::parse("api.card.example").unwrap();
    policy.egress = vec![crate::model::Rule {
        name: "card".into(),
        action: crate::model::RuleAction::Allow,
        peers: crate::model::Peers::These(vec![crate::model::Peer::Name(name)]),
        ports: crate::model::Ports::Any,
        l7: None,
    }];
    policy.ingress.clear();
    policy.subject = crate::model::Subject {
        namespaces: crate::model::NamespaceMatch::Labels(Default::default()),
        workloads: Default::default(),
    };
    let set = PolicySet { policies: vec![policy], collections: vec![] };
    let mut world = World { set, inventory };
    let mut kept = Kept::default();
    kept.apply(kept.differences(&world.set, &world.inventory), 1).unwrap();
    let template = world.inventory.pods.values().find(|pod| !pod.host_network).unwrap().clone();
    for (at, host_network) in [("203.0.113.9", false), ("2001:db8::9", true)] {
        let pod =
            Pod { uid: at.into(), addresses: vec![at.parse().unwrap()], host_network, ..template.clone() };
        let name = ObjectName { namespace: "elsewhere".into(), name: format!("new-{host_network}") };
        world.inventory.pods.insert(name, pod);
        kept.apply(kept.differences(&world.set, &world.inventory), 2).unwrap();
        assert_eq!(Ok(kept_outcome(&kept)), world.compiled(), "{at}");
    }
}

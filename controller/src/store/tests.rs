//! What every store must do, run against each that there is.

use super::sqlite::{Bounds, Sqlite};
use super::{Appended, Batch, Loss, Records, Store, StoreError};
use crate::flows::{Edge, Endpoint, Judgement, SeenEdge, Totals};
use crate::limits::{EDGES_OUTSIDE_PER_POD_AND_DAY_MAX, EDGES_PER_POD_AND_DAY_MAX, INSTANCES_PER_POD_MAX};
use bulkhead_api::rest::{AuditEntry, Effect, Party, PartyKind, Proposal, ProposalState, Side};

const DAY_MS: u64 = 86_400_000;

#[test]
fn a_batch_that_comes_again_is_acknowledged_and_counts_once() {
    with_store(|store| {
        assert_eq!(store.append(&[batch("a", 1, 5)]), Ok(vec![Appended::Stored]));
        assert_eq!(store.append(&[batch("a", 1, 5)]), Ok(vec![Appended::Repeated]));
        assert_eq!(count(store), 5);
    });
}

#[test]
fn batches_of_a_restarted_sidecar_are_new_though_their_numbers_begin_again() {
    with_store(|store| {
        store.append(&[batch("first run", 7, 1)]).expect("stored");
        assert_eq!(store.append(&[batch("second run", 1, 1)]), Ok(vec![Appended::Stored]));
        assert_eq!(store.append(&[batch("first run", 7, 1)]), Ok(vec![Appended::Repeated]));
        assert_eq!(count(store), 2);
    });
}

#[test]
fn equal_edges_of_one_day_are_one_with_the_sums_and_the_widest_times() {
    with_store(|store| {
        let mut late = batch("a", 2, 3);
        late.edges[0].1.first_seen_ms = 500;
        late.edges[0].1.last_seen_ms = 9_000;
        store.append(&[batch("a", 1, 2), late]).expect("stored");
        let edges = edges(store);
        assert_eq!(edges.len(), 1);
        let totals = &edges[0].totals;
        assert_eq!((totals.count, totals.first_seen_ms, totals.last_seen_ms), (5, 500, 9_000));
        assert_eq!(totals.bytes_to_destination, 20);
    });
}

#[test]
fn days_are_kept_apart_and_forgotten_whole() {
    with_store(|store| {
        let mut tomorrow = batch("a", 2, 1);
        tomorrow.edges[0].1.last_seen_ms = DAY_MS + 1;
        store.append(&[batch("a", 1, 1), tomorrow]).expect("stored");
        assert_eq!(edges(store).iter().map(|e| e.day).collect::<Vec<_>>(), [1, 0], "newest first");
        store.forget(1).expect("forgotten");
        assert_eq!(edges(store).iter().map(|e| e.day).collect::<Vec<_>>(), [1]);
    });
}

#[test]
fn counters_of_a_hostile_sidecar_stop_and_never_fail() {
    with_store(|store| {
        for sequence in 1..=3 {
            assert_eq!(store.append(&[batch("a", sequence, u64::MAX)]), Ok(vec![Appended::Stored]));
        }
        assert_eq!(count(store), (1 << 53) - 1);
    });
}

#[test]
fn a_pod_that_fills_its_share_loses_new_edges_only_and_the_loss_is_counted() {
    with_store(|store| {
        let mut flood = batch("a", 1, 1);
        let first = flood.edges[0].clone();
        flood.edges = (0..EDGES_PER_POD_AND_DAY_MAX + 7)
            .map(|number| {
                let mut edge = first.clone();
                edge.0.application = number.to_string();
                edge
            })
            .collect();
        flood.dropped = 4;
        store.append(&[flood]).expect("stored");
        assert_eq!(edges(store).len(), EDGES_PER_POD_AND_DAY_MAX);
        let loss = Loss { pod_uid: "uid-1".into(), by_sidecar: 4, by_controller: 7, last_ms: 0 };
        assert_eq!(store.losses(), Ok(vec![loss]));
    });
}

#[test]
fn what_a_pod_does_outside_crowds_out_nothing_inside_and_is_told_by_network() {
    with_store(|store| {
        let mut flood = batch("a", 1, 1);
        flood.edges = (0..EDGES_OUTSIDE_PER_POD_AND_DAY_MAX + 3).map(outside).collect();
        store.append(&[flood, batch("a", 2, 1)]).expect("stored");
        let names: Vec<_> = edges(store).into_iter().map(|one| one.edge.destination.party.name).collect();
        assert_eq!(names.len(), EDGES_OUTSIDE_PER_POD_AND_DAY_MAX + 2, "one network, and one inside");
        assert!(names.contains(&"8.8.0.0/16".to_owned()) && names.contains(&"db".to_owned()));
        assert_eq!(count(store), EDGES_OUTSIDE_PER_POD_AND_DAY_MAX as u64 + 4, "nothing is lost");
        assert_eq!(store.losses(), Ok(vec![]));
    });
}

#[test]
fn a_store_full_of_flows_still_takes_revisions_tokens_and_audit_and_counts_what_it_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let bounds = Bounds { flow_bytes_max: 512 << 10, bytes_max: 1 << 20 };
    let mut store = Sqlite::open_bounded(&folder.path().join("store.sqlite"), bounds).expect("made");
    let mut sequence = 0;
    let mut append = |store: &mut Sqlite, day: u64| {
        sequence += 1;
        let mut one = batch("a", sequence, 1);
        one.edges[0].0.application = format!("{sequence}{}", "x".repeat(2_000));
        one.edges[0].1.last_seen_ms += day * DAY_MS;
        one.received_ms = day * DAY_MS;
        store.append(&[one])
    };
    for _ in 0..400 {
        assert_eq!(append(&mut store, 0), Ok(vec![Appended::Stored]), "the stream goes on");
    }
    let kept = edges(&mut store).len();
    assert!(kept < 400);
    assert_eq!(store.losses().expect("read")[0].by_controller, 400 - kept as u64);
    let audit = AuditEntry {
        at_ms: 5,
        actor: "admin".into(),
        action: "approve".into(),
        subject: "x".repeat(1_000),
        detail: String::new(),
    };
    for number in 0..100 {
        store.set_revision(number).expect("policy goes on");
        store.add_token(&number.to_string(), "uid-1", 1_000, 0).expect("pods may join");
        store.add_audit(&audit).expect("the trail goes on");
    }
    store.forget(1).expect("forgotten");
    append(&mut store, 1).expect("stored");
    assert_eq!(edges(&mut store).len(), 1, "there is room again");
}

#[test]
fn no_room_at_all_is_told_from_other_failures() {
    let folder = tempfile::tempdir().expect("a folder");
    let bounds = Bounds { flow_bytes_max: 1 << 30, bytes_max: 256 << 10 };
    let mut store = Sqlite::open_bounded(&folder.path().join("store.sqlite"), bounds).expect("made");
    let mut one = batch("a", 1, 1);
    one.edges[0].0.application = "x".repeat(512 << 10);
    assert_eq!(store.append(&[one]), Err(StoreError::Full { what: "store flows" }));
    assert_eq!(store.append(&[batch("a", 2, 1)]), Ok(vec![Appended::Stored]), "what fits is stored");
}

#[test]
fn what_was_not_stored_uses_up_no_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let bounds = Bounds { flow_bytes_max: 1 << 30, bytes_max: 16 << 20 };
    let mut store = Sqlite::open_bounded(&folder.path().join("store.sqlite"), bounds).expect("made");
    let mut flood = batch("a", 1, 1);
    let mut huge = flood.edges[0].clone();
    huge.0.application = "x".repeat(32 << 20);
    flood.edges = (0..EDGES_OUTSIDE_PER_POD_AND_DAY_MAX).map(outside).chain([huge]).collect();
    assert_eq!(store.append(&[flood]), Err(StoreError::Full { what: "store flows" }));
    let mut one = batch("a", 2, 1);
    one.edges = vec![outside(0)];
    assert_eq!(store.append(&[one]), Ok(vec![Appended::Stored]));
    assert_eq!(edges(&mut store)[0].edge, outside(0).0, "itself, not its network");
}

#[test]
fn runs_of_a_pod_are_remembered_up_to_their_limit() {
    with_store(|store| {
        for run in 0..INSTANCES_PER_POD_MAX + 1 {
            let mut batch = batch(&run.to_string(), 1, 1);
            batch.received_ms = run;
            store.append(&[batch]).expect("stored");
        }
        let newest = INSTANCES_PER_POD_MAX.to_string();
        assert_eq!(store.append(&[batch(&newest, 1, 1)]), Ok(vec![Appended::Repeated]));
        assert_eq!(store.append(&[batch("0", 1, 1)]), Ok(vec![Appended::Stored]), "the oldest is forgotten");
    });
}

#[test]
fn a_token_is_good_for_one_key_and_only_until_it_expires() {
    with_store(|store| {
        store.add_token("one", "uid-1", 1_000, 0).expect("added");
        assert_eq!(store.token_pod("one", 10), Ok(Some("uid-1".into())));
        assert_eq!(store.use_token("one", "key", 10), Ok(true));
        assert_eq!(store.use_token("one", "another key", 11), Ok(false));
        assert_eq!(store.use_token("one", "key", 12), Ok(true), "its certificate may have got lost");
        assert_eq!(store.use_token("one", "key", 1_000), Ok(false));
        store.add_token("late", "uid-1", 1_000, 0).expect("added");
        assert_eq!(store.token_pod("late", 1_000), Ok(None));
        assert_eq!(store.use_token("late", "key", 1_000), Ok(false));
        assert_eq!(store.use_token("never issued", "key", 10), Ok(false));
    });
}

#[test]
fn a_newer_proposal_takes_the_place_of_the_open_one() {
    with_store(|store| {
        let first = store.add_proposal(&proposal("shop")).expect("added");
        store.add_proposal(&proposal("bank")).expect("added");
        let second = store.add_proposal(&proposal("shop")).expect("added");
        let states: Vec<_> = store.proposals().expect("read").iter().map(|p| (p.id, p.state)).collect();
        assert_eq!(states[0], (first, ProposalState::Superseded));
        assert_eq!(states[1].1, ProposalState::Open);
        assert_eq!(states[2], (second, ProposalState::Open));
    });
}

#[test]
fn a_decision_is_kept_with_its_line_in_the_audit_trail() {
    with_store(|store| {
        let id = store.add_proposal(&proposal("shop")).expect("added");
        let entry = AuditEntry {
            at_ms: 5,
            actor: "admin".into(),
            action: "approve".into(),
            subject: "proposal 1".into(),
            detail: String::new(),
        };
        store
            .decide_proposal(id, ProposalState::Applied, Some("approved/shop.yaml"), &entry)
            .expect("decided");
        let kept = store.proposals().expect("read").remove(0);
        assert_eq!(
            (kept.state, kept.written_to.as_deref()),
            (ProposalState::Applied, Some("approved/shop.yaml"))
        );
        assert_eq!(store.audit(), Ok(vec![entry.clone()]));
        assert!(store.decide_proposal(99, ProposalState::Applied, None, &entry).is_err());
        assert_eq!(store.audit(), Ok(vec![entry]), "a decision that failed leaves no line");
    });
}

#[test]
fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let mut store = Sqlite::open(&path).expect("made");
    store.append(&[batch("a", 1, 2)]).expect("stored");
    store.set_revision(41).expect("stored");
    drop(store);
    let mut store = Sqlite::open(&path).expect("opened");
    assert_eq!(count(&mut store), 2);
    assert_eq!(store.revision(), Ok(41));
    assert_eq!(store.append(&[batch("a", 1, 2)]), Ok(vec![Appended::Repeated]));
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let newer = rusqlite::Connection::open(&path).expect("made");
    newer.pragma_update(None, "user_version", 99).expect("set");
    assert!(matches!(Sqlite::open(&path), Err(StoreError::Newer { found: 99, .. })));
    let format: i64 = newer.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("read");
    assert_eq!(format, 99);
}

#[test]
fn a_file_of_the_first_format_is_brought_to_the_newest_with_what_it_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let old = rusqlite::Connection::open(&path).expect("made");
    old.execute_batch(include_str!("format_1.sql")).expect("made");
    old.execute_batch("INSERT INTO tokens VALUES ('one', 'uid-1', 1000, NULL); PRAGMA user_version = 1")
        .expect("filled");
    drop(old);
    let mut store = Sqlite::open(&path).expect("brought up");
    assert_eq!(store.use_token("one", "key", 10), Ok(true));
    assert_eq!(store.append(&[batch("a", 1, 2)]), Ok(vec![Appended::Stored]));
}

#[tokio::test]
async fn batches_that_wait_together_are_each_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let open = || Box::new(Sqlite::open(&path).expect("opened"));
    let (records, threads) = Records::start(open(), open(), open()).expect("started");
    let sending: Vec<_> = (1..=100)
        .map(|number| {
            let records = records.clone();
            tokio::spawn(async move { records.append(batch(&number.to_string(), 1, 1)).await })
        })
        .collect();
    for sent in sending {
        assert_eq!(sent.await.expect("no panic"), Ok(Appended::Stored));
    }
    let total: u64 =
        records.report(|s| Ok(edges(s))).await.expect("read").iter().map(|e| e.totals.count).sum();
    assert_eq!(total, 100);
    drop(records);
    tokio::task::spawn_blocking(|| threads.join()).await.expect("joined");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_takes_long_does_not_hold_up_look_ups() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let open = || Box::new(Sqlite::open(&path).expect("opened"));
    let (records, threads) = Records::start(open(), open(), open()).expect("started");
    let (go_on, held) = std::sync::mpsc::channel();
    let report = tokio::spawn({
        let records = records.clone();
        async move { records.report(move |_| Ok(held.recv().is_ok())).await }
    });
    records.write(|store| store.add_token("one", "uid-1", 1_000, 0)).await.expect("added");
    assert_eq!(records.read(|store| store.token_pod("one", 10)).await, Ok(Some("uid-1".into())));
    go_on.send(()).expect("the report still waits");
    assert_eq!(report.await.expect("no panic"), Ok(true));
    drop(records);
    tokio::task::spawn_blocking(|| threads.join()).await.expect("joined");
}

fn with_store(check: impl Fn(&mut dyn Store)) {
    let folder = tempfile::tempdir().expect("a folder");
    check(&mut Sqlite::open(&folder.path().join("store.sqlite")).expect("made"));
}

fn edges(store: &mut dyn Store) -> Vec<SeenEdge> {
    let mut all = Vec::new();
    store.each_edge(0, &mut |one| all.push(one)).expect("read");
    all
}

fn count(store: &mut dyn Store) -> u64 {
    edges(store).iter().map(|edge| edge.totals.count).sum()
}

/// An edge to another address of one network outside.
fn outside(number: usize) -> (Edge, Totals) {
    let mut edge = batch("a", 1, 1).edges.remove(0);
    let address = std::net::Ipv4Addr::from_bits(0x0808_0000 + u32::try_from(number).expect("small"));
    edge.0.destination.address = address.into();
    let (kind, name) = (PartyKind::Outside, address.to_string());
    edge.0.destination.party = Party { kind, namespace: None, name };
    edge
}

fn batch(instance: &str, sequence: u64, count: u64) -> Batch {
    let end = |name: &str| Endpoint {
        party: Party { kind: PartyKind::Workload, namespace: Some("shop".into()), name: name.into() },
        pod: Some(format!("{name}-0")),
        address: "10.0.0.1".parse().expect("address"),
    };
    let judgement = Judgement { effect: Effect::Allow, reason: "allowed_by_rule".into(), rule: None };
    let edge = Edge {
        observed_by: Side::Source,
        source: end("web"),
        destination: end("db"),
        via_service: None,
        protocol: 6,
        port: 80,
        dialled_port: 80,
        http: None,
        request: None,
        application: String::new(),
        enforced: judgement.clone(),
        shadow: judgement,
    };
    let totals = Totals {
        count,
        bytes_to_destination: 10,
        first_seen_ms: 1_000,
        last_seen_ms: 2_000,
        ..Totals::default()
    };
    Batch {
        pod_uid: "uid-1".into(),
        instance: instance.into(),
        sequence,
        edges: vec![(edge, totals)],
        dropped: 0,
        received_ms: 0,
    }
}

fn proposal(collection: &str) -> Proposal {
    Proposal {
        id: 0,
        collection: collection.into(),
        created_ms: 1,
        state: ProposalState::Open,
        document: "kind: SegmentPolicy\n".into(),
        policies: 1,
        rules: vec![],
        held_back: vec![],
        decided_ms: None,
        written_to: None,
    }
}

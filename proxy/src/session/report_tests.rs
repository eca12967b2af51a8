//! What a connection tells: counts of what is alike, what is kept of a request, and what of it outlives a change.

use super::super::tests::{Hold, current};
use super::*;
use crate::metrics::Metrics;
use bulkhead_api::Flow;
use bulkhead_facts::{Effect, Reason};
use bulkhead_inspect::{Command, Subject};
use std::net::Ipv4Addr;

#[test]
fn commands_that_are_not_kept_are_told_each_as_what_it_is() {
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let recorder = Arc::new(Recorder::new(Arc::new(Metrics::new().expect("metrics"))));
    let current = current(Hold::Gate, Direction::Ingress);
    let answers = Verdicts::new(Arc::clone(&current), Direction::Ingress, address, 80, None).opaque();
    let mut report = Report::new(Arc::clone(&recorder), Direction::Ingress, address, address, 80);
    report.client_bytes = u64::MAX;
    let long = vec![b'k'; REQUESTS_IN_FLIGHT_BYTES_MAX - 2 * REQUEST_BYTES];
    let mut ask = |name: &str, key: &[u8]| {
        let command = Command { name, keys: vec![key], database: Some(0) };
        let question = Question { bytes: &[], exchange: 0, lasting: false, subject: Subject::Redis(command) };
        report.released(&current, answers, &question, None);
    };
    ask("GET", &long);
    for _ in 0..1_000 {
        ask("SET", b"session:1");
        ask("DEL", b"session:1");
    }
    assert!(report.in_flight.len() < 4, "{} are held", report.in_flight.len());
    for _ in 0..1_000 {
        report.progress(Progress { completed: true, ..Progress::default() }, "redis");
    }
    report.close("redis", None);
    recorder.make_batch();
    let flows = recorder.next_batch().expect("a batch").flows;
    let told = |name: &str| -> u64 {
        let is_named = |flow: &&Flow| match flow.request.as_deref() {
            Some(RequestSignature::Redis(command)) => command.command == name,
            other => panic!("{other:?}"),
        };
        flows.iter().filter(is_named).map(|flow| flow.count).sum()
    };
    assert_eq!([told("get"), told("set"), told("del")], [1, 1_000, 1_000]);
}

fn report() -> (Report, Arc<Current>, Arc<Recorder>) {
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let recorder = Arc::new(Recorder::new(Arc::new(Metrics::new().expect("metrics"))));
    let report = Report::new(Arc::clone(&recorder), Direction::Ingress, address, address, 80);
    (report, current(Hold::Gate, Direction::Ingress), recorder)
}

fn kept(path: &str) -> Kept {
    Kept::Http(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes().into())
}

/// Asks and has the answer; true if it was known what holds.
fn exchange(report: &mut Report, current: &Arc<Current>, path: &str, status: u16) -> bool {
    let verdicts = Verdicts::new(Arc::clone(current), Direction::Ingress, report.peer, 80, None);
    let kept = kept(path);
    let question = kept.question().expect("a request");
    let known = report.known(current, &question);
    let is_known = known.is_some();
    if let Some(known) = &known {
        assert_eq!(known.answers(), verdicts.request(&question));
    }
    report.bytes_to_destination += 10;
    report.released(current, verdicts.request(&question), &question, known);
    report.progress(Progress { status: Some(status), completed: true, ..Progress::default() }, "http/1.1");
    is_known
}

#[test]
fn requests_that_are_alike_are_counted_each_and_told_together() {
    let (mut report, current, recorder) = report();
    for status in [200, 200, 204, 503, 200] {
        exchange(&mut report, &current, "/ok/a", status);
    }
    exchange(&mut report, &current, "/ok/b", 200);
    exchange(&mut report, &current, "/ok/a", 200);
    exchange(&mut report, &current, "/ok/17", 200);
    exchange(&mut report, &current, "/ok/18", 200);
    let recent = report.recent.as_ref().map_or(0, |recent| recent.requests);
    assert_eq!(recent, 1, "what is kept of the next one needs the room");
    report.flush();
    report.flush();
    recorder.make_batch();
    let flows = recorder.next_batch().expect("a batch").flows;
    let told = |path: &str, class: u16| {
        let http = |flow: &&Flow| {
            let http = flow.http.as_ref().expect("a request");
            (http.path_template.as_str(), http.status) == (path, class)
        };
        let of = flows.iter().filter(http);
        of.fold((0, 0), |sum, flow| (sum.0 + flow.count, sum.1 + flow.bytes_to_destination))
    };
    assert_eq!([told("/ok/a", 2), told("/ok/a", 5), told("/ok/b", 2)], [(5, 50), (1, 10), (1, 10)]);
    assert_eq!(told("/ok/{id}", 2), (2, 20));
    assert_eq!(report.observations, 9);
}

#[test]
fn what_holds_for_a_request_is_known_only_under_the_same_program_and_for_the_same_bytes() {
    let (mut report, program, _) = report();
    assert!(!exchange(&mut report, &program, "/ok/a", 200));
    assert!(exchange(&mut report, &program, "/ok/a", 200));
    assert!(!exchange(&mut report, &program, "/ok/b", 200));
    assert!(!exchange(&mut report, &program, "/ok/a", 200), "one is remembered");
    let next = current(Hold::Gate, Direction::Ingress);
    assert!(!exchange(&mut report, &next, "/ok/a", 200), "another program");
    let (kept, other) = (kept("/ok/a"), Kept::Http2(kept("/ok/a").question().unwrap().bytes.into(), 1));
    let question = Question { exchange: 1, ..kept.question().unwrap() };
    assert!(!other.is_of(&kept.question().unwrap()) && !kept.is_of(&question), "another protocol");
}

#[test]
fn requests_that_reports_call_alike_are_told_together_though_each_is_judged() {
    let (mut report, current, recorder) = report();
    let verdicts = Verdicts::new(Arc::clone(&current), Direction::Ingress, report.peer, 80, None);
    let asked = ["/ok/17", "/ok/18", "/other/1", "/ok/19"].map(kept);
    for (exchange, kept) in (1..).zip(&asked) {
        let question = Question { exchange, ..kept.question().unwrap() };
        assert!(report.known(&current, &question).is_none());
        report.released(&current, verdicts.request(&question), &question, None);
    }
    for exchange in 1..=4 {
        let progress = Progress { exchange, status: Some(200), completed: true, ..Progress::default() };
        report.progress(progress, "http/2");
    }
    report.flush();
    recorder.make_batch();
    let mut told: Vec<_> = recorder.next_batch().expect("a batch").flows.into_iter().collect();
    told.sort_by_key(|flow| flow.count);
    let told: Vec<_> = told
        .iter()
        .map(|flow| {
            (flow.http.as_ref().expect("a request").path_template.as_str(), flow.enforced.effect, flow.count)
        })
        .collect();
    assert_eq!(told, [("/other/{id}", Effect::Deny, 1), ("/ok/{id}", Effect::Allow, 3)]);
    let held = report.recent.as_ref().map_or(0, |recent| recent.asked.size());
    assert_eq!(report.kept_bytes, held, "of the others nothing is kept");
}

#[test]
fn what_was_kept_of_a_request_is_given_back_once_nobody_needs_it() {
    let (mut report, current, _) = report();
    for path in ["/ok/a", "/ok/a", "/ok/b", "/ok/a"] {
        exchange(&mut report, &current, path, 200);
        report.flush();
        let held = report.recent.as_ref().map_or(0, |recent| recent.asked.size());
        assert!(held > 0 && report.kept_bytes == held, "{} of {held}", report.kept_bytes);
    }
    exchange(&mut report, &current, &format!("/ok/{}", "x".repeat(RECENT_BYTES_MAX)), 200);
    report.flush();
    assert!(report.recent.is_none() && report.kept_bytes == 0, "an idle connection holds little");
}

#[test]
fn what_cannot_be_asked_about_again_does_not_outlive_a_change() {
    let peer = IpAddr::from(Ipv4Addr::LOCALHOST);
    let current = current(Hold::Gate, Direction::Ingress);
    let verdicts = Verdicts::new(Arc::clone(&current), Direction::Ingress, peer, 80, None);
    let verdict = |memory| {
        let asked = Asked { memory, ..Asked::unkept(&current, verdicts.opaque(), None, None) };
        let released = Released::new(asked, 0);
        released.verdict(&verdicts).map(|answers| (answers.enforced.effect, answers.enforced.reason))
    };
    let kept = |head: &[u8]| Memory::Kept(Kept::Http(head.into()));
    let unread = Some((Effect::Deny, Reason::TierChanged));
    assert_eq!(verdict(kept(b"GET /ok/1 HTTP/1.1\r\nhost: a\r\n\r\n")).map(|it| it.0), Some(Effect::Allow));
    assert_eq!((verdict(kept(b"no request")), verdict(Memory::Forgotten)), (unread, unread));
    assert_eq!(verdict(Memory::Nothing), None);
}

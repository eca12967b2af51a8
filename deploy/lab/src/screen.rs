//! What a person sees while the story is told: on standard output, or on standard error if that carries JSON.

use bulkhead_api::rest::{FlowEdge, HttpSummary, Incident, Proposal, RequestSummary};
use std::collections::BTreeMap;
use std::io::Write;
use tokio::time::Instant;

/// Where progress goes.
pub(crate) struct Screen {
    to_stderr: bool,
    started: Instant,
}

impl Screen {
    pub(crate) fn new(to_stderr: bool, started: Instant) -> Self {
        Self { to_stderr, started }
    }

    /// A step of the story, with the time since its beginning.
    pub(crate) fn step(&self, text: &str) {
        self.write(&format!("[{:>5.1} s] {text}\n", self.started.elapsed().as_secs_f64()));
    }

    /// Something that belongs to the last step.
    pub(crate) fn detail(&self, text: &str) {
        for line in text.lines() {
            self.write(&format!("          {line}\n"));
        }
    }

    /// Plain text.
    pub(crate) fn text(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    fn write(&self, text: &str) {
        // A reader that went away is no reason to end the lab.
        if self.to_stderr {
            let _ = std::io::stderr().write_all(text.as_bytes());
        } else {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// The service map: who talks to whom, by source.
    pub(crate) fn service_map(&self, flows: &[FlowEdge]) {
        let mut by_source: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for flow in flows {
            by_source.entry(flow.source.to_string()).or_default().push(edge(flow));
        }
        for (source, mut edges) in by_source {
            edges.sort();
            self.detail(&source);
            for (at, edge) in edges.iter().enumerate() {
                let branch = if at + 1 == edges.len() { "└─" } else { "├─" };
                self.detail(&format!("  {branch}▶ {edge}"));
            }
        }
    }

    /// The documents of a proposal, and what speaks for each rule.
    pub(crate) fn proposal(&self, proposal: &Proposal) {
        self.detail(&proposal.document);
        self.detail("evidence per rule:");
        for rule in &proposal.rules {
            let e = &rule.evidence;
            let sides = if e.both_sides { "both sides" } else { "one side" };
            self.detail(&format!(
                "  {} {} {}: {} seen, {} to {} replicas, {sides}, chance of something unseen {:.2} %",
                rule.policy,
                rule.direction,
                rule.rule,
                e.count,
                e.source_replicas,
                e.destination_replicas,
                percent(e.unseen_millionths),
            ));
        }
        for held in &proposal.held_back {
            self.detail(&format!("  held back: {held}"));
        }
    }

    /// One incident with what was tried and what stopped it.
    pub(crate) fn incident(&self, incident: &Incident) {
        const ATTEMPTS: usize = 6;
        let outcome = if incident.blocked { "blocked" } else { "not blocked" };
        self.detail(&format!(
            "{} [{} {}] {outcome}",
            incident.title, incident.technique, incident.technique_name
        ));
        for attempt in incident.attempts.iter().take(ATTEMPTS) {
            let request = asked(attempt.http.as_ref(), attempt.request.as_ref());
            let rule = attempt
                .rule
                .as_ref()
                .map_or("the default".to_owned(), |r| format!("{} {}", r.policy, r.rule));
            self.detail(&format!(
                "  {} {}/{}{request} x{}: {} at the {}, {rule}",
                attempt.target,
                attempt.protocol,
                attempt.port,
                attempt.count,
                attempt.reason,
                side(attempt.stopped_by),
            ));
        }
        let more = incident.attempts.len().saturating_sub(ATTEMPTS) + incident.attempts_more;
        if more > 0 {
            self.detail(&format!("  and {more} more"));
        }
    }
}

fn edge(flow: &FlowEdge) -> String {
    let request = asked(flow.http.as_ref(), flow.request.as_ref());
    let via = flow.via_service.as_ref().map(|s| format!(" via {s}")).unwrap_or_default();
    format!("{} {}/{}{request} x{}{via}", flow.destination, flow.protocol, flow.port, flow.count)
}

/// The request, behind a space; empty where none was read.
fn asked(http: Option<&HttpSummary>, other: Option<&RequestSummary>) -> String {
    match (http, other) {
        (Some(http), _) => format!(" {} {}", http.method, http.path),
        (None, Some(request)) => format!(" {request}"),
        (None, None) => String::new(),
    }
}

fn side(side: bulkhead_api::rest::Side) -> &'static str {
    match side {
        bulkhead_api::rest::Side::Source => "source",
        bulkhead_api::rest::Side::Destination => "destination",
    }
}

fn percent(millionths: u64) -> f64 {
    // At most a million, which a float holds exactly.
    u32::try_from(millionths).map_or(100.0, |m| f64::from(m) / 10_000.0)
}

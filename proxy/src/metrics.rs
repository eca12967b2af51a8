//! What the sidecar measures, for Prometheus.
//!
//! Every label has a closed list of values, so the number of series is fixed at start. Counters that are touched per
//! request are resolved once and found by index. Nothing here names a peer: that is the flow log's part.

use crate::dns::DNS_COUNTERS;
use crate::flows::Observation;
use crate::flows::rules::{self, RuleCounters};
use crate::session::COUNTERS;
use bulkhead_api::{Capability, Weakness};
use bulkhead_facts::{Direction, Effect, Reason};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// The sidecar's metrics.
pub struct Metrics {
    registry: Registry,
    verdicts: Vec<IntCounter>,
    denials: Vec<IntCounter>,
    bytes: Vec<IntCounter>,
    capability: IntGaugeVec,
    weakness: IntGaugeVec,
    table_packets: IntCounterVec,
    table_bytes: IntCounterVec,
    sessions: Vec<(IntCounter, &'static AtomicU64)>,
    /// What each rule let pass and refused.
    pub rules: RuleCounters,
    /// Connections that went through the inspector, `[ingress, egress]`.
    pub connections: [IntCounter; 2],
    /// Connections through the inspector now.
    pub connections_open: IntGauge,
    /// Connections reset since too many were open.
    pub connections_refused: IntCounter,
    /// Revision of the program in force; 0 before the first.
    pub program_revision: IntGauge,
    /// Programs that were taken.
    pub programs_applied: IntCounter,
    /// Those of them that came into force by elements of the kernel's maps alone.
    pub program_element_changes: IntCounter,
    /// Programs that were refused.
    pub programs_refused: IntCounter,
    /// Seconds from a program's arrival to its enforcement.
    pub program_apply_seconds: Histogram,
    /// Times that somebody else changed the kernel table and it was put back.
    pub tampering: IntCounter,
    /// Denied packets whose detail the kernel dropped.
    pub lost_denial_details: IntCounter,
    /// Connection events that the kernel or we dropped.
    pub lost_connection_events: IntCounter,
    /// Denied packets that no edge had room for.
    pub denied_edges_overflowed: IntCounter,
    /// Addresses that names lead to now.
    pub named_addresses: IntGauge,
    /// Connections of the pod that the kernel tracks.
    pub connections_tracked: IntGauge,
    /// How many it has room for.
    pub connections_tracked_max: IntGauge,
    /// Names and addresses that were given up for others.
    pub names_given_up: IntCounter,
    /// Flows that found no room.
    pub flows_dropped: IntCounter,
    /// Batches of flows that wait for their acknowledgement.
    pub flow_batches_pending: IntGauge,
    /// 1 while attached to a controller.
    pub controller_attached: IntGauge,
}

impl Metrics {
    /// All metrics at zero.
    ///
    /// # Errors
    ///
    /// Only if two metrics have the same name, which a test excludes.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        let verdicts = make.vector(
            "bulkhead_verdicts_total",
            "Requests, connections and denied packets by what was answered.",
            &["direction", "layer", "enforced", "shadow"],
        )?;
        let denials = make.vector(
            "bulkhead_denials_total",
            "Requests, connections and packets that were denied, by reason.",
            &["direction", "reason"],
        )?;
        let bytes = make.vector("bulkhead_bytes_total", "Bytes of allowed flows.", &["direction", "to"])?;
        let connections = make.vector(
            "bulkhead_inspected_connections_total",
            "Connections that went through the inspector.",
            &["direction"],
        )?;
        let build = make.vector("bulkhead_build_info", "Always 1; the version is a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).inc();
        let weakness = make.gauges(
            "bulkhead_weakness",
            "1 where this weakens what the capability promises.",
            "weakness",
        )?;
        for weak in Weakness::ALL {
            weakness.with_label_values(&[weak.as_str()]).set(0);
        }
        Ok(Self {
            verdicts: verdict_labels().map(|labels| verdicts.with_label_values(&labels)).collect(),
            denials: denial_labels().map(|labels| denials.with_label_values(&labels)).collect(),
            sessions: session_counters(&make)?.into_iter().chain(dns_counters(&make)?).collect(),
            capability: make.gauges(
                "bulkhead_capability",
                "Always 1; what can be promised here is a label.",
                "capability",
            )?,
            weakness,
            table_packets: make.vector(
                "bulkhead_table_packets_total",
                "Packets that a named rule of the kernel table saw.",
                &["rule"],
            )?,
            table_bytes: make.vector(
                "bulkhead_table_bytes_total",
                "Bytes that a named rule of the kernel table saw.",
                &["rule"],
            )?,
            bytes: byte_labels().map(|labels| bytes.with_label_values(&labels)).collect(),
            connections: Direction::BOTH
                .map(|direction| connections.with_label_values(&[direction.as_str()])),
            rules: RuleCounters::new([
                make.vector(
                    "bulkhead_rule_connections_total",
                    "Requests, connections or denied packets by the rule that answered.",
                    &rules::LABELS,
                )?,
                make.vector(
                    "bulkhead_rule_packets_total",
                    "Packets of connections that the kernel passes by itself, by the rule that allows them.",
                    &rules::LABELS,
                )?,
                make.vector("bulkhead_rule_bytes_total", "Bytes by the rule that answered.", &rules::LABELS)?,
            ]),
            connections_open: make
                .gauge("bulkhead_connections_open", "Connections through the inspector now.")?,
            connections_refused: make.counter(
                "bulkhead_connections_refused_total",
                "Connections reset since too many were open.",
            )?,
            program_revision: make.gauge(
                "bulkhead_program_revision",
                "Revision of the program in force; 0 before the first.",
            )?,
            programs_applied: make.counter("bulkhead_programs_applied_total", "Programs that were taken.")?,
            program_element_changes: make.counter(
                "bulkhead_program_element_changes_total",
                "Programs that came into force by elements of the kernel's maps alone.",
            )?,
            programs_refused: make
                .counter("bulkhead_programs_refused_total", "Programs that were refused.")?,
            program_apply_seconds: make.histogram(
                "bulkhead_program_apply_seconds",
                "Time from a program's arrival to its enforcement.",
                vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0],
            )?,
            tampering: make.counter(
                "bulkhead_table_tampering_total",
                "Times that the kernel table was changed by somebody else and put back.",
            )?,
            lost_denial_details: make.counter(
                "bulkhead_denial_details_lost_total",
                "Denied packets whose detail was dropped; their count is exact all the same.",
            )?,
            lost_connection_events: make.counter(
                "bulkhead_connection_events_lost_total",
                "Connection events that were dropped; the periodic dump makes up for them.",
            )?,
            denied_edges_overflowed: make.counter(
                "bulkhead_denied_edges_overflow_total",
                "Denied packets of more edges than can be told apart.",
            )?,
            connections_tracked: make
                .gauge("bulkhead_connections_tracked", "Connections of the pod that the kernel tracks.")?,
            connections_tracked_max: make.gauge(
                "bulkhead_connections_tracked_max",
                "How many it has room for; of more the first packet is dropped without a verdict.",
            )?,
            named_addresses: make.gauge(
                "bulkhead_named_addresses",
                "Addresses that are held by the name that leads to them.",
            )?,
            names_given_up: make.counter(
                "bulkhead_names_given_up_total",
                "Names and addresses that were given up for others since there were too many.",
            )?,
            flows_dropped: make
                .counter("bulkhead_flows_dropped_total", "Observations that found no room in a report.")?,
            flow_batches_pending: make.gauge(
                "bulkhead_flow_batches_pending",
                "Batches of flows that wait for the controller's acknowledgement.",
            )?,
            controller_attached: make
                .gauge("bulkhead_controller_attached", "1 while attached to a controller.")?,
            registry,
        })
    }

    /// Counts what a named rule of the kernel table saw more.
    pub fn table_rule(&self, rule: &str, packets: u64, bytes: u64) {
        self.table_packets.with_label_values(&[rule]).inc_by(packets);
        self.table_bytes.with_label_values(&[rule]).inc_by(bytes);
    }

    /// Says what can be promised here.
    pub fn capability_is(&self, capability: Capability) {
        self.capability.reset();
        self.capability.with_label_values(&[capability.as_str()]).set(1);
    }

    /// Says whether that weakens the promise.
    pub fn weakness_is(&self, weakness: Weakness, weakens: bool) {
        self.weakness.with_label_values(&[weakness.as_str()]).set(i64::from(weakens));
    }

    /// Counts the verdict and the bytes of an observation.
    pub fn observe(&self, observation: &Observation) {
        let answers = &observation.answers;
        let direction = direction_index(observation.direction);
        let layer = usize::from(observation.http.is_some() || observation.request.is_some());
        let (enforced, shadow) = (effect_index(answers.enforced.effect), effect_index(answers.shadow.effect));
        self.verdicts[((direction * 2 + layer) * 2 + enforced) * 2 + shadow].inc_by(observation.count);
        match answers.enforced.effect {
            Effect::Deny => {
                let reason = Reason::ALL.iter().position(|reason| *reason == answers.enforced.reason);
                if let Some(reason) = reason {
                    self.denials[direction * Reason::ALL.len() + reason].inc_by(observation.count);
                }
            }
            Effect::Allow => {
                self.bytes[direction * 2].inc_by(observation.bytes_to_destination);
                self.bytes[direction * 2 + 1].inc_by(observation.bytes_to_source);
            }
        }
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    ///
    /// If a metric cannot be written, which no input can cause.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        for (counter, source) in &self.sessions {
            counter.inc_by(source.load(Ordering::Relaxed).saturating_sub(counter.get()));
        }
        let mut text = Vec::with_capacity(8 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Sessions count for themselves; here is under which names.
fn session_counters(make: &Maker<'_>) -> Result<Vec<(IntCounter, &'static AtomicU64)>, prometheus::Error> {
    let named = [
        ("bulkhead_dial_failures_total", "Destinations that could not be reached.", &COUNTERS.dial_failures),
        (
            "bulkhead_endpoints_refused_total",
            "Endpoints of Services that refused, so that another one was tried.",
            &COUNTERS.endpoints_refused,
        ),
        (
            "bulkhead_connection_timeouts_total",
            "Connections closed since a named time was over.",
            &COUNTERS.timeouts,
        ),
        (
            "bulkhead_policy_resets_total",
            "Open connections reset since a new program denies them.",
            &COUNTERS.resets_on_policy_change,
        ),
        (
            "bulkhead_streams_revoked_on_policy_change_total",
            "Requests ended alone since the policy changed, on connections that went on.",
            &COUNTERS.streams_revoked_on_policy_change,
        ),
        (
            "bulkhead_refusals_total",
            "Heads and bodies refused before any rule was asked.",
            &COUNTERS.refusals,
        ),
        (
            "bulkhead_spliced_bytes_total",
            "Bytes that went through the kernel without a copy.",
            &COUNTERS.spliced_bytes,
        ),
    ];
    named.into_iter().map(|(name, help, source)| Ok((make.counter(name, help)?, source))).collect()
}

/// Likewise, for questions to name servers.
fn dns_counters(make: &Maker<'_>) -> Result<Vec<(IntCounter, &'static AtomicU64)>, prometheus::Error> {
    let named = [
        ("bulkhead_dns_released_total", "Questions to name servers let through.", &DNS_COUNTERS.released),
        ("bulkhead_dns_refused_total", "Questions to name servers refused.", &DNS_COUNTERS.refused),
        (
            "bulkhead_dns_search_ends_total",
            "Allowed names with an end of a search list, answered here that there is no such name.",
            &DNS_COUNTERS.search_ends,
        ),
        (
            "bulkhead_dns_answers_withheld_total",
            "Answers not passed on: unreadable, or an address inside for a name outside.",
            &DNS_COUNTERS.answers_withheld,
        ),
        (
            "bulkhead_dns_foreign_answers_total",
            "Messages that answered no open question.",
            &DNS_COUNTERS.foreign_answers,
        ),
        ("bulkhead_dns_unanswered_total", "Questions that nobody answered.", &DNS_COUNTERS.unanswered),
        ("bulkhead_dns_no_room_total", "Questions dropped since too many were open.", &DNS_COUNTERS.no_room),
        (
            "bulkhead_dns_not_admitted_total",
            "Answers replaced by a failure since their addresses could not be admitted.",
            &DNS_COUNTERS.not_admitted,
        ),
        (
            "bulkhead_dns_hello_keys_taken_out_total",
            "Answers that keys for encrypted hellos (ECH) were taken out of.",
            &DNS_COUNTERS.hello_keys_taken_out,
        ),
        (
            "bulkhead_dns_hello_keys_left_total",
            "Signed answers with keys for encrypted hellos (ECH), passed on as they are.",
            &DNS_COUNTERS.hello_keys_left,
        ),
    ];
    named.into_iter().map(|(name, help, source)| Ok((make.counter(name, help)?, source))).collect()
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn vector(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), &[label])?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Result<Histogram, prometheus::Error> {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    fn register<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: M,
    ) -> Result<M, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

const EFFECTS: [Effect; 2] = [Effect::Allow, Effect::Deny];
const LAYERS: [&str; 2] = ["l4", "l7"];

/// In the order of the index that [`Metrics::observe`] computes.
fn verdict_labels() -> impl Iterator<Item = [&'static str; 4]> {
    Direction::BOTH.into_iter().flat_map(|direction| {
        LAYERS.into_iter().flat_map(move |layer| {
            EFFECTS.into_iter().flat_map(move |enforced| {
                EFFECTS
                    .into_iter()
                    .map(move |shadow| [direction.as_str(), layer, enforced.as_str(), shadow.as_str()])
            })
        })
    })
}

fn denial_labels() -> impl Iterator<Item = [&'static str; 2]> {
    Direction::BOTH
        .into_iter()
        .flat_map(|direction| Reason::ALL.iter().map(move |reason| [direction.as_str(), reason.as_str()]))
}

fn byte_labels() -> impl Iterator<Item = [&'static str; 2]> {
    Direction::BOTH
        .into_iter()
        .flat_map(|direction| ["destination", "source"].into_iter().map(move |to| [direction.as_str(), to]))
}

fn direction_index(direction: Direction) -> usize {
    match direction {
        Direction::Ingress => 0,
        Direction::Egress => 1,
    }
}

fn effect_index(effect: Effect) -> usize {
    match effect {
        Effect::Allow => 0,
        Effect::Deny => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_facts::L4Protocol;
    use bulkhead_policies::program::{Answer, AnswerPair};
    use std::net::Ipv4Addr;

    #[test]
    fn an_observation_is_counted_under_its_own_labels() {
        let metrics = Metrics::new().expect("no name twice");
        let allowed = Answer { effect: Effect::Allow, rule: None, reason: Reason::NotIsolated };
        let denied = Answer { effect: Effect::Deny, rule: None, reason: Reason::L7Mismatch };
        let observation = |enforced, direction, count| Observation {
            direction,
            peer: Ipv4Addr::LOCALHOST.into(),
            local: Ipv4Addr::LOCALHOST.into(),
            protocol: L4Protocol::TCP,
            port: 80,
            http: None,
            request: None,
            application: "",
            answers: AnswerPair { enforced, shadow: denied },
            bytes_to_destination: 7,
            bytes_to_source: 11,
            sender_uid: None,
            count,
            report_id: None,
            endpoint: None,
        };
        metrics.observe(&observation(allowed, Direction::Egress, 2));
        metrics.observe(&observation(denied, Direction::Ingress, 3));
        let text = String::from_utf8(metrics.text().expect("text")).expect("UTF-8");
        for line in [
            r#"bulkhead_verdicts_total{direction="egress",enforced="allow",layer="l4",shadow="deny"} 2"#,
            r#"bulkhead_verdicts_total{direction="ingress",enforced="deny",layer="l4",shadow="deny"} 3"#,
            r#"bulkhead_denials_total{direction="ingress",reason="l7_mismatch"} 3"#,
            r#"bulkhead_denials_total{direction="egress",reason="l7_mismatch"} 0"#,
            r#"bulkhead_bytes_total{direction="egress",to="source"} 11"#,
            r#"bulkhead_bytes_total{direction="ingress",to="source"} 0"#,
        ] {
            assert!(text.contains(line), "`{line}` is not in: {text}");
        }
    }
}

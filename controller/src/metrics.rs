//! Counters for Prometheus. Every label has a fixed set of values.

use crate::push::Fleet;
use bulkhead_facts::Mode;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// The controller's counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sidecars_attached: IntGauge,
    policy_revision: IntGauge,
    policy_refused: IntGauge,
    inventory_refused: IntGauge,
    pods: IntGaugeVec,
    enrolments: IntCounterVec,
    programs: IntCounterVec,
    flow_batches: IntCounterVec,
    flow_records: IntCounter,
    requests: IntCounterVec,
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            sidecars_attached: gauge("sidecars_attached", "Sidecars whose stream is open.")?,
            policy_revision: gauge("policy_revision", "Newest revision that a program carries.")?,
            policy_refused: gauge(
                "policy_refused",
                "1 while the policy folder holds a set that was refused.",
            )?,
            inventory_refused: gauge("inventory_refused", "1 while the inventory folder was refused.")?,
            pods: IntGaugeVec::new(
                Opts::new(
                    "bulkhead_controller_pods",
                    "Pods with a program, by the mode that it holds them in.",
                ),
                &["mode"],
            )?,
            enrolments: counters("enrolments_total", "Enrolments by outcome.", "outcome")?,
            programs: counters("programs_answered_total", "Programs by the sidecar's answer.", "answer")?,
            flow_batches: counters(
                "flow_batches_total",
                "Flow batches acknowledged; repeated ones changed nothing, refused ones found no room.",
                "kind",
            )?,
            flow_records: IntCounter::new("bulkhead_controller_flow_records_total", "Flow records stored.")?,
            requests: counters(
                "http_requests_total",
                "Requests of the HTTP API by class of status.",
                "status",
            )?,
            registry,
        };
        let gauges = [
            &metrics.sidecars_attached,
            &metrics.policy_revision,
            &metrics.policy_refused,
            &metrics.inventory_refused,
        ];
        for gauge in gauges {
            metrics.registry.register(Box::new(gauge.clone()))?;
        }
        metrics.registry.register(Box::new(metrics.pods.clone()))?;
        for counters in [&metrics.enrolments, &metrics.programs, &metrics.flow_batches, &metrics.requests] {
            metrics.registry.register(Box::new(counters.clone()))?;
        }
        metrics.registry.register(Box::new(metrics.flow_records.clone()))?;
        Ok(metrics)
    }

    /// Everything in the text format of Prometheus.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The fleet has changed.
    pub fn attached(&self, fleet: &Fleet) {
        self.sidecars_attached.set(i64::try_from(fleet.attached()).unwrap_or(i64::MAX));
    }

    /// The world has changed.
    pub fn world(&self, world: &crate::world::World) {
        self.policy_revision.set(i64::try_from(world.revision).unwrap_or(i64::MAX));
        self.policy_refused.set(world.policies_refused.is_some().into());
        self.inventory_refused.set(world.inventory_refused.is_some().into());
        for mode in [Mode::Observe, Mode::Audit, Mode::Enforce] {
            let held = world.pods.values().filter(|pod| pod.program.mode == mode).count();
            self.pods.with_label_values(&[mode.as_str()]).set(i64::try_from(held).unwrap_or(i64::MAX));
        }
    }

    /// Somebody tried to enrol.
    pub fn enrolled(&self, done: bool) {
        self.enrolments.with_label_values(&[if done { "enrolled" } else { "refused" }]).inc();
    }

    /// A sidecar answered a program.
    pub fn program_answered(&self, acknowledged: bool) {
        self.programs.with_label_values(&[if acknowledged { "acknowledged" } else { "refused" }]).inc();
    }

    /// A batch of flows was acknowledged.
    pub fn batch_taken(&self, records: usize, repeated: bool) {
        self.flow_batches.with_label_values(&[if repeated { "repeated" } else { "stored" }]).inc();
        if !repeated {
            self.flow_records.inc_by(records as u64);
        }
    }

    /// A batch of flows was acknowledged, but there was no room for it.
    pub fn batch_refused(&self) {
        self.flow_batches.with_label_values(&["refused"]).inc();
    }

    /// A request of the HTTP API was answered.
    pub fn answered(&self, status: u16) {
        let class = match status {
            200..=299 => "2xx",
            300..=399 => "3xx",
            401 => "401",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[class]).inc();
    }
}

fn gauge(name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    IntGauge::new(format!("bulkhead_controller_{name}"), help)
}

fn counters(name: &str, help: &str, label: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(format!("bulkhead_controller_{name}"), help), &[label])
}

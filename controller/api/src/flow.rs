//! Flow records: what a sidecar saw and how it judged, checked.

use crate::InvalidMessage;
use crate::field::{
    address, address_bytes, direction, direction_kind, effect, effect_kind, narrow, protocol, reason,
    reason_words, required, text,
};
use crate::limits::{BATCH_RECORDS_MAX, FLOW_TEXT_BYTES_MAX, NAME_BYTES_MAX};
use crate::program::all;
use crate::signature::RequestSignature;
use crate::v1;
use bulkhead_facts::{Direction, Effect, L4Protocol, Reason};
use bulkhead_policies::program::RuleInfo;
use std::net::IpAddr;
use std::sync::Arc;

/// Flows that are stored and acknowledged together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowBatch {
    /// Grows by one per batch within one run of the sidecar.
    pub sequence: u64,
    /// The flows.
    pub flows: Vec<Flow>,
    /// Records that were given up for want of room since the last batch.
    pub dropped: u64,
}

/// Connections or requests that share everything but time, size and source port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// As seen from the pod of the sidecar.
    pub direction: Direction,
    /// The other side's address.
    pub peer: IpAddr,
    /// The pod's own address.
    pub local: IpAddr,
    /// Transport protocol.
    pub protocol: L4Protocol,
    /// Destination port; `type << 8 | code` for ICMP; 0 for protocols without ports.
    pub port: u16,
    /// The request of HTTP or question to a name server; `None` where only layer 4 was seen.
    pub http: Option<HttpSignature>,
    /// The request of another protocol; `None` where none was read.
    pub request: Option<Arc<RequestSignature>>,
    /// What the bytes looked like, for example `http/1.1`; empty where nobody looked.
    pub application: String,
    /// What held.
    pub enforced: FlowAnswer,
    /// What would hold if audited policies counted.
    pub shadow: FlowAnswer,
    /// Requests where `http` or `request` is set, else connections, else packets.
    pub count: u64,
    /// Bytes from source to destination.
    pub bytes_to_destination: u64,
    /// Bytes from destination to source.
    pub bytes_to_source: u64,
    /// First time, milliseconds since the epoch.
    pub first_seen_ms: u64,
    /// Last time, milliseconds since the epoch.
    pub last_seen_ms: u64,
    /// Revision of the program that judged.
    pub revision: u64,
    /// User of the sending process, for outbound denials of the kernel.
    pub sender_uid: Option<u32>,
    /// Identifier by which a refused peer may ask.
    pub report_id: Option<String>,
    /// The endpoint that the sidecar dialled, where it picked one for a Service.
    pub endpoint: Option<std::net::SocketAddr>,
}

/// What tells one kind of HTTP request from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpSignature {
    /// Method.
    pub method: String,
    /// Path with variable segments as `{id}`.
    pub path_template: String,
    /// Host without port; empty where none was sent.
    pub host: String,
    /// Status class of the answer (2 for 2xx), 0 where none was seen.
    pub status: u16,
}

/// An answer as a report names it: by rule, not by index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowAnswer {
    /// Allow or deny.
    pub effect: Effect,
    /// Why.
    pub reason: Reason,
    /// The rule that decided; `None` for a default.
    pub rule: Option<RuleInfo>,
}

impl TryFrom<v1::FlowBatch> for FlowBatch {
    type Error = InvalidMessage;

    fn try_from(wire: v1::FlowBatch) -> Result<Self, InvalidMessage> {
        if wire.records.len() > BATCH_RECORDS_MAX {
            return Err(InvalidMessage::BadLength { field: "batch.records", length: wire.records.len() });
        }
        Ok(Self { sequence: wire.sequence, flows: all(wire.records)?, dropped: wire.dropped })
    }
}

impl From<&FlowBatch> for v1::FlowBatch {
    fn from(batch: &FlowBatch) -> Self {
        Self {
            sequence: batch.sequence,
            records: batch.flows.iter().map(Into::into).collect(),
            dropped: batch.dropped,
        }
    }
}

impl TryFrom<v1::FlowRecord> for Flow {
    type Error = InvalidMessage;

    fn try_from(wire: v1::FlowRecord) -> Result<Self, InvalidMessage> {
        Ok(Self {
            direction: direction("flow.direction", wire.direction)?,
            peer: address("flow.peer", &wire.peer)?,
            local: address("flow.local", &wire.local)?,
            protocol: protocol("flow.protocol", wire.protocol)?,
            port: narrow("flow.port", wire.port)?,
            http: wire.http.map(HttpSignature::try_from).transpose()?,
            request: wire.request.map(RequestSignature::try_from).transpose()?.map(Arc::new),
            application: text("flow.application", wire.application, NAME_BYTES_MAX)?,
            enforced: required("flow.enforced", wire.enforced)?.try_into()?,
            shadow: required("flow.shadow", wire.shadow)?.try_into()?,
            count: wire.count,
            bytes_to_destination: wire.bytes_to_destination,
            bytes_to_source: wire.bytes_to_source,
            first_seen_ms: wire.first_seen_ms,
            last_seen_ms: wire.last_seen_ms,
            revision: wire.revision,
            sender_uid: wire.sender_uid,
            report_id: Some(text("flow.report_id", wire.report_id, NAME_BYTES_MAX)?)
                .filter(|id| !id.is_empty()),
            endpoint: endpoint(&wire.endpoint, wire.endpoint_port)?,
        })
    }
}

impl From<&Flow> for v1::FlowRecord {
    fn from(flow: &Flow) -> Self {
        Self {
            direction: direction_kind(flow.direction).into(),
            peer: address_bytes(flow.peer),
            local: address_bytes(flow.local),
            protocol: flow.protocol.0.into(),
            port: flow.port.into(),
            http: flow.http.as_ref().map(Into::into),
            request: flow.request.as_deref().map(Into::into),
            application: flow.application.clone(),
            enforced: Some((&flow.enforced).into()),
            shadow: Some((&flow.shadow).into()),
            count: flow.count,
            bytes_to_destination: flow.bytes_to_destination,
            bytes_to_source: flow.bytes_to_source,
            first_seen_ms: flow.first_seen_ms,
            last_seen_ms: flow.last_seen_ms,
            revision: flow.revision,
            sender_uid: flow.sender_uid,
            report_id: flow.report_id.clone().unwrap_or_default(),
            endpoint: flow.endpoint.map(|endpoint| address_bytes(endpoint.ip())).unwrap_or_default(),
            endpoint_port: flow.endpoint.map_or(0, |endpoint| endpoint.port().into()),
        }
    }
}

fn endpoint(bytes: &[u8], port: u32) -> Result<Option<std::net::SocketAddr>, InvalidMessage> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let port = narrow("flow.endpoint_port", port)?;
    Ok(Some(std::net::SocketAddr::new(address("flow.endpoint", bytes)?, port)))
}

impl TryFrom<v1::HttpSignature> for HttpSignature {
    type Error = InvalidMessage;

    fn try_from(wire: v1::HttpSignature) -> Result<Self, InvalidMessage> {
        Ok(Self {
            method: text("flow.http.method", wire.method, NAME_BYTES_MAX)?,
            path_template: text("flow.http.path_template", wire.path_template, FLOW_TEXT_BYTES_MAX)?,
            host: text("flow.http.host", wire.host, NAME_BYTES_MAX)?,
            status: narrow("flow.http.status", wire.status)?,
        })
    }
}

impl From<&HttpSignature> for v1::HttpSignature {
    fn from(http: &HttpSignature) -> Self {
        Self {
            method: http.method.clone(),
            path_template: http.path_template.clone(),
            host: http.host.clone(),
            status: http.status.into(),
        }
    }
}

impl TryFrom<v1::AnswerRecord> for FlowAnswer {
    type Error = InvalidMessage;

    fn try_from(wire: v1::AnswerRecord) -> Result<Self, InvalidMessage> {
        Ok(Self {
            effect: effect("flow.answer.effect", wire.effect)?,
            reason: reason("flow.answer.reason", &wire.reason, &wire.newer_reason)?,
            rule: wire.rule.map(RuleInfo::try_from).transpose()?,
        })
    }
}

impl From<&FlowAnswer> for v1::AnswerRecord {
    fn from(answer: &FlowAnswer) -> Self {
        let [reason, newer_reason] = reason_words(answer.reason, answer.effect);
        let rule = answer.rule.as_ref().map(Into::into);
        Self { effect: effect_kind(answer.effect).into(), reason, rule, newer_reason }
    }
}

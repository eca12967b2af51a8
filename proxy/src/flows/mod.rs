//! What passed and what was refused, on its way to the controller.
//!
//! Sessions and the enforcement thread [`Recorder::record`] observations; equal ones are added up
//! ([`aggregate`]); once a second the control task makes numbered batches of them ([`batches`]) and keeps each
//! until the controller has acknowledged it. Memory is bounded at every step, and what has no room is counted.
//!
//! Not here: who saw the flow. The kernel's own flows come through [`kernel`], requests from sessions.

mod aggregate;
mod batches;
pub mod kernel;
mod names;
mod recorder;
pub mod rules;

pub use bulkhead_api::{HttpSignature, RequestSignature};
pub use recorder::Recorder;

use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_policies::program::AnswerPair;
use std::net::IpAddr;
use std::sync::Arc;

/// One thing that was seen: a request, a connection, or denied packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Who opened the conversation.
    pub direction: Direction,
    /// The other side: the source inbound, the destination (the Service's address, if dialled) outbound.
    pub peer: IpAddr,
    /// The workload's own address.
    pub local: IpAddr,
    /// Transport protocol.
    pub protocol: L4Protocol,
    /// Destination port; `type << 8 | code` for ICMP.
    pub port: u16,
    /// The request of HTTP or question to a name server, where there was one. Those alike share it.
    pub http: Option<Arc<HttpSignature>>,
    /// The request of another protocol. Those alike share it.
    pub request: Option<Arc<RequestSignature>>,
    /// What the bytes looked like, for example `http/1.1`, `tls`, `unknown`; empty where nobody looked.
    pub application: &'static str,
    /// What was answered.
    pub answers: AnswerPair,
    /// Bytes from who opened the conversation.
    pub bytes_to_destination: u64,
    /// Bytes to who opened the conversation.
    pub bytes_to_source: u64,
    /// User of the sending process, where the kernel told.
    pub sender_uid: Option<u32>,
    /// Requests where `http` or `request` is set, else connections, else packets. 0 adds bytes to what was counted before.
    pub count: u64,
    /// What a refused peer was told to ask by.
    pub report_id: Option<String>,
    /// The endpoint that was dialled for the app, where one was chosen for a Service.
    pub endpoint: Option<std::net::SocketAddr>,
}

//! The serialised forms that sidecars, controller and tools exchange.
//!
//! [`v1`] is generated from `proto/`; nothing outside this crate keeps its types: they become checked values at
//! the edge (`TryFrom`) and are made from them (`From`). Start at [`SidecarMessage`] and [`ControllerMessage`] for
//! the stream, at [`Flow`] for what was seen, at [`rest`] for the HTTP API.

mod chain;
mod error;
mod field;
mod flow;
pub mod limits;
mod message;
mod program;
pub mod rest;
mod section;
mod signature;

pub use error::InvalidMessage;
pub use flow::{Flow, FlowAnswer, FlowBatch, HttpSignature};
pub use message::{
    Capability, ControllerMessage, Hello, ProgramResult, SidecarMessage, SidecarReport, Weakness,
};
pub use signature::{KafkaSignature, PostgresSignature, RedisSignature, RequestSignature, TlsSignature};

/// Generated from `proto/bulkhead/v1/sidecars.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("bulkhead.v1");
}

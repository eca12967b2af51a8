//! The serialised forms that sidecars, controller and tools exchange.
//!
//! [`v1`] is generated from `proto/`; nothing outside this crate keeps its types: they become checked values at
//! the edge (`TryFrom`) and are made from them (`From`).

#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("bulkhead.v1");
}

//! The sidecars' port: enrolment, one stream per sidecar, and who of them is where.

mod enrolment;
mod fleet;
mod service;
mod session;

pub use fleet::{Fleet, Sidecar};
pub use service::SidecarPort;
pub(crate) use service::serve;

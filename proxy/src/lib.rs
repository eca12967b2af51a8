//! The sidecar: kernel tier, inspector, flow reports.
//!
//! The binary is `src/main.rs`; this library is what it is made of. [`app`] wires the parts and is the place to begin:
//! [`enforcement`] owns the kernel table, [`control`] brings programs, [`flows`] takes reports back, [`admin`] says how
//! the sidecar fares, [`drain`] ends it.

pub mod admin;
pub mod advisory;
pub mod app;
pub mod clock;
pub mod config;
pub mod control;
pub mod dns;
pub mod drain;
pub mod enforcement;
pub mod firewall;
pub mod flows;
pub mod intercept;
pub mod kernel_tier;
pub mod limits;
pub mod listeners;
pub mod logging;
pub mod metrics;
pub mod policy;
pub mod posture;
pub mod session;
pub mod splice;
pub mod system;
#[cfg(test)]
mod test_program;
pub mod workers;

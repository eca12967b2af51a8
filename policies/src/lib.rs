//! The decision: policy documents in, verdicts out.
//!
//! Documents become a checked [`model`], model and [`inventory`] become one [`program`] per workload, and a
//! program answers every question about a packet or request. Pure: no IO, no clock, no async, and the
//! same input gives the same bytes.
//!
//! Reading order: [`model`], [`inventory`], [`compile`], [`program`], [`decide`]; then [`matrix`] and [`learn`].

pub mod cases;
pub mod compile;
pub mod decide;
pub mod diagnostics;
pub mod diff;
pub mod documents;
pub mod explain;
pub mod import;
pub mod inventory;
pub mod learn;
pub mod limits;
pub mod matrix;
pub mod model;
#[cfg(test)]
mod naive;
pub mod program;
pub mod prove;
pub mod questions;
pub mod space;
pub mod yaml;

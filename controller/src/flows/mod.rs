//! Flows from their arrival to the reports made of them.
//!
//! [`resolve()`] names the ends of a flow when it comes in, the store keeps [`Edge`]s per pod and day, [`Fold`] adds
//! them up while they are read, [`service_map`] and [`verdicts`] show them by workload.

mod addresses;
mod edge;
mod fold;
mod report;
mod resolve;
#[cfg(test)]
pub(crate) mod testing;

pub use addresses::{Addresses, workload};
pub use edge::{Edge, Endpoint, Judgement, SeenEdge, Totals};
pub use fold::{Detail, Fold};
pub use report::{service_map, verdicts};
pub use resolve::{Observer, resolve};

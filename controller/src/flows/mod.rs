//! Flows from their arrival to the reports made of them.

mod addresses;
mod edge;
mod resolve;

pub use addresses::{Addresses, pod_endpoint, workload};
pub use edge::{Edge, Endpoint, Judgement, SeenEdge, Totals};
pub use resolve::{Observer, resolve};

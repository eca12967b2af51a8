//! Flows from their arrival to the reports made of them.

mod edge;

pub use edge::{Edge, Endpoint, Judgement, SeenEdge, Totals};

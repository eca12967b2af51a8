//! The controller: compiles and pushes policy, takes in flows, learns, reports incidents.

pub mod clock;
pub mod flows;
pub mod identity;
pub mod limits;
mod listen;
pub mod metrics;
pub mod push;
pub mod store;
pub mod watch;
pub mod world;

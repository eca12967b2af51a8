//! The controller: compiles and pushes policy, takes in flows, learns, reports incidents.
//!
//! [`app`] wires the parts: [`watch`] reads the folders, [`world`] holds what is in force, [`push`] serves sidecars,
//! [`store`] remembers, [`flows`], [`learn`] and [`incidents`] make sense of it, [`http`] serves people.

pub mod app;
pub mod approval;
pub mod clock;
pub mod config;
pub mod drain;
pub mod flows;
pub mod http;
pub mod identity;
pub mod incidents;
pub mod learn;
pub mod limits;
mod listen;
pub mod logging;
pub mod metrics;
#[cfg(test)]
mod operating_page;
pub mod push;
pub mod store;
pub mod watch;
pub mod world;

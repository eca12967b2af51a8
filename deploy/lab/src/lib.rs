//! A whole cluster of network namespaces on one machine: `bulkhead lab`.
//!
//! A lab file describes namespaces, pods, Services and outside hosts. The lab builds them inside fresh
//! namespaces, starts the real controller and the real sidecars, and tells the story: observe, propose,
//! approve, enforce, attack, report. Whatever happens to it, the kernel takes everything away with it.
//!
//! Three processes matter: the *outer* one that a person started (`outer`), the *node* (PID 1 of its own PID
//! namespace, `node`) which holds the story, and one *pod* process for each pod (`pod`) which holds that
//! pod's namespaces and which everything that runs in the pod enters (`enter`).
//!
//! Reading order: [`mod@file`], [`addresses`], `node`, `network`, [`ground`], `story`, `report`.
//!
//! [`attack`] makes attacks and [`canary`] says what arrived of them; [`demo`] is the shop. They know nothing of the
//! controller and sidecars. Inner commands are reached through [`internal::dispatch`].

pub mod addresses;
pub mod attack;
pub mod canary;
mod client;
mod collections;
mod control;
pub mod demo;
mod enter;
pub mod file;
mod forward;
pub mod ground;
mod hosts;
pub mod internal;
pub mod inventory;
mod launch;
pub mod limits;
mod network;
mod node;
mod outer;
mod paths;
mod pod;
mod preflight;
mod report;
mod screen;
mod services;
mod stage;
mod story;
mod system;
mod traffic;

pub use launch::Finished;
pub use outer::{DEFAULT_NAME, Options, down, exec, run};

//! Questions and answers of the name system: what is released, what is believed, and that nothing makes a parser stumble.

mod advisories;
mod answers;
mod hello_keys;
mod message;
mod questions;
mod scenarios;

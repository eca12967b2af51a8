//! Protocol inspectors: bytes in, verdict questions out. Sans-IO.
//!
//! Everything follows one [`contract`]: the caller shows what it has read and not let go, the inspector says what
//! to do with it, and between a question and its answer nothing leaves. Sockets, timers and the clock are the
//! caller's. Parsing is strict: what two servers could read differently is refused before any rule is asked, so
//! that deciding on the parsed form and sending the original bytes is the same thing.
//!
//! Start at [`Conversation`]; a folder holds each protocol that is enforced, [`detect`] names the others,
//! [`Question`] is what is asked, [`signature`] says what a request looks like in a report.

mod contract;
mod conversation;
mod cursor;
pub mod detect;
pub mod dns;
mod fields;
mod http1;
mod http2;
mod kafka;
pub mod limits;
mod postgres;
mod proxy_header;
mod question;
mod redis;
pub mod signature;
mod tls;
mod websocket;

pub use contract::{Notice, Progress, Refusal, Side, Standing, Step};
pub use conversation::Conversation;
pub use detect::Protocol;
pub use fields::FieldList;
pub use http2::hpack;
pub use kafka::Call;
pub use postgres::Statements;
pub use question::{HttpHead, Kept, Question, Subject, Target};
pub use redis::Command;
pub use tls::Hello;

//! Protocol inspectors: bytes in, verdict questions out. Sans-IO.
//!
//! Everything follows one [`contract`]: the caller shows what it has read and not let go, the inspector says what
//! to do with it, and between a question and its answer nothing leaves. Sockets, timers and the clock are the
//! caller's. Parsing is strict: what two servers could read differently is refused before any rule is asked, so
//! that deciding on the parsed form and sending the original bytes is the same thing.
//!
//! Start at [`Conversation`]; [`http1`] is the protocol that is enforced, [`detect`] names the others,
//! [`signature`] says what a request looks like in a report.

mod contract;
mod conversation;
pub mod detect;
pub mod dns;
mod fields;
pub mod http1;
pub mod limits;
pub mod signature;

pub use contract::{Question, Refusal, Side, Step, Target};
pub use conversation::Conversation;
pub use detect::Protocol;
pub use fields::FieldList;

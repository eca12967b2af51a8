//! The name system (RFC 1035): questions, answers, refusals, and their framing on streams.
//!
//! A question is read strictly ([`Query::parse`]) and released in the form in which it was decided on
//! ([`Query::released`]): whatever else a sender packed into its message stays here. Of an answer only what follows from the
//! question by an unbroken chain of aliases counts ([`Answer::parse`]); glue, authority and additional records teach nobody
//! anything. Refusals are built by [`refusal()`]. Sockets, identifiers and the clock are the caller's.

mod address;
mod answer;
mod message;
mod name;
mod query;
mod record;
mod refusal;
mod service;
mod stream;

pub use address::{AddressKind, is_internal};
pub use answer::{Answer, AnswerFault};
pub use name::WireName;
pub use query::{Query, QueryFault};
pub use record::{
    A, AAAA, ANY, AXFR, CNAME, HTTPS, IN, IXFR, MX, NS, PTR, SOA, SRV, SVCB, TXT, is_transfer, record_text,
};
pub use refusal::{ExtendedError, Refusal, ResponseCode, refusal};
pub use service::{HelloKeys, take_out_hello_keys};
pub use stream::{Frame, frame};

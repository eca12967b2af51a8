//! Why a message was refused: one enum, naming the field.

use std::fmt::Display;

/// Why a message of the other side was refused. The whole message is: nothing of it is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// A part that must be there is not.
    #[error("message has no `{0}`")]
    Missing(&'static str),
    /// An enum value, number or name that this version does not know.
    #[error("`{field}` has the unknown value `{value}`: is the other side of a newer version?")]
    Unknown {
        /// The field.
        field: &'static str,
        /// What it held.
        value: String,
    },
    /// A number outside the range of its field.
    #[error("`{field}` is `{value}`, which is out of range")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
    },
    /// Bytes or text of a length that the field cannot have.
    #[error("`{field}` has length {length}, which it cannot have")]
    BadLength {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
    },
    /// A text that its own parser refuses.
    #[error("`{field}` is unreadable: `{value}`: {problem}")]
    Unreadable {
        /// The field.
        field: &'static str,
        /// What it held.
        value: String,
        /// What the parser said.
        problem: String,
    },
}

impl InvalidMessage {
    pub(crate) fn unknown(field: &'static str, value: impl Display) -> Self {
        Self::Unknown { field, value: value.to_string() }
    }

    pub(crate) fn unreadable(field: &'static str, value: &str, problem: impl Display) -> Self {
        Self::Unreadable { field, value: value.chars().take(128).collect(), problem: problem.to_string() }
    }
}

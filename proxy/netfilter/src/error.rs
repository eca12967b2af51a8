//! What can go wrong between us and the kernel, and what to do about it.

use std::io;

/// Why a conversation with the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A system call on the socket failed.
    #[error("netlink: {operation} failed: {source}")]
    Socket {
        /// What we tried.
        operation: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel refused a message; a transaction that holds it changed nothing.
    #[error("netlink: the kernel refused {message}: {}{}{}", errno_text(*.errno), text_suffix(.text), remedy(*.errno))]
    Refused {
        /// Which message, in words.
        message: String,
        /// The error number.
        errno: i32,
        /// The kernel's own explanation, where it gives one.
        text: Option<String>,
    },
    /// The kernel's answer was not what the protocol allows.
    #[error("netlink: unreadable answer to {message}")]
    Unreadable {
        /// Which message, in words.
        message: String,
    },
    /// No answer in time.
    #[error("netlink: no answer to {message} in time; dump the table to see whether it was applied")]
    TimedOut {
        /// Which message, in words.
        message: String,
    },
}

impl NetlinkError {
    /// The error number, if the kernel or the system gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } => source.raw_os_error(),
            Self::Refused { errno, .. } => Some(*errno),
            Self::Unreadable { .. } | Self::TimedOut { .. } => None,
        }
    }

    /// True if the right to administer the network is missing.
    pub fn is_not_permitted(&self) -> bool {
        matches!(self.errno(), Some(libc::EPERM | libc::EACCES))
    }

    /// True if what was named does not exist.
    pub fn is_not_found(&self) -> bool {
        self.errno() == Some(libc::ENOENT)
    }

    /// True if what was to be created exists.
    pub fn is_already_there(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}

fn errno_text(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

fn text_suffix(text: &Option<String>) -> String {
    text.as_ref().map(|text| format!(" (`{text}`)")).unwrap_or_default()
}

fn remedy(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => {
            "; grant CAP_NET_ADMIN in the user namespace that owns this network namespace"
        }
        libc::ENOENT => {
            "; a table, chain or set that it names is missing, or the kernel lacks this expression or chain type"
        }
        libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => {
            "; this kernel was built without the feature"
        }
        libc::EMSGSIZE => "; the transaction is larger than the socket's send buffer: split it",
        libc::EEXIST => "; it exists already, or overlaps an element that does",
        libc::EBUSY => "; something still refers to it",
        libc::ENOMEM | libc::ENOBUFS => "; the kernel is out of memory for it",
        _ => "",
    }
}

//! What the two sides of a sidecar's stream say, checked: the only form in which the rest of the code sees it.

use crate::InvalidMessage;
use crate::field::{name, required, text};
use crate::flow::FlowBatch;
use crate::limits::ERROR_BYTES_MAX;
use crate::v1;
use bulkhead_policies::program::Program;
use std::collections::BTreeSet;
use v1::{from_sidecar, to_sidecar};

/// From a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SidecarMessage {
    /// First message of a stream.
    Hello(Hello),
    /// Ack or nack of a program.
    Result(ProgramResult),
    /// Flows to store and acknowledge.
    Flows(FlowBatch),
    /// How it fares.
    Report(SidecarReport),
}

/// To a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControllerMessage {
    /// A new program.
    Program {
        /// Names the update in its ack or nack.
        nonce: u64,
        /// The program.
        program: Box<Program>,
    },
    /// The batch of that number, and all before it, are stored.
    FlowAck {
        /// Number of the batch.
        sequence: u64,
    },
}

/// First message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version of the sidecar.
    pub version: String,
    /// Revision of the program in force, 0 for none.
    pub revision: u64,
    /// What it can promise.
    pub capability: Capability,
    /// Names this run of the sidecar: batch numbers count within it.
    pub instance: String,
}

/// What a sidecar can promise where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// Nothing passes without a verdict.
    Enforced,
    /// Layer 4 holds; layer 7 could be evaded from inside the pod.
    L4Only,
    /// Reports only.
    Advisory,
}

impl Capability {
    /// `enforced`, `L4 only` or `advisory`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::L4Only => "L4 only",
            Self::Advisory => "advisory",
        }
    }
}

/// What makes the promise of a capability weaker than it could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Weakness {
    /// Somebody chose that traffic passes where it cannot be judged.
    FailOpen,
    /// The kernel tells the sidecar's sockets by mark and user: no cgroup of its own was found.
    RecognisedByMarkAndUser,
    /// By mark alone: the app may be of the same user.
    RecognisedByMark,
    /// Frames of AF_XDP sockets are not stopped on some queue.
    FramesOpen,
    /// Somebody else's rules in the same network namespace come before ours.
    ForeignRules,
}

impl Weakness {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::FailOpen,
        Self::RecognisedByMarkAndUser,
        Self::RecognisedByMark,
        Self::FramesOpen,
        Self::ForeignRules,
    ];

    /// As reports say it, for example `fail_open`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailOpen => "fail_open",
            Self::RecognisedByMarkAndUser => "recognised_by_mark_and_user",
            Self::RecognisedByMark => "recognised_by_mark",
            Self::FramesOpen => "frames_open",
            Self::ForeignRules => "foreign_rules",
        }
    }
}

/// Ack or nack of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramResult {
    /// Of the update.
    pub nonce: u64,
    /// Revision now in force.
    pub revision: u64,
    /// Why it was refused; `None` is an ack.
    pub error: Option<String>,
}

/// How a sidecar fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarReport {
    /// Revision in force, 0 for none.
    pub revision: u64,
    /// What it can promise.
    pub capability: Capability,
    /// Connections that it carries now.
    pub connections_open: u64,
    /// Times that somebody else changed its table and it put it back.
    pub tampering: u64,
    /// What weakens its promise.
    pub weaknesses: BTreeSet<Weakness>,
}

impl TryFrom<v1::FromSidecar> for SidecarMessage {
    type Error = InvalidMessage;

    fn try_from(wire: v1::FromSidecar) -> Result<Self, InvalidMessage> {
        Ok(match required("from_sidecar.message", wire.message)? {
            from_sidecar::Message::Hello(hello) => Self::Hello(hello.try_into()?),
            from_sidecar::Message::Result(result) => Self::Result(result.try_into()?),
            from_sidecar::Message::Flows(batch) => Self::Flows(batch.try_into()?),
            from_sidecar::Message::Status(status) => Self::Report(status.try_into()?),
        })
    }
}

impl From<&SidecarMessage> for v1::FromSidecar {
    fn from(message: &SidecarMessage) -> Self {
        let message = match message {
            SidecarMessage::Hello(hello) => from_sidecar::Message::Hello(hello.into()),
            SidecarMessage::Result(result) => from_sidecar::Message::Result(result.into()),
            SidecarMessage::Flows(batch) => from_sidecar::Message::Flows(batch.into()),
            SidecarMessage::Report(report) => from_sidecar::Message::Status(report.into()),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::ToSidecar> for ControllerMessage {
    type Error = InvalidMessage;

    fn try_from(wire: v1::ToSidecar) -> Result<Self, InvalidMessage> {
        Ok(match required("to_sidecar.message", wire.message)? {
            to_sidecar::Message::Program(update) => Self::Program {
                nonce: update.nonce,
                program: Box::new(required("update.program", update.program)?.try_into()?),
            },
            to_sidecar::Message::FlowAck(ack) => Self::FlowAck { sequence: ack.sequence },
        })
    }
}

impl From<&ControllerMessage> for v1::ToSidecar {
    fn from(message: &ControllerMessage) -> Self {
        let message = match message {
            ControllerMessage::Program { nonce, program } => {
                let program = Some(program.as_ref().into());
                to_sidecar::Message::Program(v1::ProgramUpdate { nonce: *nonce, program })
            }
            ControllerMessage::FlowAck { sequence } => {
                to_sidecar::Message::FlowAck(v1::FlowAck { sequence: *sequence })
            }
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Hello) -> Result<Self, InvalidMessage> {
        Ok(Self {
            version: name("hello.version", wire.version)?,
            revision: wire.revision,
            capability: capability("hello.capability", wire.capability)?,
            instance: name("hello.instance", wire.instance)?,
        })
    }
}

impl From<&Hello> for v1::Hello {
    fn from(hello: &Hello) -> Self {
        Self {
            version: hello.version.clone(),
            revision: hello.revision,
            capability: capability_kind(hello.capability).into(),
            instance: hello.instance.clone(),
        }
    }
}

impl TryFrom<v1::ProgramResult> for ProgramResult {
    type Error = InvalidMessage;

    fn try_from(wire: v1::ProgramResult) -> Result<Self, InvalidMessage> {
        let error = text("result.error", wire.error, ERROR_BYTES_MAX)?;
        Ok(Self { nonce: wire.nonce, revision: wire.revision, error: Some(error).filter(|e| !e.is_empty()) })
    }
}

impl From<&ProgramResult> for v1::ProgramResult {
    fn from(result: &ProgramResult) -> Self {
        Self {
            nonce: result.nonce,
            revision: result.revision,
            error: result.error.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::SidecarStatus> for SidecarReport {
    type Error = InvalidMessage;

    fn try_from(wire: v1::SidecarStatus) -> Result<Self, InvalidMessage> {
        Ok(Self {
            revision: wire.revision,
            capability: capability("status.capability", wire.capability)?,
            connections_open: wire.connections_open,
            tampering: wire.tampering,
            weaknesses: wire.weaknesses.into_iter().map(weakness).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&SidecarReport> for v1::SidecarStatus {
    fn from(report: &SidecarReport) -> Self {
        Self {
            revision: report.revision,
            capability: capability_kind(report.capability).into(),
            connections_open: report.connections_open,
            tampering: report.tampering,
            weaknesses: report.weaknesses.iter().map(|weakness| weakness_kind(*weakness).into()).collect(),
        }
    }
}

fn weakness(value: i32) -> Result<Weakness, InvalidMessage> {
    const FIELD: &str = "status.weaknesses";
    match v1::Weakness::try_from(value) {
        Ok(v1::Weakness::FailOpen) => Ok(Weakness::FailOpen),
        Ok(v1::Weakness::RecognisedByMarkAndUser) => Ok(Weakness::RecognisedByMarkAndUser),
        Ok(v1::Weakness::RecognisedByMark) => Ok(Weakness::RecognisedByMark),
        Ok(v1::Weakness::FramesOpen) => Ok(Weakness::FramesOpen),
        Ok(v1::Weakness::ForeignRules) => Ok(Weakness::ForeignRules),
        Ok(v1::Weakness::Unspecified) => Err(InvalidMessage::Missing(FIELD)),
        Err(_) => Err(InvalidMessage::unknown(FIELD, value)),
    }
}

fn weakness_kind(weakness: Weakness) -> v1::Weakness {
    match weakness {
        Weakness::FailOpen => v1::Weakness::FailOpen,
        Weakness::RecognisedByMarkAndUser => v1::Weakness::RecognisedByMarkAndUser,
        Weakness::RecognisedByMark => v1::Weakness::RecognisedByMark,
        Weakness::FramesOpen => v1::Weakness::FramesOpen,
        Weakness::ForeignRules => v1::Weakness::ForeignRules,
    }
}

fn capability(field: &'static str, value: i32) -> Result<Capability, InvalidMessage> {
    match v1::Capability::try_from(value) {
        Ok(v1::Capability::Enforced) => Ok(Capability::Enforced),
        Ok(v1::Capability::L4Only) => Ok(Capability::L4Only),
        Ok(v1::Capability::Advisory) => Ok(Capability::Advisory),
        Ok(v1::Capability::Unspecified) => Err(InvalidMessage::Missing(field)),
        Err(_) => Err(InvalidMessage::unknown(field, value)),
    }
}

fn capability_kind(capability: Capability) -> v1::Capability {
    match capability {
        Capability::Enforced => v1::Capability::Enforced,
        Capability::L4Only => v1::Capability::L4Only,
        Capability::Advisory => v1::Capability::Advisory,
    }
}

//! The compiled form: what one workload's sidecar enforces.
//!
//! A program is immutable and self-contained: two look-ups give the answer at layer 4, one more index the
//! answer at layer 7. The kernel tier is a plain serialisation of the same tables ([`DirectionProgram`]), so
//! the kernel and [`crate::decide::Judge`] cannot disagree.
//!
//! Built by [`crate::compile`]; crosses the wire in the form of `bulkhead-api`.

mod numbering;

use crate::model::L7Section;
use bulkhead_facts::{
    Direction, Effect, IpFamily, L4Protocol, Mode, NamePattern, PolicyRef, PortRange, Reason, Tier,
    WorkloadRef,
};
use std::net::IpAddr;

/// Everything one workload's sidecar needs to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Grows with every change of policy or inventory that reaches this workload.
    pub revision: u64,
    /// Whose program it is.
    pub workload: WorkloadRef,
    /// The collection that covers it, if any.
    pub collection: Option<String>,
    /// The mode that the collection holds the pod in; `Enforce` where none covers it.
    pub mode: Mode,
    /// Rules that answers name, by [`RuleIndex`].
    pub rules: Vec<RuleInfo>,
    /// Pairs of answers, by [`AnswerId`]. Entry 0 is the pair that holds where nothing matches.
    pub answers: Vec<AnswerPair>,
    /// Layer-7 chains, by [`L7ChainId`].
    pub l7_chains: Vec<L7Chain>,
    /// Traffic towards the workload.
    pub ingress: DirectionProgram,
    /// Traffic from the workload.
    pub egress: DirectionProgram,
    /// Names that rules allow traffic to. Which addresses they have is learned where the program is in force, and
    /// [`DirectionProgram::named`] says what then holds for them.
    pub names: Vec<RuleNames>,
    /// Services whose endpoints are judged differently, by [`ChoiceId`].
    pub choices: Vec<Choice>,
}

/// Endpoints of one port of a Service: who dials it on behalf of the app picks one of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Those that may be reached, by address and port, each once; never empty.
    pub endpoints: Vec<Endpoint>,
}

/// One ready endpoint of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// The port that the Service's port leads to there.
    pub port: u16,
    /// What holds on a connection to it; never another choice.
    pub action: Action,
}

/// The names among the peers of one egress rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleNames {
    /// The rule.
    pub rule: RuleIndex,
    /// Sorted, each once.
    pub names: Vec<NamePattern>,
}

impl Program {
    /// The tables of one direction.
    pub fn direction(&self, direction: Direction) -> &DirectionProgram {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// Position in [`Program::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleIndex(pub u32);

/// Position in [`Program::answers`]; the low 16 bits of the connection mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerId(pub u16);

/// Position in [`Program::l7_chains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct L7ChainId(pub u32);

/// Position in [`Program::choices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChoiceId(pub u32);

/// A class of peers that no rule tells apart. Class ids are unique within one direction over both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub u32);

/// What a report says of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleInfo {
    /// Tier.
    pub tier: Tier,
    /// Policy document, or the built-in set.
    pub policy: PolicyRef,
    /// Rule name.
    pub rule: String,
    /// Direction.
    pub direction: Direction,
}

/// One answer with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Answer {
    /// Allow or deny.
    pub effect: Effect,
    /// The rule that decided; `None` for a default.
    pub rule: Option<RuleIndex>,
    /// Why.
    pub reason: Reason,
}

/// What is enforced, and what would be if audited policies counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerPair {
    /// Holds.
    pub enforced: Answer,
    /// Would hold.
    pub shadow: Answer,
}

/// The tables of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectionProgram {
    /// IPv4 peers: disjoint, sorted spans of addresses (as big-endian numbers).
    pub v4: Vec<AddressSpan<u32>>,
    /// IPv6 peers, likewise.
    pub v6: Vec<AddressSpan<u128>>,
    /// What each class may do: sorted by (class, protocols, ports), pairwise disjoint.
    pub boxes: Vec<PortBox>,
    /// Classes of addresses that names lead to; only of egress. Sorted, each once.
    pub named: Vec<NamedClass>,
}

/// The class of an address that names lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedClass {
    /// The address's family.
    pub family: IpFamily,
    /// The class that it has by its spans; `None` where no span holds it.
    pub base: Option<ClassId>,
    /// The rules that name its names: in order, each once.
    pub rules: Vec<RuleIndex>,
    /// The class that it has by both.
    pub class: ClassId,
}

/// Consecutive addresses of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressSpan<A> {
    /// First address.
    pub first: A,
    /// Last address.
    pub last: A,
    /// Their class.
    pub class: ClassId,
}

/// What holds for one class on consecutive protocols and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortBox {
    /// Class of peers.
    pub class: ClassId,
    /// First protocol number.
    pub protocol_first: L4Protocol,
    /// Last protocol number.
    pub protocol_last: L4Protocol,
    /// Ports: the destination's; `type << 8 | code` for ICMP; `0..=65535` for protocols without ports.
    pub ports: PortRange,
    /// What holds.
    pub action: Action,
}

/// What holds for a box at layer 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The pair answers without looking further; its `enforced` effect says whether packets pass.
    Answer(AnswerId),
    /// The bytes decide. `opaque` is the pair that holds for bytes of a protocol the chain does not read.
    Inspect {
        /// Which chain to ask for each request.
        chain: L7ChainId,
        /// The pair for what cannot be read.
        opaque: AnswerId,
    },
    /// The pair allows; the bytes are read to learn from them (`observe` only).
    Learn(AnswerId),
    /// TCP of egress to a Service whose endpoints are judged differently: which one is reached decides.
    Choose {
        /// From which endpoints one is picked.
        choice: ChoiceId,
        /// The pair where nobody picks; it denies.
        otherwise: AnswerId,
    },
}

/// Ordered stages that decide one request.
///
/// An empty `shadow` says that the shadow answer is always the enforced one. A version that no bytes can change is
/// one stage without entries, so that its part of `end` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L7Chain {
    /// Decide the enforced answer.
    pub enforced: Vec<L7Stage>,
    /// Decide the shadow answer; empty where it is always the enforced one, whatever `end` says.
    pub shadow: Vec<L7Stage>,
    /// Holds where no stage of `enforced` decided, `enforced` part; where no stage of `shadow` did, `shadow` part.
    pub end: AnswerId,
}

/// One tier of a chain: the first entry that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L7Stage {
    /// In order of precedence.
    pub entries: Vec<L7Entry>,
}

/// One rule of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L7Entry {
    /// The rule.
    pub rule: RuleIndex,
    /// `None` is pass: leave this stage.
    pub effect: Option<Effect>,
    /// What it matches; `None` matches every request and opaque bytes. Asked about another protocol, an allow and a
    /// pass do not match and a deny does.
    pub section: Option<L7Section>,
}

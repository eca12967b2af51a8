//! The marks that carry a verdict: of connections, and of denied packets on their way to the log.
//!
//! `[31:20]` generation, `[19:16]` class, `[15:0]` answer id. Generation 0 belongs to no program: with it, class 0
//! names a guard of the table itself, class 6 and 8 the sidecar's own conversations.

use bulkhead_facts::Reason;
use bulkhead_policies::program::AnswerId;

/// What the kernel does with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Refuses it.
    Denied,
    /// Lets it pass by itself.
    KernelAllow,
    /// Hands TCP to the inspector.
    InspectTcp,
    /// Hands UDP to the inspector.
    InspectUdp,
    /// The inspector's leg to another pod.
    Upstream,
    /// Hands TCP to the inspector while it lives.
    Learn,
    /// The inspector's leg to the pod's own app.
    LocalLeg,
    /// On packets only: refused since the flow can no longer be handed to the inspector.
    TierChanged,
    /// Hands TCP to the inspector, which leads it to one of several destinations: its own leg to this one is refused.
    Led,
    /// The sidecar's conversation with its controller, or a scraper's with its administrative port.
    Own,
}

impl Class {
    /// The bits of the mark that hold a class.
    pub const MASK: u32 = 0x000f_0000;

    /// The bits of the mark that tell what is handed to the inspector in any case: for [`Class::InspectTcp`] and
    /// [`Class::Led`] they are the same.
    pub const HANDED: u32 = Self::MASK & !(Self::InspectTcp.bits() ^ Self::Led.bits());

    /// Its bits, in place.
    pub const fn bits(self) -> u32 {
        let number: u32 = match self {
            Self::Denied => 0,
            Self::KernelAllow => 1,
            Self::InspectTcp => 2,
            Self::InspectUdp => 3,
            Self::Upstream => 4,
            Self::Learn => 5,
            Self::LocalLeg => 6,
            Self::TierChanged => 7,
            Self::Own => 8,
            Self::Led => 10,
        };
        number << 16
    }

    fn of(mark: u32) -> Option<Self> {
        const ALL: [Class; 10] = [
            Class::Denied,
            Class::KernelAllow,
            Class::InspectTcp,
            Class::InspectUdp,
            Class::Upstream,
            Class::Learn,
            Class::LocalLeg,
            Class::TierChanged,
            Class::Led,
            Class::Own,
        ];
        ALL.into_iter().find(|class| class.bits() == mark & Self::MASK)
    }
}

/// A mark, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Which program; 0 for none.
    pub generation: u16,
    /// What the kernel does.
    pub class: Class,
    /// Which answer of that program, or which guard.
    pub answer: AnswerId,
}

impl Mark {
    /// The bits of the mark that hold a generation.
    pub const GENERATION_MASK: u32 = 0xfff0_0000;
    /// The highest generation; the next one is 1.
    pub const GENERATION_MAX: u16 = 0xfff;
    /// The local leg's connection mark.
    pub const LOCAL_LEG: u32 = Class::LocalLeg.bits();
    /// The connection mark of the sidecar's own conversations.
    pub const OWN: u32 = Class::Own.bits();

    /// The mark's 32 bits.
    pub const fn bits(self) -> u32 {
        (self.generation as u32) << 20 | self.class.bits() | self.answer.0 as u32
    }

    /// Takes a mark apart; `None` for one that we never set.
    pub fn of(bits: u32) -> Option<Self> {
        let generation = u16::try_from(bits >> 20).ok()?;
        let answer = AnswerId(u16::try_from(bits & 0xffff).ok()?);
        Some(Self { generation, class: Class::of(bits)?, answer })
    }

    /// The bits of a generation alone: the pair where nothing matched, denied.
    pub const fn nothing_matched(generation: u16) -> u32 {
        (generation as u32) << 20
    }
}

/// Why a packet is refused before any rule is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guard {
    /// Addressed to a listener of the sidecar.
    SidecarPort,
    /// A source address that is not the workload's, or a loopback address on the wire.
    SpoofedSource,
    /// Belongs to no connection and opens none, or is not addressed to this pod.
    InvalidPacket,
    /// There was never a program.
    NoPolicy,
}

impl Guard {
    /// The packet mark under which it is counted and logged.
    pub const fn bits(self) -> u32 {
        match self {
            Self::SidecarPort => 1,
            Self::SpoofedSource => 2,
            Self::InvalidPacket => 3,
            Self::NoPolicy => 4,
        }
    }

    /// The guard behind a mark.
    pub fn of(bits: u32) -> Option<Self> {
        [Self::SidecarPort, Self::SpoofedSource, Self::InvalidPacket, Self::NoPolicy]
            .into_iter()
            .find(|guard| guard.bits() == bits)
    }

    /// As verdicts say it.
    pub fn reason(self) -> Reason {
        match self {
            Self::SidecarPort => Reason::SidecarPort,
            Self::SpoofedSource => Reason::SpoofedSource,
            Self::InvalidPacket => Reason::InvalidPacket,
            Self::NoPolicy => Reason::NoPolicy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_have_their_fields_where_the_design_puts_them() {
        let mark = Mark { generation: 0xabc, class: Class::Learn, answer: AnswerId(0x1234) };
        assert_eq!(mark.bits(), 0xabc5_1234);
        assert_eq!(Mark::of(0xabc5_1234), Some(mark));
        assert_eq!((Mark::LOCAL_LEG, Mark::OWN), (0x0006_0000, 0x0008_0000));
        assert_eq!(Mark::of(0x001f_0000), None);
    }

    #[test]
    fn no_guard_looks_like_a_program_or_like_no_mark() {
        for guard in [Guard::SidecarPort, Guard::SpoofedSource, Guard::InvalidPacket, Guard::NoPolicy] {
            assert_eq!(Guard::of(guard.bits()), Some(guard));
            let mark = Mark::of(guard.bits()).expect("a mark");
            assert_eq!((mark.generation, mark.class), (0, Class::Denied));
        }
        assert_eq!(Guard::of(0), None);
    }
}

//! What fields are compared with, and in which byte order.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A constant of a rule.
pub trait Operand {
    /// Its length.
    const BYTES: usize;

    /// Its bytes as the kernel holds them in a register.
    fn bytes(&self) -> Vec<u8>;
}

impl Operand for u8 {
    const BYTES: usize = 1;

    fn bytes(&self) -> Vec<u8> {
        vec![*self]
    }
}

/// Network order: ports and types of frames.
impl Operand for u16 {
    const BYTES: usize = 2;

    fn bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
}

/// Host order: marks, device indexes, user ids, states.
impl Operand for u32 {
    const BYTES: usize = 4;

    fn bytes(&self) -> Vec<u8> {
        self.to_ne_bytes().to_vec()
    }
}

/// Host order: identifiers of cgroups.
impl Operand for u64 {
    const BYTES: usize = 8;

    fn bytes(&self) -> Vec<u8> {
        self.to_ne_bytes().to_vec()
    }
}

impl Operand for Ipv4Addr {
    const BYTES: usize = 4;

    fn bytes(&self) -> Vec<u8> {
        self.octets().to_vec()
    }
}

impl Operand for Ipv6Addr {
    const BYTES: usize = 16;

    fn bytes(&self) -> Vec<u8> {
        self.octets().to_vec()
    }
}

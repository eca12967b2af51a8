//! Which arrivals belong to which attack.
//!
//! Canaries report what reached a place; attacks say what they sent. Pure: both lists in, the match out. What
//! belongs to no attack is returned too (`strays`): a packet from an attack's port that nobody announced is a fault
//! of the trial, never to be dropped silently.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::attempt::{Announced, Attempted};
use super::catalogue::{Kind, KnownBy};
use super::token::Token;

/// Ports on which a sidecar takes captured traffic: bytes that reached only these reached only the firewall.
pub const CAPTURE_PORTS: [u16; 11] =
    [15_001, 15_006, 15_007, 15_053, 15_054, 15_055, 15_056, 15_057, 15_058, 15_059, 15_060];

/// What a canary saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The token in its bytes, if there was one.
    pub token: Option<Token>,
    /// Protocol number on the wire.
    pub protocol: u8,
    /// Where it came from.
    pub source: IpAddr,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Where it went, where that is known.
    pub destination: Option<IpAddr>,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// Bytes of it.
    pub bytes: usize,
    /// How it was seen.
    pub via: Via,
}

/// How an arrival was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// A raw socket, behind the input hook.
    Raw,
    /// An accepted connection.
    Listener,
    /// A packet socket, at a place without a firewall.
    Packet,
}

/// Arrivals by attack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// For each attack, in its order, the indexes of its arrivals.
    pub of_attack: Vec<Vec<usize>>,
    /// Arrivals that belong to no attack, bytes that reached only a sidecar left out.
    pub strays: Vec<usize>,
}

/// Assigns each arrival to its attack.
pub fn match_arrivals(attacks: &[Attempted], arrivals: &[Arrival]) -> Matched {
    let mut matched = Matched { of_attack: vec![Vec::new(); attacks.len()], strays: Vec::new() };
    for (index, arrival) in arrivals.iter().enumerate() {
        match attacks.iter().position(|attack| is_of(attack, arrival)) {
            Some(attack) if counts(&attacks[attack], arrival) => matched.of_attack[attack].push(index),
            Some(_) => {}
            None if CAPTURE_PORTS.contains(&arrival.destination_port) => {}
            None => matched.strays.push(index),
        }
    }
    matched
}

fn is_of(attack: &Attempted, arrival: &Arrival) -> bool {
    match arrival.token {
        Some(token) => token == attack.token,
        None => attack.announced.iter().any(|announced| announced.is(arrival)),
    }
}

/// Whether an arrival of this attack counts: not if it reached only a sidecar's capture port that was not the
/// target itself, nor if it is a packet without the token on a connection that is allowed.
fn counts(attack: &Attempted, arrival: &Arrival) -> bool {
    let port = arrival.destination_port;
    let captured = CAPTURE_PORTS.contains(&port)
        && attack.announced.iter().all(|announced| announced.destination_port != port);
    let by_token = Kind::named(&attack.kind).is_some_and(|kind| kind.known_by == KnownBy::Token);
    !captured && (arrival.token.is_some() || !by_token)
}

impl Announced {
    /// Whether a packet without a token is this one. The destination is left open: a Service's address is
    /// replaced on the way.
    fn is(&self, arrival: &Arrival) -> bool {
        self.source_port != 0
            && self.protocol == arrival.protocol
            && self.source == arrival.source
            && self.source_port == arrival.source_port
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::packet::protocol;
    use crate::attack::targets::Family;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn attack(kind: &str, index: u32, destination_port: u16) -> Attempted {
        let token = Token::new(1, index);
        let announced = Announced {
            protocol: protocol::TCP,
            source: address(1),
            source_port: token.source_port(0),
            destination: address(2),
            destination_port,
        };
        Attempted {
            kind: kind.into(),
            family: Family::V4,
            token,
            announced: vec![announced],
            local: Vec::new(),
            not_made: None,
        }
    }

    fn arrival(token: Option<Token>, source_port: u16, destination_port: u16) -> Arrival {
        Arrival {
            token,
            protocol: protocol::TCP,
            source: address(1),
            source_port,
            destination: None,
            destination_port,
            bytes: 60,
            via: Via::Raw,
        }
    }

    #[test]
    fn a_bare_syn_is_known_by_its_source_port_and_bytes_by_their_token() {
        let attacks = [attack("tcp-forbidden-pod", 1, 80), attack("tcp-database", 2, 5432)];
        let syn = arrival(None, attacks[1].announced[0].source_port, 5432);
        let forwarded = arrival(Some(attacks[0].token), 40_000, 80);
        let matched = match_arrivals(&attacks, &[syn, forwarded]);
        assert_eq!(matched, Matched { of_attack: vec![vec![1], vec![0]], strays: vec![] });
    }

    #[test]
    fn bytes_that_reached_only_the_sidecar_did_not_arrive_unless_it_was_the_target() {
        let attacks = [attack("http-admin-path", 1, 8080), attack("tcp-peer-sidecar", 2, 15_006)];
        let captured = arrival(Some(attacks[0].token), 40_000, 15_006);
        let direct = arrival(None, attacks[1].announced[0].source_port, 15_006);
        let matched = match_arrivals(&attacks, &[captured, direct]);
        assert_eq!(matched, Matched { of_attack: vec![vec![], vec![1]], strays: vec![] });
    }

    #[test]
    fn a_packet_that_no_attack_announced_is_a_stray() {
        let attacks = [attack("tcp-forbidden-pod", 1, 80)];
        let matched = match_arrivals(&attacks, &[arrival(None, 61_999, 80), arrival(None, 61_999, 15_006)]);
        assert_eq!(matched, Matched { of_attack: vec![vec![]], strays: vec![0] });
    }
}

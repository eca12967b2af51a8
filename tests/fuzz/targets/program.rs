//! Programs on the wire: bytes that a judge accepts are written again as bytes that read the same, and every question gets an
//! answer.
#![no_main]

use bulkhead_api::v1;
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, Program};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fuzz_target!(|bytes: &[u8]| {
    let Ok(wire) = v1::Program::decode(bytes) else { return };
    let Ok(program) = Program::try_from(wire) else { return };
    let written = v1::Program::from(&program).encode_to_vec();
    let again = v1::Program::decode(written.as_slice()).expect("what we write can be read");
    assert_eq!(Program::try_from(again).ok().as_ref(), Some(&program));
    let Ok(judge) = Judge::new(program) else { return };
    for direction in Direction::BOTH {
        let tables = judge.program().direction(direction);
        let v4 = tables.v4.iter().flat_map(|span| [span.first, span.last]).chain([0, u32::MAX]);
        let v6 = tables.v6.iter().flat_map(|span| [span.first, span.last]).chain([0, u128::MAX]);
        let peers: Vec<IpAddr> =
            v4.map(|n| Ipv4Addr::from(n).into()).chain(v6.map(|n| Ipv6Addr::from(n).into())).collect();
        for peer in peers {
            for protocol in [L4Protocol::TCP, L4Protocol::UDP, L4Protocol(0)] {
                match judge.action(direction, peer, protocol, 80) {
                    Action::Answer(id) | Action::Learn(id) => drop(judge.answer(id)),
                    Action::Inspect { opaque, .. } => drop(judge.answer(opaque)),
                }
            }
        }
    }
});

//! TLS: see `gated`.
#![no_main]

mod gated;

use bulkhead_inspect::Protocol;
use gated::{World, check, some};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (cut, client, server) = input;
    let world = World { expected: Some(Protocol::Tls), allow: some, answer: |_| Vec::new(), opaque: false };
    check(world, cut, client, server);
});

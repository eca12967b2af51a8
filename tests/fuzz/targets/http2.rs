//! HTTP/2, both sides, in pieces of any size; and what is released against h2, which must read the same requests from it.
#![no_main]

#[path = "../../../proxy/src/session/tests/http2_agree.rs"]
mod http2_agree;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (cut, client, server) = input;
    http2_agree::check(cut, client, server);
});

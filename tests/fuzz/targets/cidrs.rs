//! Address blocks: what is read writes itself as text that reads the same, and holds its own ends.
#![no_main]

use bulkhead_facts::Cidr;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(block) = text.parse::<Cidr>() else { return };
    assert_eq!(block.to_string().parse::<Cidr>().ok(), Some(block));
    assert!(block.covers(block), "{block} does not cover itself");
    // `::/80` ends in addresses that are IPv4's written as IPv6's, which count as IPv4 and so are in no IPv6 block.
    let ends = [block.first(), block.last()].map(|end| end.to_canonical() == end && block.contains(end));
    let folded = block.first().is_ipv6() && block.last().to_canonical().is_ipv4();
    assert!(ends == [true; 2] || folded, "{block} is not in itself");
});

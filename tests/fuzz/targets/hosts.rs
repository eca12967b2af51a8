//! Host names and patterns: the normal form is its own normal form, and an exact pattern matches the host it is written as.
#![no_main]

use bulkhead_facts::{HostName, HostPattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(host) = HostName::parse(text) {
        let again = HostName::parse(host.as_str()).expect("a normal form is a host");
        assert_eq!(again, host);
        assert!(host.as_str().is_ascii());
        if let Ok(pattern) = HostPattern::parse(host.as_str()) {
            assert!(pattern.matches(&host), "`{host}` does not match itself");
        }
    }
    if let Ok((host, _)) = HostName::parse_authority(text) {
        assert_eq!(HostName::parse(host.as_str()).as_ref(), Ok(&host));
    }
    if let Ok(pattern) = HostPattern::parse(text) {
        let again = HostPattern::parse(&pattern.to_string()).expect("a written pattern is a pattern");
        assert_eq!(again, pattern);
    }
});

//! Paths: the normal form is its own normal form and holds nothing that a server could read as another path.
#![no_main]

use bulkhead_facts::UrlPath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(path) = UrlPath::parse(text) else { return };
    let normal = path.normal();
    assert_eq!(path.raw(), text);
    assert!(normal.starts_with('/') && !normal.contains("//"), "`{text}` becomes `{normal}`");
    assert!(!normal.split('/').any(|segment| segment == "." || segment == ".."), "`{normal}` climbs");
    let again = UrlPath::parse(normal).expect("a normal form is a path");
    assert_eq!(again.normal(), normal);
});

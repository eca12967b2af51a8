//! Path templates against paths: a template that is a plain path matches exactly that path.
#![no_main]

use bulkhead_facts::{PathTemplate, UrlPath};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|both: (&str, &str)| {
    let (template, path) = both;
    let Ok(template) = PathTemplate::parse(template) else { return };
    assert_eq!(PathTemplate::parse(template.as_str()).as_ref(), Ok(&template));
    let Ok(path) = UrlPath::parse(path) else { return };
    let matches = template.matches(&path);
    let plain = template.segments().all(|segment| segment.is_some()) && !template.matches_below();
    let same = template.as_str() == path.normal();
    // A path that is not written in its normal form must match in both forms.
    assert!(!plain || if path.raw() == path.normal() { matches == same } else { !matches || same });
});

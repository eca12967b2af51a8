//! The request cases of llhttp, the parser of Node: for each we reject, or agree on every request line.
//!
//! Looked for in `$BULKHEAD_SUITES`, else in `../shared/suites` beside the workspace; where the suite is not, the
//! test says so and checks nothing.

#[path = "support/llhttp.rs"]
mod cases;
mod support;

use cases::Case;
use support::{End, OK, World, run};

#[test]
fn every_request_case_is_rejected_or_read_alike() {
    let Some(found) = cases::all() else { return };
    let (mut cases, mut accepted) = (0, 0);
    for case in found.iter().filter(|case| case.strict && !case.unknown_method) {
        cases += 1;
        check(case);
        accepted += usize::from(check(&case.with_host()));
    }
    assert!(cases > 100, "only {cases} cases found");
    assert!(accepted > 20, "only {accepted} of {cases} cases accepted");
    println!("llhttp: {cases} cases, {accepted} read alike, {} rejected", cases - accepted);
}

/// True if we took all of it.
fn check(case: &Case) -> bool {
    let everything = World { allow: |_| true, answer: |_| OK };
    let name = &case.name;
    let outcome = run(&everything, &case.input, case.input.len());
    for piece in [1, 3, 7] {
        assert_eq!(run(&everything, &case.input, piece), outcome, "{name} by {piece}");
    }
    let count = outcome.lines.len();
    assert!(count <= case.requests.len(), "{name}: we read {:?}, llhttp {:?}", outcome.lines, case.requests);
    assert_eq!(outcome.lines, case.requests[..count], "{name}");
    let took_all = outcome.end == End::Open && outcome.released == case.input;
    if case.error {
        assert!(!took_all, "{name}: llhttp refuses, we do not");
    }
    took_all
}

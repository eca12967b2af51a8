//! What is wrong with documents: each file in `testdata/documents` with its findings as people see them.

mod support;

use bulkhead_policies::documents::load;
use support::{expect, files, here, source};

#[test]
fn findings_are_as_expected() {
    let inputs = files(&here().join("testdata/documents"), "yaml");
    assert!(inputs.len() >= 8, "test data is missing");
    for path in inputs {
        let source = source(&path);
        let loaded = load(std::slice::from_ref(&source));
        let rendered: Vec<String> =
            loaded.diagnostics.iter().map(|found| found.render(std::slice::from_ref(&source))).collect();
        expect(&path.with_extension("txt"), &rendered.join("\n"));
    }
}

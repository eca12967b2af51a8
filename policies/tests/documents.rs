//! What is wrong with documents: each file in `testdata/documents` with its findings as people see them.

mod support;

use bulkhead_policies::cases;
use bulkhead_policies::diagnostics::Source;
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

#[test]
fn every_document_of_the_reference_loads() {
    let page = source(&here().join("../docs/POLICY.md"));
    let blocks: Vec<&str> =
        page.text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5, "the reference has lost its documents");
    for block in blocks {
        let source = Source { name: "docs/POLICY.md".into(), text: block.into() };
        let loaded = load(std::slice::from_ref(&source));
        assert_eq!(loaded.diagnostics, [], "{block}");
        let (_, in_cases) = cases::load(&[source]);
        assert_eq!(in_cases, [], "{block}");
    }
}

//! What is wrong with documents: each file in `testdata/documents` with its findings as people see them.

mod support;

use bulkhead_policies::cases;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::load;
use bulkhead_policies::documents::schema::{custom_resource, json_schema};
use bulkhead_policies::prove;
use bulkhead_policies::yaml;
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
        let mut found = load(std::slice::from_ref(&source)).diagnostics;
        // What the language has and no sidecar holds yet is warned of.
        found.retain(|found| found.code != "name-unknown");
        assert_eq!(found, [], "{block}");
        let (_, in_cases) = cases::load(std::slice::from_ref(&source));
        assert_eq!(in_cases, [], "{block}");
        let (_, in_proofs) = prove::load(&[source]);
        assert_eq!(in_proofs, [], "{block}");
    }
}

#[test]
fn definitions_of_custom_resources_are_the_generated_ones() {
    for (kind, file) in [
        ("SegmentPolicy", "segmentpolicies.yaml"),
        ("ClusterSegmentPolicy", "clustersegmentpolicies.yaml"),
        ("Collection", "collections.yaml"),
    ] {
        let definition = custom_resource(kind).expect("a stored kind");
        let text = yaml::format(&Source { name: kind.into(), text: definition.to_string() }).expect("YAML");
        expect(&here().join("../deploy/crds").join(file), &text);
    }
}

#[test]
fn the_schema_for_editors_is_the_generated_one_and_the_example_leads_to_it() {
    let text = format!("{:#}\n", json_schema(None).expect("a schema"));
    expect(&here().join("../deploy/editor/bulkhead.schema.json"), &text);
    let example = here().join("examples/protocols/policies.yaml");
    let first = source(&example).text.lines().next().expect("a line").to_owned();
    let path = first.strip_prefix("# yaml-language-server: $schema=").expect("a schema line");
    assert!(example.parent().expect("a folder").join(path).is_file(), "{path} leads nowhere");
}

#[test]
fn examples_are_in_their_one_layout() {
    for path in files(&here().join("examples"), "yaml") {
        let source = source(&path);
        let text = yaml::format(&source).unwrap_or_else(|found| panic!("{found:#?}"));
        expect(&path, &text);
    }
}

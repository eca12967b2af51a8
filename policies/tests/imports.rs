//! What imports write and what they tell: each file in `testdata/import` with its documents and its findings.

mod support;

use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::load;
use bulkhead_policies::import::{Dialect, ImportOptions, Imported, import};
use bulkhead_policies::yaml;
use support::{expect, files, here, source};

fn dialect(name: &str) -> Dialect {
    let all = [Dialect::Cilium, Dialect::Istio, Dialect::Calico, Dialect::Neuvector];
    all.into_iter().find(|dialect| name.starts_with(dialect.as_str())).expect("a file named by its dialect")
}

#[test]
fn imports_are_as_expected() {
    let inputs = files(&here().join("testdata/import"), "yaml");
    assert!(inputs.len() >= 12, "test data is missing");
    for path in inputs {
        let source = source(&path);
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let imported = import(dialect(&name), std::slice::from_ref(&source), &ImportOptions::default());
        let findings: Vec<String> =
            imported.diagnostics.iter().map(|found| found.render(std::slice::from_ref(&source))).collect();
        let text = format!("{}\n====\n{}", imported.documents, findings.join("\n"));
        expect(&path.with_extension("txt"), &text);
        assert_eq!(imported.has_errors(), name.ends_with("-refused"), "{name}: {:#?}", imported.diagnostics);
        if !imported.has_errors() {
            assert_eq!(
                imported.has_losses(),
                name.ends_with("-losses"),
                "{name}: {:#?}",
                imported.diagnostics
            );
        }
        if !imported.has_errors() {
            let written = Source { name: "imported".into(), text: imported.documents };
            assert!(!load(std::slice::from_ref(&written)).has_errors(), "{name}");
            assert_eq!(yaml::format(&written).as_deref(), Ok(written.text.as_str()), "{name}");
        }
    }
}

#[test]
fn files_without_a_policy_of_the_format_are_an_error() {
    let source =
        Source { name: "a.yaml".into(), text: "{apiVersion: v1, kind: Pod, metadata: {name: a}}".into() };
    assert!(import(Dialect::Istio, &[source], &ImportOptions::default()).has_errors());
}

fn imported(dialect: Dialect, text: &str) -> Imported {
    let source = Source { name: "a.yaml".into(), text: text.into() };
    import(dialect, &[source], &ImportOptions::default())
}

#[test]
fn a_deny_of_cilium_that_names_requests_denies_every_byte() {
    for rules in ["[{path: \"/public.*\"}]", "[{method: GET}, {path: \"/v[0-9]\"}]"] {
        let found = imported(
            Dialect::Cilium,
            &format!(
                "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: a, namespace: shop}}\nspec:\n  endpointSelector: {{}}\n  ingressDeny:\n    - fromEndpoints: [{{}}]\n      toPorts: [{{ports: [{{port: \"80\", protocol: TCP}}], rules: {{http: {rules}}}}}]\n"
            ),
        );
        assert!(!found.has_errors() && found.has_losses(), "{:?}", found.diagnostics);
        assert!(found.documents.contains("action: deny"), "{}", found.documents);
        assert!(!found.documents.contains("http:"), "{}", found.documents);
        assert!(!found.documents.contains("ports:"), "{}", found.documents);
    }
}

#[test]
fn a_condition_of_istio_without_values_or_with_a_misspelt_field_is_refused() {
    for condition in ["key: \"request.headers[x]\"", "key: source.ip, value: [192.0.2.1]"] {
        let found = imported(
            Dialect::Istio,
            &format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a, namespace: shop}}\nspec: {{rules: [{{when: [{{{condition}}}]}}]}}\n"
            ),
        );
        assert!(found.has_errors() && found.documents.is_empty(), "{}", found.documents);
    }
}

#[test]
fn misspelt_parts_that_would_take_rules_away_are_refused() {
    let istio = |item: &str| {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a, namespace: shop}}\nspec: {{rules: [{{{item}}}]}}\n"
        );
        imported(Dialect::Istio, &text)
    };
    let calico = |types: &str| {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: a, namespace: shop}}\nspec: {{selector: all(), types: [{types}], ingress: [{{action: Allow}}]}}\n"
        );
        imported(Dialect::Calico, &text)
    };
    for found in [
        istio("from: [{source: {namespaces: [a]}, sources: {ipBlocks: [192.0.2.1]}}]"),
        istio("to: [{operation: {methods: [GET]}, opration: {paths: [/a]}}]"),
        calico("Ingres"),
    ] {
        assert!(found.has_errors() && found.documents.is_empty(), "{}", found.documents);
    }
    for found in [istio("from: [{source: {namespaces: [a]}}]"), calico("Ingress")] {
        assert!(!found.has_errors(), "{:?}", found.diagnostics);
    }
}

//! Policy documents: whatever is written, loading ends in diagnostics or in a set that loads again to the same; what loads
//! compiles or says why not, whether one looks at an empty cluster or not.
#![no_main]

use bulkhead_policies::compile::Compiler;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::load;
use bulkhead_policies::inventory::Inventory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let sources = [Source { name: "fuzz.yaml".into(), text: text.into() }];
    let loaded = load(&sources);
    for diagnostic in &loaded.diagnostics {
        assert!(!diagnostic.to_string().is_empty());
    }
    if loaded.has_errors() {
        return;
    }
    assert_eq!(load(&sources).set, loaded.set);
    let inventory = Inventory::default();
    if let Ok(compiler) = Compiler::new(&loaded.set, &inventory) {
        assert!(compiler.programs(1).is_ok_and(|groups| groups.is_empty()), "programs without pods");
    }
});

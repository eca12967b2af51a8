//! Inventories: whatever is read, it is refused with diagnostics or compiles under no policy to programs that a judge accepts.
#![no_main]

use bulkhead_policies::compile::Compiler;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::load_inventory;
use bulkhead_policies::model::PolicySet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let sources = [Source { name: "fuzz.yaml".into(), text: text.into() }];
    match load_inventory(&sources) {
        Err(diagnostics) => assert!(!diagnostics.is_empty(), "refused without a word"),
        Ok(inventory) => {
            let set = PolicySet::default();
            let compiler = Compiler::new(&set, &inventory).expect("no policy contradicts itself");
            for group in compiler.programs(1).into_iter().flatten() {
                assert!(Judge::new(group.program).is_ok(), "a program that no judge accepts");
            }
        }
    }
});

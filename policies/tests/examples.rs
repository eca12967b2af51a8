//! Every example holds: no finding in its policies, every name known, every case as it says.

mod support;

use bulkhead_policies::cases;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, references};
use bulkhead_policies::prove::{self, prove};
use bulkhead_policies::questions::{Judges, Version};
use bulkhead_policies::space::Programs;
use support::{compiler, files, here, sound, source};

/// The sources of each example.
fn examples() -> Vec<(String, Vec<Source>)> {
    let folder = here().join("examples");
    let mut folders: Vec<_> =
        std::fs::read_dir(folder).expect("the examples").map(|e| e.expect("an entry").path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    assert!(folders.len() >= 4, "examples are missing");
    folders
        .into_iter()
        .map(|path| {
            (path.display().to_string(), files(&path, "yaml").iter().map(|file| source(file)).collect())
        })
        .collect()
}

#[test]
fn every_case_of_every_example_holds() {
    for (name, sources) in examples() {
        let (set, inventory) = sound(&sources, &sources);
        let compiler = compiler(&set, &inventory);
        let mut judges = Judges::new(&compiler, &inventory);
        let (suites, found) = cases::load(&sources);
        assert_eq!(found, [], "{name}");
        assert!(!suites.is_empty(), "{name} has no cases");
        for outcome in suites.iter().flat_map(|suite| cases::run(suite, &mut judges)) {
            let problems: Vec<String> =
                outcome.problems.iter().map(|problem| problem.render(&sources)).collect();
            assert!(problems.is_empty(), "{}: {}\n{}", outcome.suite, outcome.case, problems.join("\n"));
        }
    }
}

#[test]
fn examples_have_no_findings() {
    for (name, sources) in examples() {
        let loaded = load(&sources);
        assert_eq!(loaded.diagnostics, [], "{name}");
        let (set, inventory) = sound(&sources, &sources);
        assert_eq!(references(&set, &loaded.places, &inventory), [], "{name}");
        assert_eq!(compiler(&set, &inventory).warnings(), [], "{name}");
    }
}

#[test]
fn every_proof_of_every_example_holds() {
    let mut assertions = 0;
    for (name, sources) in examples() {
        let (set, inventory) = sound(&sources, &sources);
        let programs = Programs::new(&compiler(&set, &inventory)).expect("programs");
        let (proofs, found) = prove::load(&sources);
        assert_eq!(found, [], "{name}");
        for outcome in proofs.iter().flat_map(|proof| prove(proof, &programs, &inventory, Version::Enforced))
        {
            assert_eq!(outcome.problems, [], "{name}: {}", outcome.assertion);
            assertions += 1;
        }
    }
    assert!(assertions >= 5, "the examples have lost their proofs");
}

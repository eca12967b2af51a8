//! `bulkhead policy import` from outside, and the templates of `deploy/ci`: they parse, and what they run exists.

use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::yaml;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn bulkhead(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .current_dir(root())
        .args(arguments)
        .output()
        .expect("the program runs")
}

#[test]
fn a_loss_writes_nothing_unless_it_is_allowed() {
    let lossy = "policies/testdata/import/cilium-losses.yaml";
    let refused = bulkhead(&["policy", "import", "cilium", lossy]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
    let allowed = bulkhead(&["policy", "import", "cilium", "--allow-loss", lossy]);
    assert_eq!(allowed.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&allowed.stdout).contains("kind: SegmentPolicy"));
    assert!(String::from_utf8_lossy(&allowed.stderr).contains("not-carried"));
    let whole = bulkhead(&["policy", "import", "istio", "policies/testdata/import/istio.yaml"]);
    assert_eq!(whole.status.code(), Some(0));
}

#[test]
fn what_would_be_weaker_is_refused_even_with_loss_allowed() {
    for dialect in ["cilium", "istio", "calico", "neuvector"] {
        let file = format!("policies/testdata/import/{dialect}-refused.yaml");
        let found = bulkhead(&["policy", "import", dialect, "--allow-loss", &file]);
        assert_eq!((found.status.code(), found.stdout.len()), (Some(2), 0), "{dialect}");
    }
}

#[test]
fn templates_parse_and_run_what_exists() {
    let mut commands = 0;
    for name in ["github-actions.yaml", "gitlab-ci.yaml", "pre-commit-hooks.yaml", "Jenkinsfile"] {
        let text = std::fs::read_to_string(root().join("deploy/ci").join(name)).expect("a template");
        if name.ends_with(".yaml") {
            let parsed = yaml::parse(&Source { name: name.into(), text: text.clone() });
            assert!(parsed.as_ref().is_ok_and(|documents| documents.len() == 1), "{name}: {parsed:?}");
        }
        for command in text.split("bulkhead policy ").skip(1) {
            let line = command.lines().next().unwrap_or_default();
            let words: Vec<&str> =
                line.split([' ', '\'']).take_while(|word| !["", ">"].contains(word)).collect();
            let help = bulkhead(&["policy", words[0], "--help"]);
            assert!(help.status.success(), "{name}: `bulkhead policy {}` does not exist", words[0]);
            let help = String::from_utf8_lossy(&help.stdout).into_owned();
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(*flag), "{name}: `bulkhead policy {}` has no `{flag}`", words[0]);
            }
            commands += 1;
        }
    }
    assert!(commands >= 10, "the templates run {commands} commands only");
}

#[test]
fn every_command_of_the_templates_passes_on_sound_policies_and_fails_on_wrong_ones() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pipeline");
    let shop = root().join("policies/examples/shop");
    for (from, to) in [
        ("policies.yaml", "policies/policies.yaml"),
        ("cases.yaml", "policies/cases.yaml"),
        ("inventory.yaml", "policies-inventory/inventory.yaml"),
    ] {
        let to = folder.join(to);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(shop.join(from), to).expect("a copy");
    }
    let sound = run_templates(&folder);
    assert!(sound.len() >= 10, "{sound:?}");
    assert!(sound.iter().all(|(_, passes)| *passes), "{sound:?}");
    let junit = std::fs::read_to_string(folder.join("policies.xml")).expect("a report");
    assert!(junit.contains("<testsuite name=\"shop\""), "{junit}");
    let sarif = std::fs::read_to_string(folder.join("policies.sarif")).expect("a report");
    assert!(sarif.contains("\"version\": \"2.1.0\""), "{sarif}");

    let wrong = "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {name: a, namespace: shop}\nspec: {ingres:   []}\n";
    std::fs::write(folder.join("policies/wrong.yaml"), wrong).expect("a file");
    let failing = run_templates(&folder);
    std::fs::remove_file(folder.join("policies/wrong.yaml")).expect("the file");
    // What only reports is not what stops a pipeline.
    let passing = failing.iter().filter(|(command, passes)| *passes && !command.contains("|| true"));
    assert_eq!(passing.collect::<Vec<_>>(), Vec::<&(String, bool)>::new());
}

/// The commands of all templates, each with whether it passes in this folder.
fn run_templates(folder: &Path) -> Vec<(String, bool)> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_bulkhead"));
    let path = format!(
        "{}:{}",
        program.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut found = Vec::new();
    for name in ["github-actions.yaml", "gitlab-ci.yaml", "pre-commit-hooks.yaml", "Jenkinsfile"] {
        let text = std::fs::read_to_string(root().join("deploy/ci").join(name)).expect("a template");
        let lines = text.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
        for line in lines.filter_map(|line| line.find("bulkhead policy").map(|at| &line[at..])) {
            let line = line.trim_end_matches('\'');
            let run = Command::new("sh").args(["-ec", line]).env("PATH", &path).current_dir(folder).output();
            found.push((line.to_owned(), run.expect("a shell").status.success()));
        }
    }
    found
}

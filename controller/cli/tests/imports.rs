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

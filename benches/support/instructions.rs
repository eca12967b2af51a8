//! Instructions of one case, counted by callgrind in a process of its own.
//!
//! A benchmark calls itself with `--case NUMBER ITERATIONS` under callgrind, twice: the difference of the two counts leaves out
//! everything but the iterations.

use crate::Case;
use std::process::Command;

const FEW: u64 = 1_000;
const MANY: u64 = 11_000;

/// Instructions per iteration of the case with this number.
///
/// # Panics
/// If valgrind is missing or its output is not understood.
pub fn instructions_per_iteration(case: usize) -> f64 {
    let [few, many] = [FEW, MANY].map(|iterations| instructions(case, iterations));
    (many - few) as f64 / (MANY - FEW) as f64
}

fn instructions(case: usize, iterations: u64) -> u64 {
    let mut command = counted("/dev/null");
    let output = command.args(["--case", &case.to_string(), &iterations.to_string()]).output();
    let output = output.expect("valgrind can be started: `deploy/tools.sh count` installs it");
    collected(&String::from_utf8_lossy(&output.stderr))
}

/// This program under callgrind, which writes what it saw to a file, and the count to standard error.
///
/// # Panics
/// If this program has no path.
pub fn counted(profile: &str) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", &format!("--callgrind-out-file={profile}")]);
    command.arg(std::env::current_exe().expect("this program has a path"));
    command
}

/// The count in what callgrind writes to standard error.
///
/// # Panics
/// If there is none.
pub fn collected(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim());
    count
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| panic!("no count in what valgrind says: {text}"))
}

/// Runs the one case that `--case NUMBER ITERATIONS` asks for; the cases where none is asked for.
///
/// # Panics
/// If the number names no case.
pub fn run_one<'a>(mut cases: Vec<Case<'a>>, arguments: &[String]) -> Option<Vec<Case<'a>>> {
    let Some(at) = arguments.iter().position(|argument| argument == "--case") else { return Some(cases) };
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let (case, iterations) = (number(at + 1), number(at + 2).unwrap_or_default());
    let case = case.and_then(|case| usize::try_from(case).ok()).expect("the number of a case");
    (cases[case].work)(iterations);
    None
}

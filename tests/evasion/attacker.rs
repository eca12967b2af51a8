//! The attacker of the evasion tests: the lab's catalogue as a program of its own, so that each attack has a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    bulkhead_lab::attack::main(&arguments)
}

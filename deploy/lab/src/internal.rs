//! The lab's own inner commands: what one of its processes starts another as.
//!
//! They are no interface: their orders are JSON between two processes of the same build. `main` of the command
//! line calls [`dispatch`] before it reads its own arguments, so that these processes stay small and quick.

use crate::{attack, canary, demo, enter, node, pod};
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use std::process::ExitCode;

/// Runs an inner command if `arguments` (without the program's own name) begin with one.
pub fn dispatch(arguments: &[String]) -> Option<ExitCode> {
    let (name, rest) = arguments.split_first()?;
    let code = match name.as_str() {
        "lab-node" => ended(read_line().and_then(node::main)),
        "lab-pod" => ended(read_all().and_then(|order| pod::main(&order)).map(|()| 0)),
        "lab-enter" => ended(argument(rest).and_then(|order| enter::main(&order))),
        "lab-inside" => ended(argument(rest).and_then(|order| Err(enter::inside(&order)))),
        "lab-attack" => attack::main(rest),
        "lab-canary" => canary::main(rest),
        "lab-demo" => demo::main(rest),
        _ => return None,
    };
    Some(code)
}

fn ended(result: io::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("bulkhead lab: {error}");
            ExitCode::from(126)
        }
    }
}

fn argument<T: DeserializeOwned>(arguments: &[String]) -> io::Result<T> {
    let text = arguments.first().map(String::as_str).unwrap_or_default();
    serde_json::from_str(text).map_err(io::Error::from)
}

/// The order of `lab-node` is one line: what stays open behind it is its bond with the outer process.
fn read_line<T: DeserializeOwned>() -> io::Result<T> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::from)
}

fn read_all<T: DeserializeOwned>() -> io::Result<T> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(io::Error::from)
}

//! The table of `docs/THREATS.md`: which attack arrives with which rights, written from what was measured.
//!
//! `UPDATE=1` writes it; without, the test compares. So the manual cannot promise what no longer holds.

use anyhow::{Context, ensure};
use bulkhead_lab::attack::KINDS;

use crate::sidecars::CAPTURES;
use crate::trial::Arrived;

/// Rights of the columns, as the attacker's flag `--as` names them.
pub(crate) const RIGHTS: [&str; 4] = ["app", "net-raw", "root", "root-net-raw"];

/// Kinds whose target does not exist yet: the sidecar listens on no UDP port.
pub(crate) const NOT_MADE: [&str; 1] = ["udp-own-sidecar"];

const BEGIN: &str = "<!-- what arrives: begin -->\n";
const END: &str = "<!-- what arrives: end -->\n";

/// Compares what was measured with the manual: a column for each of [`RIGHTS`], in it what arrived in each of the modes
/// of [`CAPTURES`].
pub(crate) fn compare(columns: &[[Arrived; 2]]) -> anyhow::Result<()> {
    let path = bulkhead_tests::root().join("docs/THREATS.md");
    let text = std::fs::read_to_string(&path)?;
    let (before, rest) =
        text.split_once(BEGIN).with_context(|| format!("docs/THREATS.md has no line `{BEGIN}`"))?;
    let (old, after) =
        rest.split_once(END).with_context(|| format!("docs/THREATS.md has no line `{END}`"))?;
    let new = render(columns);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{new}{END}{after}"))?;
        return Ok(());
    }
    let changed: Vec<_> = new.lines().filter(|line| !old.lines().any(|other| other == *line)).collect();
    ensure!(
        old == new,
        "docs/THREATS.md says otherwise (UPDATE=1 writes what was measured):\n{}",
        changed.join("\n")
    );
    Ok(())
}

fn render(columns: &[[Arrived; 2]]) -> String {
    let mut table = String::from(
        "| action | what it tries | families | app | app with NET_RAW | root | root with NET_RAW |\n|---|---|---|---|---|---|---|\n",
    );
    for kind in KINDS.iter().filter(|kind| !NOT_MADE.contains(&kind.name)) {
        let families = match (kind.v4, kind.v6) {
            (true, true) => "4, 6",
            (true, false) => "4",
            (false, _) => "6",
        };
        let cells: Vec<_> = columns
            .iter()
            .map(|modes| cell(modes.each_ref().map(|arrived| arrived.get(kind.name))))
            .collect();
        table += &format!("| `{}` | {} | {families} | {} |\n", kind.name, kind.tries, cells.join(" | "));
    }
    table
}

/// What arrived, once if that is the same in all modes.
fn cell(modes: [Option<&Vec<u8>>; 2]) -> String {
    let [one, other] = modes.map(|families| match families {
        None => "stopped".to_owned(),
        Some(families) => {
            let digits: Vec<_> = families.iter().map(u8::to_string).collect();
            format!("**arrives** ({})", digits.join(", "))
        }
    });
    if one == other { one } else { format!("{}: {one}; {}: {other}", CAPTURES[0], CAPTURES[1]) }
}

//! `bulkhead policy matrix`: the truth table of every ordered pair of pods.

use super::set::Set;
use super::{DateArguments, HOLDS, InventoryArguments, explain::parse_port, report, requests::HttpArguments};
use bulkhead_facts::{Direction, Effect, L4Protocol};
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::matrix::{Matrix, Probe, Row};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Print the truth table of all pairs of pods
///
/// Without `--request`, a port on which requests are inspected is allowed if some request passes; `inspected` says so.
/// Exit code 0, or 2 for bad input. Pods that have no address of one family have no row.
#[derive(clap::Args, Debug)]
pub(super) struct MatrixArguments {
    /// Policy files or folders
    #[arg(required = true, value_name = "POLICY")]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    inventory: InventoryArguments,
    #[command(flatten)]
    date: DateArguments,
    /// What is tried from each pod to each: `TCP/80`, `UDP/53`, `SCTP/9003`, `ICMP/8`; may be repeated
    #[arg(long = "probe", value_name = "PROTOCOL/PORT", required = true, value_parser = parse_port)]
    probes: Vec<(L4Protocol, u16)>,
    /// Ask with a request, in words as `explain` takes them: `"GET /path"`, `"redis command=get key=a"`
    #[arg(long, value_name = "WORDS")]
    request: Option<String>,
    #[command(flatten)]
    http: HttpArguments,
    #[arg(long, value_enum, default_value_t)]
    format: MatrixFormat,
}

/// How the table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum MatrixFormat {
    /// A grid for each probe
    #[default]
    Text,
    /// An array with one object for each pair and probe
    Json,
}

pub(super) fn run(arguments: &MatrixArguments) -> u8 {
    let set = match Set::read(&arguments.policies, &arguments.inventory, arguments.date) {
        Ok(set) => set,
        Err(code) => return code,
    };
    let compiler = match set.compiler() {
        Ok(compiler) => compiler,
        Err(code) => return code,
    };
    let words: Vec<String> =
        arguments.request.iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
    let request = match arguments.http.request(&words) {
        Ok(request) => request,
        Err(message) => return report::refuse(&message),
    };
    let matrix = match Matrix::new(&compiler, &set.inventory) {
        Ok(matrix) => matrix,
        Err(error) => return report::refuse(&error),
    };
    let matrix = match request {
        Some(request) => matrix.with_request(request),
        None => matrix,
    };
    let (absent, there): (Vec<_>, Vec<_>) =
        set.inventory.pods.iter().partition(|(_, pod)| pod.addresses.is_empty());
    let pods: Vec<&ObjectName> = there.into_iter().map(|(name, _)| name).collect();
    for (name, _) in absent {
        eprintln!(
            "note: pod `{}` has no address: it has no rows, as its node is not in the inventory",
            shown(name)
        );
    }
    let probes: Vec<Probe> =
        arguments.probes.iter().map(|(protocol, port)| Probe { protocol: *protocol, port: *port }).collect();
    let out = BufWriter::new(io::stdout().lock());
    let printed = match arguments.format {
        MatrixFormat::Text => print_grids(&matrix, &pods, &probes, out),
        MatrixFormat::Json => print_json(&matrix, &probes, out),
    };
    match printed {
        Ok(()) => HOLDS,
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => HOLDS,
        Err(error) => report::refuse(&format!("cannot write the table: {error}")),
    }
}

/// Row by row, since a table may be larger than memory.
fn print_json(matrix: &Matrix<'_>, probes: &[Probe], mut out: impl Write) -> io::Result<()> {
    out.write_all(b"[")?;
    let mut separator = "\n";
    for row in matrix.rows(probes) {
        write!(out, "{separator}{}", row_json(&row))?;
        separator = ",\n";
    }
    out.write_all(b"\n]\n")?;
    out.flush()
}

fn row_json(row: &Row<'_>) -> Value {
    let rule = row.enforced.rule.as_ref();
    json!({
        "from": shown(row.from),
        "to": shown(row.to),
        "protocol": row.probe.protocol.to_string().to_uppercase(),
        "port": shown_number(row.probe),
        "verdict": row.enforced.effect.as_str(),
        "shadow": row.shadow.effect.as_str(),
        "reason": row.enforced.reason.as_str(),
        "rule": rule.map(|rule| format!("{}/{}", rule.policy, rule.rule)),
        "tier": rule.map(|rule| rule.tier.as_str()),
        "direction": row.enforced.decided_by.map(Direction::as_str),
        "inspected": row.inspected,
        "differs_by_family": row.differs_by_family,
    })
}

/// One grid for each probe: who opens on the left, who receives by number. Pods that cannot reach each other, having no
/// addresses of one family, leave a gap.
fn print_grids(
    matrix: &Matrix<'_>,
    pods: &[&ObjectName],
    probes: &[Probe],
    mut out: impl Write,
) -> io::Result<()> {
    writeln!(out, ". allow   i some requests   X deny   (rows open, columns receive, in the same order)")?;
    for probe in probes {
        writeln!(out, "\n{}/{}", probe.protocol.to_string().to_uppercase(), shown_number(*probe))?;
        let mut rows = matrix.rows(std::slice::from_ref(probe)).peekable();
        for (number, from) in (1..).zip(pods) {
            write!(out, "{number:4} {:40}", shown(from))?;
            for to in pods {
                let row = rows.next_if(|row| row.from == *from && row.to == *to);
                write!(out, " {}", row.map_or(' ', |row| sign(&row)))?;
            }
            writeln!(out)?;
        }
    }
    out.flush()
}

fn sign(row: &Row<'_>) -> char {
    match (row.enforced.effect, row.inspected) {
        (Effect::Deny, _) => 'X',
        (Effect::Allow, true) => 'i',
        (Effect::Allow, false) => '.',
    }
}

fn shown(name: &ObjectName) -> String {
    format!("{}/{}", name.namespace, name.name)
}

/// The port, or the type for ICMP.
fn shown_number(probe: Probe) -> u16 {
    if probe.protocol.is_icmp() { probe.port >> 8 } else { probe.port }
}

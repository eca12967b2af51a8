//! `bulkhead policy matrix`: the truth table of every ordered pair of pods.
//!
//! A flow on which some requests pass and others do not is `allow` with `"inspected": true`. Pairs are told for the family
//! that both pods have first; where the other family differs, a field named after it says so.

use super::set::Set;
use super::{BAD_INPUT, HOLDS, InventoryArguments, explain::parse_port, report};
use bulkhead_facts::{Effect, L4Protocol};
use bulkhead_policies::inventory::{Inventory, ObjectName};
use bulkhead_policies::questions::{End, FlowAnswer, Judges, NoJudge, Question, Version};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::PathBuf;

/// Print the truth table of all pairs of pods
#[derive(clap::Args, Debug)]
pub(super) struct MatrixArguments {
    /// Policy files or folders
    #[arg(required = true, value_name = "POLICY")]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    inventory: InventoryArguments,
    /// What is asked of each pair: `TCP/80`, `UDP/53`, `SCTP/9003`, `ICMP/8`; may be repeated
    #[arg(long = "probe", value_name = "PROTOCOL/PORT", required = true, value_parser = parse_port)]
    probes: Vec<(L4Protocol, u16)>,
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
    let set = match Set::read(&arguments.policies, &arguments.inventory) {
        Ok(set) => set,
        Err(code) => return code,
    };
    let compiler = match set.compiler() {
        Ok(compiler) => compiler,
        Err(code) => return code,
    };
    let judges = Judges::new(&compiler, &set.inventory);
    let out = BufWriter::new(io::stdout().lock());
    let mut table = Table { inventory: &set.inventory, judges, probes: &arguments.probes };
    let printed = match arguments.format {
        MatrixFormat::Text => table.print_grids(out),
        MatrixFormat::Json => table.print_json(out),
    };
    match printed {
        Ok(()) => HOLDS,
        // Whoever reads has read enough.
        Err(PrintError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => HOLDS,
        Err(PrintError::Output(error)) => {
            report::refuse(&format!("cannot write the table: {error}"));
            BAD_INPUT
        }
        Err(PrintError::Judge(error)) => report::refuse(&error),
    }
}

enum PrintError {
    Output(io::Error),
    Judge(NoJudge),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

struct Table<'a> {
    inventory: &'a Inventory,
    judges: Judges<'a>,
    probes: &'a [(L4Protocol, u16)],
}

/// One cell of the table.
struct Cell {
    /// Nothing to ask where the pods share no family: nothing can flow.
    answer: Option<FlowAnswer>,
    other_family: Option<(&'static str, Effect)>,
    inspected: bool,
    effect: Effect,
}

impl Table<'_> {
    fn print_json(&mut self, mut out: impl Write) -> Result<(), PrintError> {
        out.write_all(b"[")?;
        let mut separator = "\n";
        for (protocol, port) in self.probes {
            for from in self.inventory.pods.keys() {
                for to in self.inventory.pods.keys() {
                    let cell = self.cell(from, to, *protocol, *port).map_err(PrintError::Judge)?;
                    write!(out, "{separator}{}", row(from, to, (*protocol, *port), &cell))?;
                    separator = ",\n";
                }
            }
        }
        out.write_all(b"\n]\n")?;
        Ok(out.flush()?)
    }

    fn print_grids(&mut self, mut out: impl Write) -> Result<(), PrintError> {
        let names: Vec<String> = self.inventory.pods.keys().map(shown).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        writeln!(out, ". allow   i some requests   X deny   (rows open, columns receive)")?;
        for (protocol, port) in self.probes {
            writeln!(out, "\n{} {}", protocol.to_string().to_uppercase(), shown_number(*protocol, *port))?;
            for (number, (from, name)) in self.inventory.pods.keys().zip(&names).enumerate() {
                write!(out, "{:3} {name:width$} ", number + 1)?;
                for to in self.inventory.pods.keys() {
                    let cell = self.cell(from, to, *protocol, *port).map_err(PrintError::Judge)?;
                    write!(out, " {}", cell.sign())?;
                }
                writeln!(out)?;
            }
        }
        Ok(out.flush()?)
    }

    fn cell(
        &mut self,
        from: &ObjectName,
        to: &ObjectName,
        protocol: L4Protocol,
        port: u16,
    ) -> Result<Cell, NoJudge> {
        if from == to {
            // Traffic to the own address never leaves the pod.
            return Ok(Cell { answer: None, other_family: None, inspected: false, effect: Effect::Allow });
        }
        let pairs = self.pairs(from, to);
        let mut found = Vec::new();
        for (source, destination) in pairs {
            let question = Question {
                source: End { pod: Some(from), address: source },
                destination: End { pod: Some(to), address: destination },
                dialled: None,
                protocol,
                port,
                request: None,
            };
            found.push((destination, self.judges.ask(&question)?));
        }
        let Some((_, answer)) = found.first() else {
            return Ok(Cell { answer: None, other_family: None, inspected: false, effect: Effect::Deny });
        };
        let (effect, inspected) = effect(answer);
        let differs = found.iter().skip(1).map(|(address, answer)| (address, self::effect(answer).0));
        let other_family = differs
            .filter(|(_, other)| *other != effect)
            .map(|(address, other)| (if address.is_ipv4() { "ipv4" } else { "ipv6" }, other))
            .next();
        Ok(Cell {
            answer: found.into_iter().next().map(|(_, answer)| answer),
            other_family,
            inspected,
            effect,
        })
    }

    /// One pair of addresses for each family that both pods have, IPv4 first.
    fn pairs(&self, from: &ObjectName, to: &ObjectName) -> Vec<(IpAddr, IpAddr)> {
        let addresses =
            |name: &ObjectName| self.inventory.pods.get(name).map_or(&[][..], |pod| pod.addresses.as_slice());
        let of = |list: &[IpAddr], v4: bool| list.iter().copied().find(|address| address.is_ipv4() == v4);
        let pair = |v4: bool| Some((of(addresses(from), v4)?, of(addresses(to), v4)?));
        [true, false].into_iter().filter_map(pair).collect()
    }
}

/// The verdict where no request is known, and whether requests would still change it.
fn effect(answer: &FlowAnswer) -> (Effect, bool) {
    let denied = |side: &&bulkhead_policies::questions::SideAnswer| {
        side.version(Version::Enforced).0.effect == Effect::Deny && !side.inspected
    };
    if answer.sides.iter().any(|side| denied(&side)) {
        return (Effect::Deny, false);
    }
    (Effect::Allow, answer.sides.iter().any(|side| side.inspected))
}

impl Cell {
    fn sign(&self) -> char {
        match (self.effect, self.inspected) {
            (Effect::Deny, _) => 'X',
            (Effect::Allow, true) => 'i',
            (Effect::Allow, false) => '.',
        }
    }
}

fn row(from: &ObjectName, to: &ObjectName, (protocol, port): (L4Protocol, u16), cell: &Cell) -> Value {
    let deciding = cell.answer.as_ref().and_then(|answer| answer.deciding(Version::Enforced));
    let rule = deciding.and_then(|side| side.enforced_rule.as_ref());
    let mut row = json!({
        "from": shown(from),
        "to": shown(to),
        "protocol": protocol.to_string().to_uppercase(),
        "port": shown_number(protocol, port),
        "verdict": cell.effect.as_str(),
        "rule": rule.map(|rule| format!("{}/{}", rule.policy, rule.rule)),
        "tier": rule.map(|rule| rule.tier.as_str()),
        "reason": deciding.map(|side| side.pair.enforced.reason.as_str()),
        "direction": deciding.map(|side| side.direction.as_str()),
        "shadow": cell.answer.as_ref().map_or(cell.effect, |answer| answer.effect(Version::Shadow)).as_str(),
    });
    if cell.inspected {
        row["inspected"] = true.into();
    }
    if let Some((family, effect)) = cell.other_family {
        row[family] = effect.as_str().into();
    }
    row
}

fn shown(name: &ObjectName) -> String {
    format!("{}/{}", name.namespace, name.name)
}

/// The port, or the type for ICMP.
fn shown_number(protocol: L4Protocol, port: u16) -> u16 {
    if protocol.is_icmp() { port >> 8 } else { port }
}

//! What the kernel tier costs, next to nothing in between and to other ways of doing its work.
//!
//! Everything is measured in one run, round by round in turn, between two network namespaces of our own; what is compared is the
//! ratio to a bare pair of namespaces that is measured right before or after. The table is the sidecar's: documents,
//! compiled, applied by its own code. Needs root and `ip`. `--rounds N`, `--only CASE` and `--figure NAME` (stream, request,
//! connection, rate, apply) narrow a run; `--table FILE` adds a table in the language of `nft`, to try an idea.

mod apply;
mod cases;
mod kernel_threads;
mod network;
mod program;
mod proxy;
mod queue;
mod report;
mod system;
mod traffic;

use anyhow::{Context, Result, bail, ensure};
use cases::{Case, Side, Way};
use report::{Row, Samples};

const ROUNDS: usize = 21;
const STREAM_BYTES: u64 = 256 << 20;
const REQUESTS: usize = 1_500;
const CONNECTIONS: u32 = 300;
const CROWD: u32 = 1_600;
/// The figures: CPU per GB, p50, new connections per second.
const LIMITS: [Option<f64>; 3] = [Some(1.05), Some(1.10), Some(0.90)];
const ACCOUNTED: [Option<f64>; 3] = [None, None, Some(0.85)];

fn main() -> Result<()> {
    let asked = arguments()?;
    let rounds = asked.rounds;
    ensure!(system::is_root(), "needs root, for network namespaces: run `sudo -E make bench-kernel`");
    system::stay_on(system::last_cpu())?;
    let mut measured = Vec::new();
    let mut skipped = Vec::new();
    for (name, way, limits) in asked.ways() {
        match (Case::new(&name, &way), &way) {
            (Ok(case), _) => measured.push((case, Row::new(&name, limits))),
            // Not every kernel has it, and it is only there for the contrast.
            (Err(error), Way::Queue) => {
                skipped.push(format!("{name}: not measured, this kernel has no queue: {error:#}"))
            }
            (Err(error), _) => return Err(error),
        }
    }
    let mut connections = 0.0;
    let workers = kernel_threads::workers();
    for round in 0..=rounds {
        for (case, row) in &mut measured {
            connections += opened(&asked.figure);
            measure(case, row, round, &asked.figure)?;
        }
    }
    for (case, row) in &mut measured {
        add_accounting(case, row, (rounds + 1) as f64 * opened(&asked.figure))?;
    }
    let workers =
        kernel_threads::workers().saturating_sub(workers).as_secs_f64() * 1e6 / connections.max(1.0);
    let note = format!(
        "later, in the kernel's workers: {workers:.2} us of CPU per tracked connection (all cases together)"
    );
    let applied = if "apply".contains(&asked.figure) { Some(apply::measure(9)?) } else { None };
    let rows: Vec<Row> = measured.into_iter().map(|(_, row)| row).collect();
    report::report(&rows, &skipped, applied.as_ref(), &[note])
}

/// What the command line asks for.
struct Asked {
    rounds: usize,
    only: String,
    figure: String,
    tables: Vec<String>,
}

impl Asked {
    fn ways(&self) -> Vec<(String, Way, [Option<f64>; 3])> {
        let all = ways().into_iter().map(|(name, way, limits)| (name.to_owned(), way, limits));
        let files = self.tables.iter().map(|file| (file.clone(), Way::File(file.clone()), [None; 3]));
        all.filter(|(name, ..)| name.contains(&self.only)).chain(files).collect()
    }
}

fn ways() -> Vec<(&'static str, Way, [Option<f64>; 3])> {
    let firewall = |peers, accounting| Way::Firewall { peers, accounting };
    vec![
        ("connection tracking alone", Way::Tracking, [None; 3]),
        ("Bulkhead, 10 peers", firewall(10, false), LIMITS),
        ("Bulkhead, 1,000 peers", firewall(1_000, false), LIMITS),
        ("Bulkhead, 10,000 peers", firewall(10_000, false), LIMITS),
        ("Bulkhead, 1,000 peers, accounted", firewall(1_000, true), ACCOUNTED),
        ("a rule per peer, 1,000 peers", Way::Linear { peers: 1_000 }, [None; 3]),
        ("a rule per peer, 10,000 peers", Way::Linear { peers: 10_000 }, [None; 3]),
        ("a program that copies", Way::Proxy, [None; 3]),
        ("a program asked per packet", Way::Queue, [None; 3]),
    ]
}

impl Row {
    fn new(name: &str, limits: [Option<f64>; 3]) -> Self {
        let [stream, request, connection, rate] = [(); 4].map(|()| Samples::default());
        Self { name: name.to_owned(), stream, request, connection, rate, limits }
    }
}

type Work = fn(&mut Side) -> Result<f64>;

/// One round of one case; the first does not count. Which side comes first alternates.
fn measure(case: &mut Case, row: &mut Row, round: usize, figure: &str) -> Result<()> {
    let works: [(&str, Work); 4] = [
        ("stream", |side| side.traffic.stream(STREAM_BYTES)),
        ("request", |side| side.traffic.request(REQUESTS)),
        ("connection", |side| side.traffic.open(&side.link, CONNECTIONS)),
        ("rate", |side| side.traffic.open_many(&side.link, CROWD)),
    ];
    let samples = [&mut row.stream, &mut row.request, &mut row.connection, &mut row.rate];
    for ((name, work), samples) in works.into_iter().zip(samples) {
        if !name.contains(figure) {
            continue;
        }
        let bare_first = round.is_multiple_of(2);
        let early = if bare_first { work(&mut case.bare)? } else { 0.0 };
        let behind = work(&mut case.behind).with_context(|| case.name.clone())?;
        let bare = if bare_first { early } else { work(&mut case.bare)? };
        if round > 0 {
            samples.push(behind, bare);
        }
    }
    Ok(())
}

/// Connections of one round behind one case.
fn opened(figure: &str) -> f64 {
    let counts = [("connection", CONNECTIONS), ("rate", CROWD)].into_iter();
    counts.filter(|(name, _)| name.contains(figure)).map(|(_, count)| f64::from(count)).sum()
}

/// What the threads that account did is told late, so it is shared out over all connections.
fn add_accounting(case: &Case, row: &mut Row, connections: f64) -> Result<()> {
    if connections > 0.0 {
        row.connection.add_behind(cases::seconds(&case.accounting)? * 1e6 / connections);
    }
    Ok(())
}

fn arguments() -> Result<Asked> {
    let mut asked = Asked { rounds: ROUNDS, only: String::new(), figure: String::new(), tables: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("`{word}` takes a value"));
        match word.as_str() {
            // What `cargo bench` adds.
            "--bench" => {}
            "--rounds" => asked.rounds = value()?.parse()?,
            "--only" => asked.only = value()?,
            "--figure" => asked.figure = value()?,
            "--table" => asked.tables.push(value()?),
            _ => bail!("`{word}` is not understood: --rounds N, --only CASE, --figure FIGURE, --table FILE"),
        }
    }
    ensure!(asked.rounds >= 1, "no round to measure");
    Ok(asked)
}

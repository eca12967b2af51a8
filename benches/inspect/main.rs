//! What inspection costs, beside proxies of others in the same run.
//!
//! Each contender stands in a network namespace of its own with an origin of its own; clients reach it as they would reach
//! the origin, and its connections are captured ([`ground`], [`contenders`], [`settings`]). For each workload ([`load`])
//! all contenders take turns, round after round; what decides is the time on a processor for each request ([`cost`]).
//! Needs root, nginx, haproxy, wrk, h2load and Envoy: `make bench-peers` brings them.
//!
//! It ends with 0 whatever the figures are, and prints `missed` beside those that are; with 1 if it could not measure.

mod contenders;
mod cost;
mod ground;
mod load;
mod memory;
mod options;
mod peers;
mod program;
mod settings;
mod table;

use anyhow::{Context, Result};
use contenders::Contender;
use cost::{Spread, memory_kib};
use ground::Ground;
use load::{Outcome, Workload};
use options::{Options, Placement};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use table::Row;

/// A run before those that count, so that connections, files and code are warm.
const WARM_UP: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == "peer" => peers::run(rest),
        Some((first, rest)) if first == "idle" => memory::hold(rest),
        _ => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("not measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let options = Options::read(arguments, &root)?;
    let work = root.join(format!("target/bench/inspect-{}", std::process::id()));
    let measured = measure(&options, &root.join("target/bench"), &work);
    let _ = std::fs::remove_dir_all(&work);
    measured
}

fn measure(options: &Options, results: &Path, work: &Path) -> Result<()> {
    load::write_files(work)?;
    let ground = Ground::new(options.contenders.len())?;
    if options.memory {
        measure_memory(options, &ground, results, work)?;
    }
    if options.workloads.is_empty() {
        return table::summarise(results);
    }
    let contenders = start(options, &ground, work)?;
    for placement in &options.placements {
        for workload in &options.workloads {
            let takes_part = |contender: &&Contender| contender.kind.takes_part(*workload);
            let contenders: Vec<&Contender> = contenders.iter().filter(takes_part).collect();
            let rows = compare(*workload, *placement, &contenders, options, &ground, work)?;
            table::report(results, *workload, *placement, &rows)?;
        }
    }
    table::summarise(results)
}

fn start(options: &Options, ground: &Ground, work: &Path) -> Result<Vec<Contender>> {
    let kinds = options.contenders.iter().enumerate();
    kinds.map(|(at, kind)| Contender::start(*kind, at, ground, &options.programs, work)).collect()
}

/// Each on its own, newly started.
fn measure_memory(options: &Options, ground: &Ground, results: &Path, work: &Path) -> Result<()> {
    let mut rows = Vec::new();
    for (at, kind) in options.contenders.iter().enumerate().filter(|(_, kind)| kind.is_measured_alone()) {
        let contender = Contender::start(*kind, at, ground, &options.programs, work)?;
        let memory =
            memory::measure(&contender, ground).with_context(|| format!("memory of {}", kind.name()))?;
        rows.extend(memory.map(|memory| (*kind, memory)));
    }
    table::report_memory(results, &rows)
}

/// One workload, all contenders in turn, round after round.
fn compare(
    workload: Workload,
    placement: Placement,
    contenders: &[&Contender],
    options: &Options,
    ground: &Ground,
    work: &Path,
) -> Result<Vec<Row>> {
    let (proxy_core, other_core) = placement.cores();
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    let time = options.time(placement);
    for contender in contenders {
        contender.place(proxy_core, other_core)?;
    }
    for round in 0..=options.rounds {
        let time = if round == 0 { WARM_UP } else { time };
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            let sample = Sample::take(workload, contender, ground, other_core, time, work)
                .with_context(|| format!("{} of {}", workload.name(), contender.kind.name()))?;
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    contenders.iter().zip(&samples).map(|(contender, samples)| row(contender, samples)).collect()
}

/// One run of one workload through one contender.
struct Sample {
    seconds: f64,
    processor_seconds: f64,
    outcome: Outcome,
}

impl Sample {
    fn take(
        workload: Workload,
        contender: &Contender,
        ground: &Ground,
        core: usize,
        time: Duration,
        work: &Path,
    ) -> Result<Self> {
        let (started, before) = (Instant::now(), contender.processor_seconds()?);
        let outcome = workload.run(ground, contender.at, core, time, work)?;
        let processor_seconds = contender.processor_seconds()? - before;
        Ok(Self { seconds: started.elapsed().as_secs_f64(), processor_seconds, outcome })
    }
}

fn row(contender: &Contender, samples: &[Sample]) -> Result<Row> {
    let spread = |figure: &dyn Fn(&Sample) -> f64| Spread::of(samples.iter().map(figure).collect());
    let requests = |sample: &Sample| sample.outcome.requests as f64;
    let memory_kib = contender.process().map_or(Ok(0), memory_kib)?;
    Ok(Row {
        kind: contender.kind,
        cost: spread(&|sample| sample.processor_seconds * 1e6 / requests(sample)),
        p50_us: spread(&|sample| sample.outcome.p50_us),
        p99_us: spread(&|sample| sample.outcome.p99_us),
        rate: spread(&|sample| requests(sample) / sample.seconds),
        memory_mib: memory_kib as f64 / 1024.0,
    })
}

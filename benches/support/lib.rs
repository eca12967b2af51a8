//! What the benchmarks share: interleaved rounds, medians with ranges, a table on screen and as JSON.
//!
//! Machines are shared and noisy, so nothing is measured alone: all rows of a table run in turn, round after
//! round, and what is compared is their ratio within one run. The table goes to standard output and to
//! `target/bench/NAME.json`.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

mod instructions;

pub use instructions::{collected, counted, instructions_per_iteration, run_one};

/// One thing to measure: a name and a closure that does the work `iterations` times.
pub struct Case<'a> {
    name: String,
    iterations: u64,
    work: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Case<'a> {
    /// A case whose closure is called once per iteration, its result kept from being optimised away.
    pub fn new<T>(name: impl Into<String>, iterations: u64, mut work: impl FnMut(u64) -> T + 'a) -> Self {
        let work = move |count: u64| {
            for round in 0..count {
                black_box(work(black_box(round)));
            }
        };
        Self { name: name.into(), iterations, work: Box::new(work) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Nanoseconds per iteration of one case over all rounds.
#[derive(Clone, Debug)]
pub struct Row {
    /// The case.
    pub name: String,
    /// Least of all rounds.
    pub least_ns: f64,
    /// Median of all rounds.
    pub median_ns: f64,
    /// Most of all rounds.
    pub most_ns: f64,
}

/// Runs all cases in turn, `rounds` times, after one round that does not count.
///
/// # Panics
/// If there is no round or a case has no iteration.
pub fn measure(mut cases: Vec<Case<'_>>, rounds: usize) -> Vec<Row> {
    assert!(rounds > 0, "no rounds");
    let mut samples = vec![Vec::with_capacity(rounds); cases.len()];
    for round in 0..=rounds {
        for (case, samples) in cases.iter_mut().zip(&mut samples) {
            let per_iteration = once(case);
            if round > 0 {
                samples.push(per_iteration);
            }
        }
    }
    cases.iter().zip(samples).map(|(case, samples)| row(&case.name, samples)).collect()
}

fn once(case: &mut Case<'_>) -> f64 {
    assert!(case.iterations > 0, "no iterations");
    let start = Instant::now();
    (case.work)(case.iterations);
    start.elapsed().as_secs_f64() * 1e9 / case.iterations as f64
}

fn row(name: &str, mut samples: Vec<f64>) -> Row {
    samples.sort_by(f64::total_cmp);
    Row {
        name: name.to_owned(),
        least_ns: samples[0],
        median_ns: samples[samples.len() / 2],
        most_ns: samples[samples.len() - 1],
    }
}

/// Prints the rows and the derived figures, and writes both to `target/bench/NAME.json`.
///
/// # Panics
/// If the file cannot be written.
pub fn report(name: &str, rows: &[Row], figures: &[(&str, f64)]) {
    if rows.is_empty() {
        println!("{name}");
    } else {
        println!("{:<44} {:>12} {:>12} {:>12}", name, "median ns", "least", "most");
    }
    for row in rows {
        println!("{:<44} {:>12.1} {:>12.1} {:>12.1}", row.name, row.median_ns, row.least_ns, row.most_ns);
    }
    for (figure, value) in figures {
        println!("{figure:<44} {value:>12.2}");
    }
    let rows: Vec<_> = rows.iter().map(|r| serde_json::json!({"name": r.name, "median_ns": r.median_ns, "least_ns": r.least_ns, "most_ns": r.most_ns})).collect();
    let figures: serde_json::Map<_, _> =
        figures.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    let document = serde_json::json!({"benchmark": name, "rows": rows, "figures": figures});
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder).expect("target/bench can be made");
    let text = serde_json::to_string_pretty(&document).expect("plain values");
    std::fs::write(folder.join(format!("{name}.json")), text + "\n").expect("the table can be written");
}

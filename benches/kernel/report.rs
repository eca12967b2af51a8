//! The table on standard output and as JSON in `target/bench/kernel.json`.

use crate::apply::{Applied, ENTRIES, Took};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Ratios of one case to nothing, round by round, with the absolute figures of both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    pairs: Vec<[f64; 2]>,
}

/// A case's figures.
pub(crate) struct Row {
    pub(crate) name: String,
    /// CPU seconds per GB of a stream.
    pub(crate) stream: Samples,
    /// Microseconds to an answer.
    pub(crate) request: Samples,
    /// CPU microseconds per new connection.
    pub(crate) connection: Samples,
    /// New connections per second.
    pub(crate) rate: Samples,
    /// What may be reached: of stream, request and rate.
    pub(crate) limits: [Option<f64>; 3],
}

impl Samples {
    /// One round: what was measured behind the case, and behind nothing.
    pub(crate) fn push(&mut self, behind: f64, bare: f64) {
        self.pairs.push([behind, bare]);
    }

    /// The median of the rounds' own ratios.
    pub(crate) fn ratio(&self) -> f64 {
        median(self.pairs.iter().map(|[behind, bare]| behind / bare))
    }

    /// The median of what was measured behind the case.
    pub(crate) fn behind(&self) -> f64 {
        median(self.pairs.iter().map(|[behind, _]| *behind))
    }

    /// Half of the rounds' ratios lie between these two.
    fn quartiles(&self) -> [f64; 2] {
        let mut ratios: Vec<f64> = self.pairs.iter().map(|[behind, bare]| behind / bare).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |place: usize| ratios.get(place).copied().unwrap_or(f64::NAN);
        [at(ratios.len() / 4), at(ratios.len() * 3 / 4)]
    }

    /// Adds to each round what is done for the case at another time.
    pub(crate) fn add_behind(&mut self, amount: f64) {
        self.pairs.iter_mut().for_each(|[behind, _]| *behind += amount);
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Limits of applying, in milliseconds.
const WHOLE_MS_MAX: f64 = 60.0;

/// Prints everything and writes the file.
pub(crate) fn report(
    rows: &[Row],
    skipped: &[String],
    applied: Option<&Applied>,
    notes: &[String],
) -> Result<()> {
    let mut cases = Vec::new();
    let heads =
        ["CPU s/GB", "p50 us", "CPU us/conn", "conn/s"].map(|head| format!("{head:>11} {:>20}", "ratio"));
    println!("{:<34} {}", "", heads.join(" "));
    for row in rows {
        let cells = [
            (&row.stream, row.limits[0], true),
            (&row.request, row.limits[1], true),
            (&row.connection, None, true),
            (&row.rate, row.limits[2], false),
        ];
        let text = cells.map(|(samples, limit, most)| {
            format!("{:>11.3} {:>20}", samples.behind(), verdict(samples.ratio(), limit, most))
        });
        println!("{:<34} {}", row.name, text.join(" "));
        cases.push(json!({
            "name": row.name,
            "stream_cpu_s_per_gb": figure(&row.stream, row.limits[0]),
            "request_p50_us": figure(&row.request, row.limits[1]),
            "connection_cpu_us": figure(&row.connection, None),
            "connections_per_s": figure(&row.rate, row.limits[2]),
        }));
    }
    skipped.iter().for_each(|line| println!("{line}"));
    let applied = applied.map(print_applied);
    notes.iter().for_each(|note| println!("{note}"));
    write(&json!({
        "benchmark": "kernel",
        "rounds": rows.first().map(|row| row.request.pairs.len()),
        "cases": cases,
        "not_measured": skipped,
        "apply": applied,
        "notes": notes,
    }))
}

fn print_applied(applied: &Applied) -> Value {
    println!("\n{:<34} {:>10} {:>10} {:>10}", "until the kernel enforces it", "ms", "user", "kernel");
    let line = |name: &str, took: Took, note: String| {
        println!("{name:<34} {:>10.2} {:>10.2} {:>10.2} {note}", took.all, took.user, took.system);
    };
    let whole = verdict(applied.whole.all, Some(WHOLE_MS_MAX), true);
    line(&format!("another program of {ENTRIES} entries"), applied.whole, whole);
    line("one pod more", applied.pod_comes, format!("{} transactions", applied.transactions));
    line("one pod less", applied.pod_goes, String::new());
    let took = |took: Took| json!({"ms": took.all, "user_ms": took.user, "kernel_ms": took.system});
    json!({
        "entries": ENTRIES,
        "whole": took(applied.whole),
        "limit_ms": WHOLE_MS_MAX,
        "pod_comes": took(applied.pod_comes),
        "pod_goes": took(applied.pod_goes),
    })
}

/// The figure with its limit, and whether it was met.
fn verdict(value: f64, limit: Option<f64>, most: bool) -> String {
    if value.is_nan() {
        return "not asked for".to_owned();
    }
    let Some(limit) = limit else { return format!("{value:.3}") };
    let met = if most { value <= limit } else { value >= limit };
    let sign = if most { "<=" } else { ">=" };
    format!("{value:.3} {sign} {limit:.2} {}", if met { "met" } else { "MISSED" })
}

fn figure(samples: &Samples, limit: Option<f64>) -> Value {
    let [low, high] = samples.quartiles();
    json!({
        "value": samples.behind(),
        "ratio": samples.ratio(),
        "half_between": [low, high],
        "limit": limit,
    })
}

fn write(document: &Value) -> Result<()> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("kernel.json"), serde_json::to_string_pretty(document)? + "\n")?;
    Ok(())
}

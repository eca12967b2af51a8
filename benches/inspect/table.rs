//! The figures as people and programs read them, with the limits that they must hold beside them.

use super::contenders::Kind;
use super::cost::Spread;
use super::load::Workload;
use super::memory::Memory;
use super::options::Placement;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// What one contender needed for one workload.
pub(crate) struct Row {
    /// Who.
    pub(crate) kind: Kind,
    /// Seconds on a processor for a million requests.
    pub(crate) cost: Spread,
    /// Half of the requests were answered within so many microseconds.
    pub(crate) p50_us: Spread,
    /// 99 of 100 were.
    pub(crate) p99_us: Spread,
    /// Requests in a second.
    pub(crate) rate: Spread,
    /// Resident memory after the runs, in MiB.
    pub(crate) memory_mib: f64,
}

/// At most so many times the cost of another contender, in the one-core pass.
struct Limit {
    workload: Workload,
    to: Kind,
    ratio: f64,
}

const LIMITS: [Limit; 9] = [
    Limit { workload: Workload::Http1, to: Kind::Envoy, ratio: 0.14 },
    Limit { workload: Workload::Http2, to: Kind::Envoy, ratio: 0.14 },
    Limit { workload: Workload::Grpc, to: Kind::Envoy, ratio: 0.10 },
    Limit { workload: Workload::Body100k, to: Kind::Envoy, ratio: 0.35 },
    Limit { workload: Workload::Body1m, to: Kind::Envoy, ratio: 0.35 },
    Limit { workload: Workload::Http1, to: Kind::Nginx, ratio: 0.75 },
    Limit { workload: Workload::Http1, to: Kind::Copy, ratio: 1.10 },
    Limit { workload: Workload::Connections, to: Kind::HaproxyAlone, ratio: 1.0 },
    Limit { workload: Workload::Connections, to: Kind::Haproxy, ratio: 1.0 },
];

const IDLE_MIB: f64 = 8.0;
const LOADED_MIB: f64 = 16.0;
const PER_HTTP1_KIB: f64 = 4.0;
const PER_HTTP2_KIB: f64 = 8.0;

/// Prints one workload in one placement, and keeps it as JSON.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn report(folder: &Path, workload: Workload, placement: Placement, rows: &[Row]) -> Result<()> {
    println!("\n{} ({})", workload.title(), placement.name());
    println!(
        "{:<12} {:>8} {:>17} {:>9} {:>9} {:>9} {:>17} {:>9} {:>7}",
        "", "cpu s/M", "range", "requests/s", "p50 us", "p99 us", "p50 range", "to ours", "MiB"
    );
    let ours = rows.iter().find(|row| row.kind == Kind::Bulkhead).map_or(f64::NAN, |row| row.cost.median);
    for row in rows {
        println!(
            "{:<12} {:>8.2} {:>17} {:>9.0} {:>9.0} {:>9.0} {:>17} {:>9.2} {:>7.1}",
            row.kind.name(),
            row.cost.median,
            range(row.cost, 2),
            row.rate.median,
            row.p50_us.median,
            row.p99_us.median,
            range(row.p50_us, 0),
            ours / row.cost.median,
            row.memory_mib,
        );
    }
    let verdicts = verdicts(workload, placement, rows);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    let name = format!("inspect-{}-{}.json", workload.name(), placement.name());
    let rows: Vec<_> = rows.iter().map(row_json).collect();
    let document = json!({"benchmark": "inspect", "workload": workload.name(), "placement": placement.name(),
        "rows": rows, "limits": verdicts});
    write(folder, &name, &document)
}

fn row_json(row: &Row) -> Value {
    let spread =
        |spread: Spread| json!({"median": spread.median, "least": spread.least, "most": spread.most});
    json!({"name": row.kind.name(), "cpu_seconds_per_million": spread(row.cost), "p50_us": spread(row.p50_us),
        "p99_us": spread(row.p99_us), "requests_per_second": spread(row.rate), "memory_mib": row.memory_mib})
}

fn range(spread: Spread, digits: usize) -> String {
    format!("{:.digits$}-{:.digits$}", spread.least, spread.most)
}

fn verdicts(workload: Workload, placement: Placement, rows: &[Row]) -> Vec<String> {
    let of = |kind: Kind| rows.iter().find(|row| row.kind == kind);
    let Some(ours) = of(Kind::Bulkhead) else { return Vec::new() };
    let mut verdicts = Vec::new();
    for limit in LIMITS.iter().filter(|limit| placement == Placement::OneCore && limit.workload == workload) {
        let Some(other) = of(limit.to) else { continue };
        let what = format!("cost to {}", limit.to.name());
        verdicts.push(verdict(&what, ours.cost.median / other.cost.median, limit.ratio));
    }
    let peers = rows.iter().filter(|row| !matches!(row.kind, Kind::Bulkhead | Kind::Direct | Kind::Copy));
    if let Some(best) = peers.min_by(|a, b| a.p50_us.median.total_cmp(&b.p50_us.median)) {
        verdicts.push(verdict(
            &format!("p50 to the range of {}", best.kind.name()),
            ours.p50_us.median,
            best.p50_us.most,
        ));
    }
    verdicts
}

fn verdict(what: &str, figure: f64, limit: f64) -> String {
    let held = if figure <= limit { "held" } else { "missed" };
    format!("{what}: {figure:.3}, at most {limit:.2}: {held}")
}

/// Prints resident memory, and keeps it as JSON.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn report_memory(folder: &Path, rows: &[(Kind, Memory)]) -> Result<()> {
    println!("\nresident memory");
    println!(
        "{:<12} {:>10} {:>22} {:>18} {:>18}",
        "", "idle MiB", "1,000 connections MiB", "KiB / idle HTTP/1", "KiB / idle HTTP/2"
    );
    for (kind, memory) in rows {
        println!(
            "{:<12} {:>10.1} {:>22.1} {:>18.2} {:>18.2}",
            kind.name(),
            memory.idle_mib,
            memory.loaded_mib,
            memory.per_http1_kib,
            memory.per_http2_kib
        );
    }
    let ours = rows.iter().find(|(kind, _)| *kind == Kind::Bulkhead);
    let verdicts = ours.map_or_else(Vec::new, |(_, memory)| {
        vec![
            verdict("idle, MiB", memory.idle_mib, IDLE_MIB),
            verdict("1,000 connections under load, MiB", memory.loaded_mib, LOADED_MIB),
            verdict("idle HTTP/1.1 connection, KiB", memory.per_http1_kib, PER_HTTP1_KIB),
            verdict("idle HTTP/2 connection, KiB", memory.per_http2_kib, PER_HTTP2_KIB),
        ]
    });
    for verdict in &verdicts {
        println!("{verdict}");
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|(kind, memory)| {
            json!({"name": kind.name(), "idle_mib": memory.idle_mib, "loaded_mib": memory.loaded_mib,
            "per_idle_http1_kib": memory.per_http1_kib, "per_idle_http2_kib": memory.per_http2_kib})
        })
        .collect();
    write(
        folder,
        "inspect-memory.json",
        &json!({"benchmark": "inspect-memory", "rows": rows, "limits": verdicts}),
    )
}

/// Writes what all runs have left in the folder as one page of tables, `inspect.md`, for the README.
///
/// # Errors
/// If a file cannot be read or written.
pub(crate) fn summarise(folder: &Path) -> Result<()> {
    let mut text = String::new();
    for placement in Placement::ALL {
        let _ = writeln!(
            text,
            "Processor seconds for a million requests, `{}`: median (range), p50 / p99 in microseconds.\n\n\
             | workload | {} |\n|---|{}",
            placement.name(),
            Kind::ALL.map(Kind::name).join(" | "),
            "---|".repeat(Kind::ALL.len())
        );
        for workload in Workload::ALL {
            let name = format!("inspect-{}-{}.json", workload.name(), placement.name());
            let Ok(document) = fs::read_to_string(folder.join(name)) else { continue };
            let document: Value = serde_json::from_str(&document)?;
            let cells = Kind::ALL.map(|kind| cell(&document, kind));
            let _ = writeln!(text, "| {} | {} |", workload.title(), cells.join(" | "));
        }
        text.push('\n');
    }
    text += "Limits, all of the pass `one-core` but the memory:\n\n";
    for name in Workload::ALL
        .map(|workload| format!("{}-one-core", workload.name()))
        .iter()
        .chain(&["memory".to_owned()])
    {
        let Ok(document) = fs::read_to_string(folder.join(format!("inspect-{name}.json"))) else { continue };
        let document: Value = serde_json::from_str(&document)?;
        for limit in document["limits"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = writeln!(text, "* {name}: {limit}");
        }
    }
    fs::write(folder.join("inspect.md"), text)?;
    Ok(())
}

fn cell(document: &Value, kind: Kind) -> String {
    let rows = document["rows"].as_array().into_iter().flatten();
    let Some(row) = rows.into_iter().find(|row| row["name"] == kind.name()) else { return "-".to_owned() };
    let number = |figure: &str, which: &str| row[figure][which].as_f64().unwrap_or(f64::NAN);
    let cost = |which: &str| number("cpu_seconds_per_million", which);
    let times = format!("{:.0} / {:.0}", number("p50_us", "median"), number("p99_us", "median"));
    match kind {
        Kind::Direct => times,
        _ => format!("{:.1} ({:.1}-{:.1}), {times}", cost("median"), cost("least"), cost("most")),
    }
}

fn write(folder: &Path, name: &str, document: &Value) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(name), serde_json::to_string_pretty(document)? + "\n")?;
    Ok(())
}

//! What a process costs: time on a processor and resident memory, as the kernel counts them.

use anyhow::{Context, Result};
use std::fs;

/// Seconds that all threads of a process have been on a processor, in user mode and in the kernel (its utime and stime,
/// in nanoseconds instead of clock ticks).
///
/// # Errors
/// If the process has ended.
pub(crate) fn processor_seconds(process: u32) -> Result<f64> {
    let mut nanoseconds = 0u64;
    for thread in fs::read_dir(format!("/proc/{process}/task")).context("the process has ended")? {
        let schedule = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = schedule.split_whitespace().next().context("a time")?;
        nanoseconds += first.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// Resident memory in KiB, pages of the binary included.
///
/// # Errors
/// If the process has ended.
pub(crate) fn memory_kib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the process has ended")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("a size")?;
    line.split_whitespace().nth(1).context("a number")?.parse().context("a number")
}

/// The middle of some figures, and the least and the most of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The most.
    pub(crate) most: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(figures.len() / 2), least: at(0), most: at(figures.len().saturating_sub(1)) }
    }
}

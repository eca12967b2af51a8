//! CPU time of the kernel's own threads: packets whose handling was deferred, and what is cleaned up later.

use crate::system;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// CPU time of the thread that handles deferred packets of the CPU on which everything is measured.
pub(crate) fn deferred() -> Result<Duration> {
    static THREADS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let threads = THREADS.get_or_init(|| named(&format!("ksoftirqd/{}", system::last_cpu())));
    threads.iter().map(|thread| time_of(thread)).sum()
}

/// The same of all CPUs.
pub(crate) fn deferred_anywhere() -> Result<Duration> {
    static THREADS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    THREADS.get_or_init(|| named("ksoftirqd/")).iter().map(|thread| time_of(thread)).sum()
}

/// CPU time of the kernel's workers, which forget ended connections among other things.
pub(crate) fn workers() -> Duration {
    // They come and go.
    named("kworker/").iter().filter_map(|thread| time_of(thread).ok()).sum()
}

fn named(prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let is = |folder: &PathBuf| {
        std::fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.starts_with(prefix))
    };
    entries.flatten().map(|entry| entry.path()).filter(is).collect()
}

fn time_of(folder: &Path) -> Result<Duration> {
    let text = std::fs::read_to_string(folder.join("schedstat")).context("the kernel tells no CPU time")?;
    let nanoseconds = text.split_whitespace().next().unwrap_or_default();
    Ok(Duration::from_nanos(nanoseconds.parse().context("the kernel's CPU time")?))
}

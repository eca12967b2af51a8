//! Names as the owner of the kernel's table keeps them: with the clock, and over a restart.
//!
//! What is known is written beside the last good program, at most twice a second, so that the next run of the sidecar admits
//! the same addresses before anybody asks again. A file that cannot be read is no error: names are then learned anew, and
//! what was open to their addresses ends with the next program.

use super::limits::NAMES_FILE_BYTES_MAX;
use super::names::{Held, Names};
use crate::clock;
use crate::enforcement::Answered;
use crate::firewall::NamedAddress;
use crate::policy::{Current, NamedClasses};
use bulkhead_facts::HostName;
use bulkhead_policies::decide::Judge;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Names with a place to keep them.
#[derive(Debug, Default)]
pub struct NameKeeper {
    names: Names,
    path: Option<PathBuf>,
    changed: bool,
    looked_ms: u64,
}

/// How often addresses whose time is over, and to which something is open, are looked at again.
const OPEN_INTERVAL_MS: u64 = 10_000;

impl NameKeeper {
    /// What an earlier run left in the state directory.
    pub fn within(state: &Path) -> Self {
        let path = state.join("names");
        let mut names = Names::default();
        match read(&path) {
            Ok(entries) => names.restore(entries.into_iter(), clock::unix_ms()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "addresses of names not known: learned anew"),
        }
        Self { names, path: Some(path), changed: false, looked_ms: 0 }
    }

    /// A name was answered; returns the addresses for which something changed.
    pub fn learn(&mut self, answered: &Answered) -> Vec<IpAddr> {
        let changed = self.names.learn(&answered.name, &answered.addresses, clock::unix_ms());
        self.changed |= !changed.is_empty();
        changed
    }

    /// What was learned last could not be made to hold.
    pub fn doubt(&mut self, answered: &Answered) {
        self.changed = true;
        self.names.doubt(&answered.name, &answered.addresses, clock::unix_ms());
    }

    /// True if some time is over, and was not looked at a moment ago.
    pub fn is_due(&self) -> bool {
        let now_ms = clock::unix_ms();
        let is_over = |after_ms| self.names.next_end(after_ms).is_some_and(|end_ms| end_ms <= now_ms);
        is_over(self.looked_ms) || now_ms >= self.looked_ms + OPEN_INTERVAL_MS && is_over(0)
    }

    /// Forgets what is over, but for addresses to which something is open; returns those that may have changed.
    pub fn expire(&mut self, open: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        self.looked_ms = clock::unix_ms();
        self.changed = true;
        self.names.expire(self.looked_ms, open)
    }

    /// What a program makes of everything that is known: for the sessions, and for the kernel.
    pub fn of_program(&self, judge: &Judge) -> (NamedClasses, Vec<NamedAddress>) {
        let classes = NamedClasses::default();
        let addresses: Vec<IpAddr> = self.names.addresses().collect();
        for address in &addresses {
            classes.set(*address, class(self.held(judge, *address)));
        }
        (classes, self.loaded(judge, &addresses))
    }

    /// What the kernel has to hold of these addresses.
    pub fn loaded(&self, judge: &Judge, addresses: &[IpAddr]) -> Vec<NamedAddress> {
        let (now, now_ms) = (Instant::now(), clock::unix_ms());
        let unique: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        let mut loaded = Vec::new();
        for address in unique {
            let Held { admitted, kept } = self.names.held(judge, address, now_ms);
            loaded.extend(admitted.map(|(class, until_ms)| NamedAddress {
                address,
                class,
                until: now + Duration::from_millis(until_ms.saturating_sub(now_ms)),
                only_open: false,
            }));
            // Looked at again before it would vanish.
            let until = now + Duration::from_millis(2 * OPEN_INTERVAL_MS);
            loaded.extend(kept.map(|class| NamedAddress { address, class, until, only_open: true }));
        }
        loaded
    }

    /// Tells the sessions of these addresses.
    pub fn publish(&self, current: &Current, addresses: &[IpAddr]) {
        for address in addresses {
            current.named.set(*address, class(self.held(&current.judge, *address)));
        }
    }

    fn held(&self, judge: &Judge, address: IpAddr) -> Held {
        self.names.held(judge, address, clock::unix_ms())
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True if none is.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// See [`Names::take_given_up`].
    pub fn take_given_up(&mut self) -> u64 {
        self.names.take_given_up()
    }

    /// Writes what is known, if it has changed.
    ///
    /// # Errors
    ///
    /// If the system refuses; what was written before stays.
    pub fn keep(&mut self) -> io::Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.changed) else { return Ok(()) };
        self.changed = false;
        write(path, &self.names)
    }
}

/// The class by which open connections are held: by all names.
fn class(held: Held) -> Option<bulkhead_policies::program::ClassId> {
    held.kept.or(held.admitted.map(|(class, _)| class))
}

/// One line for each name of each address: the address, the end of its time, the name.
fn write(path: &Path, names: &Names) -> io::Result<()> {
    let mut text = String::new();
    let most = usize::try_from(NAMES_FILE_BYTES_MAX).unwrap_or(usize::MAX);
    for (address, name, until_ms) in names.entries() {
        let line = format!("{address} {until_ms} {name}\n");
        if text.len() + line.len() > most {
            break;
        }
        text.push_str(&line);
    }
    let new = path.with_extension("new");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&new)?.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

fn read(path: &Path) -> io::Result<Vec<(IpAddr, HostName, u64)>> {
    let mut text = String::new();
    let read = File::open(path)?.take(NAMES_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > NAMES_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file of names is too large"));
    }
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let address = words.next()?.parse().ok()?;
        let until_ms = words.next()?.parse().ok()?;
        let name = HostName::parse(words.next()?).ok()?;
        words.next().is_none().then_some((address, name, until_ms))
    };
    let entries = text.lines().map(|line| entry(line).ok_or(io::ErrorKind::InvalidData.into()));
    entries.collect()
}

//! What is asked for on the command line.

use super::contenders::{Kind, Programs};
use super::load::Workload;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags, and what each does.
pub(crate) const USAGE: &str = "\
flags: --workload NAMES     http1,http2,grpc,body-100k,body-1m,connections,memory; all if absent
       --placement NAMES    one-core,own-core; both if absent
       --contenders NAMES   direct,copy,bulkhead,nginx,haproxy,haproxy-1:1,hyper,envoy,envoy-log; all if absent
       --rounds NUMBER      interleaved rounds, at least 1 [default: 3]
       --seconds NUMBER     time of each run [default: 2 for one-core, 1 for own-core]
       --bulkhead FILE      the sidecar's binary [default: target/release/bulkhead-proxy]
       --envoy FILE         Envoy's binary [default: target/peers/envoy]";

/// Who shares a core with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Load, proxy and origin on core 1: no wake-ups between cores, so the steady figure on shared machines.
    OneCore,
    /// The proxy on core 1, load and origin on core 0.
    OwnCore,
}

impl Placement {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::OneCore, Self::OwnCore];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneCore => "one-core",
            Self::OwnCore => "own-core",
        }
    }

    /// The core of the proxy, and that of load and origin.
    pub(crate) fn cores(self) -> (usize, usize) {
        match self {
            Self::OneCore => (1, 1),
            Self::OwnCore => (1, 0),
        }
    }
}

/// What to measure.
pub(crate) struct Options {
    /// Kinds of traffic.
    pub(crate) workloads: Vec<Workload>,
    /// Resident memory too.
    pub(crate) memory: bool,
    /// Who shares cores.
    pub(crate) placements: Vec<Placement>,
    /// Who is measured.
    pub(crate) contenders: Vec<Kind>,
    /// How often each.
    pub(crate) rounds: usize,
    /// How long each time, if said.
    pub(crate) time: Option<Duration>,
    /// Where the programs are.
    pub(crate) programs: Programs,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// For the first that is not understood.
    pub(crate) fn read(arguments: &[String], root: &Path) -> Result<Self> {
        let mut options = Self {
            workloads: Workload::ALL.to_vec(),
            memory: true,
            placements: Placement::ALL.to_vec(),
            contenders: Kind::ALL.to_vec(),
            rounds: 3,
            time: None,
            programs: Programs {
                bulkhead: root.join("target/release/bulkhead-proxy"),
                envoy: root.join("target/peers/envoy"),
            },
        };
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(flag) = arguments.next() {
            let value = arguments.next().with_context(|| format!("`{flag}` without a value\n{USAGE}"))?;
            options.set(flag, value)?;
        }
        Ok(options)
    }

    /// How long each run takes.
    pub(crate) fn time(&self, placement: Placement) -> Duration {
        let usual = match placement {
            Placement::OneCore => 2,
            Placement::OwnCore => 1,
        };
        self.time.unwrap_or(Duration::from_secs(usual))
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<()> {
        match flag {
            "--workload" => {
                self.memory = value.split(',').any(|name| name == "memory");
                let rest: Vec<&str> = value.split(',').filter(|name| *name != "memory").collect();
                self.workloads = named(&rest.join(","), &Workload::ALL, Workload::name)?;
            }
            "--placement" => self.placements = named(value, &Placement::ALL, Placement::name)?,
            "--contenders" => self.contenders = named(value, &Kind::ALL, Kind::name)?,
            "--rounds" => self.rounds = value.parse::<usize>()?.max(1),
            "--seconds" => self.time = Some(Duration::from_secs(value.parse::<u64>()?.max(1))),
            "--bulkhead" => self.programs.bulkhead = PathBuf::from(value),
            "--envoy" => self.programs.envoy = PathBuf::from(value),
            _ => bail!("unknown flag `{flag}`\n{USAGE}"),
        }
        Ok(())
    }
}

fn named<T: Copy>(list: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<Vec<T>> {
    let one = |wanted: &str| {
        all.iter()
            .copied()
            .find(|one| name(*one) == wanted)
            .with_context(|| format!("unknown `{wanted}`\n{USAGE}"))
    };
    list.split(',').filter(|wanted| !wanted.is_empty()).map(one).collect()
}

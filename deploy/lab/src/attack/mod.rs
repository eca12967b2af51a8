//! Attacks: what a hostile program in a pod can try, one kind at a time, and how its arrival is told from all else.
//!
//! `lab-attack` makes exactly one attack of the catalogue and prints what it announced. It never says whether it
//! succeeded: that is what canaries are for (`canary`), and [`arrival::match_arrivals`] brings the two together. [`run`]
//! makes them all in a running lab.
//! Every attack ends within about a second and a half, also when everything it sends is dropped.
//!
//! Reading order: [`catalogue`] (what there is), [`targets`] (what it aims at), [`token`] (how it is recognised),
//! then `web`, `stream`, `datagram` and `raw` (how it is done).

pub mod arrival;
mod attempt;
mod campaign;
pub mod catalogue;
mod datagram;
pub mod packet;
mod raw;
mod session;
mod stream;
mod survey;
pub(crate) mod system;
pub mod targets;
pub mod token;
mod web;
mod xdp;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

pub use attempt::{Announced, Attempted};
pub use campaign::run;
pub use catalogue::{ALLOWED, KINDS, Kind, KnownBy, Needs};
use targets::{Family, Targets};
use token::Token;

/// Runs `lab-attack` with the arguments that follow its name; returns the exit code of the process.
pub fn main(arguments: &[String]) -> ExitCode {
    let named = std::iter::once("lab-attack".to_owned()).chain(arguments.iter().cloned());
    let arguments = match Arguments::try_parse_from(named) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match one(&arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// With what rights an attack is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Rights {
    /// Those of this process.
    Unchanged,
    /// As an ordinary program: no capability, not root where another user exists.
    App,
    /// An ordinary program with CAP_NET_RAW.
    NetRaw,
    /// Root of a container: CAP_SETUID, CAP_SETGID and CAP_NET_BIND_SERVICE.
    Root,
    /// Root of a container with CAP_NET_RAW, as container runtimes start it by default.
    RootNetRaw,
    /// Exactly what the kind needs.
    Needed,
}

/// What the attack runner is told.
#[derive(Parser)]
#[command(name = "lab-attack", about = "Makes one attack of the lab's catalogue")]
struct Arguments {
    /// Print the catalogue as JSON instead
    #[arg(long, exclusive = true)]
    list: bool,
    /// The kind of attack
    #[arg(long, required_unless_present = "list")]
    kind: Option<String>,
    /// 4 or 6
    #[arg(long, value_parser = clap::value_parser!(u8).range(4..=6), required_unless_present = "list")]
    family: Option<u8>,
    /// What it carries: `bh-` and sixteen hexadecimal digits
    #[arg(long, required_unless_present = "list")]
    token: Option<Token>,
    /// What it aims at: a JSON file, or the JSON text itself
    #[arg(long, required_unless_present = "list")]
    targets: Option<String>,
    /// With what rights it is made; rights that this process lacks are not gained
    #[arg(long = "as", value_enum, default_value = "unchanged")]
    rights: Rights,
    /// The user that an attack with the rights of an app runs as
    #[arg(long, default_value_t = 65_534)]
    uid: u32,
}

fn one(arguments: &Arguments) -> anyhow::Result<String> {
    if arguments.list {
        return Ok(serde_json::to_string(&[KINDS, ALLOWED].concat())?);
    }
    let (Some(name), Some(digit), Some(token), Some(file)) =
        (&arguments.kind, arguments.family, arguments.token, &arguments.targets)
    else {
        anyhow::bail!("an attack needs --kind, --family, --token and --targets");
    };
    let kind =
        Kind::named(name).with_context(|| format!("no kind of attack is named `{name}`: see --list"))?;
    let family = Family::of_digit(digit).with_context(|| format!("`{digit}` is no family: write 4 or 6"))?;
    let targets = read_targets(file)?;
    arguments.rights.take(kind.needs, arguments.uid).context("cannot give up privileges")?;
    Ok(serde_json::to_string(&make(kind, family, token, &targets))?)
}

fn read_targets(given: &str) -> anyhow::Result<Targets> {
    if given.starts_with('{') {
        return serde_json::from_str(given).context("in the targets that were given");
    }
    let text = std::fs::read_to_string(given).with_context(|| format!("cannot read `{given}`"))?;
    serde_json::from_str(&text).with_context(|| format!("in `{given}`"))
}

/// Makes one attack with the rights of the calling thread; blocks for at most about a second and a half.
pub fn make(kind: &Kind, family: Family, token: Token, targets: &Targets) -> Attempted {
    let mut attempt = attempt::Attempt::new(family, token, targets);
    let made = if kind.exists_in(family) {
        (kind.make)(&mut attempt)
    } else {
        Err(attempt::NotMade::NoTarget("such family"))
    };
    attempt.finish(kind.name, made)
}

impl Rights {
    /// Gives up, in the calling thread and for good, what these rights do not hold.
    ///
    /// # Errors
    /// The kernel refused: nothing may be attempted then.
    pub fn take(self, needs: Needs, uid: u32) -> std::io::Result<()> {
        let root = [system::CAP_SETUID, system::CAP_SETGID, system::CAP_NET_BIND_SERVICE];
        let [setuid, setgid, bind] = root;
        match self {
            Self::Unchanged => Ok(()),
            Self::App => system::give_up(&[], Some(uid)),
            Self::NetRaw => system::give_up(&[system::CAP_NET_RAW], Some(uid)),
            Self::Root => system::give_up(&root, None),
            Self::RootNetRaw => system::give_up(&[setuid, setgid, bind, system::CAP_NET_RAW], None),
            Self::Needed => match needs {
                Needs::App => Self::App.take(needs, uid),
                Needs::NetRaw => Self::NetRaw.take(needs, uid),
                Needs::SetUid => Self::Root.take(needs, uid),
                Needs::NetRawAndSetUid => Self::RootNetRaw.take(needs, uid),
            },
        }
    }
}

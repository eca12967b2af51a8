//! Canaries: what reached a place, said by the place itself.
//!
//! A canary runs in the network namespace of a possible target. Its raw sockets, one for each protocol and family, are
//! fed behind the input hook: they see exactly what the place's firewall let in, whether or not a program listens. Its
//! listeners accept what a sidecar would forward. At places without a firewall packet sockets see what no raw socket
//! does. Only arrivals that carry a token or come from an attack's port are reported; the rest of the traffic is not
//! its concern.
//!
//! One JSON line for each arrival (`attack::arrival::Arrival`), `ready` first, `lost` whenever the kernel had to
//! drop packets before the canary read them: a trial with losses proves nothing.

mod listen;
mod packet;
mod raw;
mod seen;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tokio::sync::mpsc;

use crate::attack::arrival::Arrival;
use crate::attack::token::Token;
use crate::limits;

/// Runs `lab-canary` with the arguments that follow its name, until the process is killed.
pub fn main(arguments: &[String]) -> ExitCode {
    let named = std::iter::once("lab-canary".to_owned()).chain(arguments.iter().cloned());
    let options = match Options::try_parse_from(named) {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let watched = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            let mut canary = Canary::open(&options)?;
            say(&json!({"event": "ready"}));
            while let Some(event) = canary.next().await {
                say(&event.line());
            }
            Ok(())
        })
    });
    match watched {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the canary cannot watch: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a canary watches.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "lab-canary", about = "Reports what of an attack reached this network namespace")]
pub struct Options {
    /// TCP ports to accept on, both families; a port that is taken is left to its program
    #[arg(long, value_delimiter = ',')]
    pub listen_tcp: Vec<u16>,
    /// UDP ports to hold open, both families; a port that is taken is left to its program
    #[arg(long, value_delimiter = ',')]
    pub listen_udp: Vec<u16>,
    /// Watch every interface by packet sockets too: only for places without a firewall
    #[arg(long)]
    pub packets: bool,
    /// Watch what goes to the link itself: multicast groups that attacks send to, address resolution
    #[arg(long)]
    pub join: bool,
}

/// What a canary has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something arrived.
    Arrived(Arrival),
    /// So many packets in all were dropped by the kernel unread.
    Lost(u64),
    /// A port could not be listened on, because a program of the place does.
    Taken(u16),
}

/// A canary that watches; dropped, it stops.
pub struct Canary {
    events: mpsc::Receiver<Event>,
    reported: BTreeSet<Key>,
}

type Key = (Option<Token>, u8, IpAddr, u16, u16);

impl Canary {
    /// Opens every socket in the network namespace of the calling thread; call inside a tokio runtime whose tasks
    /// run on this thread.
    ///
    /// # Errors
    /// Raw sockets could not be opened (CAP_NET_RAW), or no packet socket where one was asked for.
    pub fn open(options: &Options) -> io::Result<Self> {
        let (to, events) = mpsc::channel(limits::CANARY_EVENTS);
        raw::watch(&to)?;
        if options.packets {
            packet::watch(&to)?;
        }
        if options.join {
            packet::watch_address_resolution(&to)?;
        }
        listen::watch(options, &to)?;
        raw::watch_losses(to);
        Ok(Self { events, reported: BTreeSet::new() })
    }

    /// The next thing to say, each arrival once; `None` when nothing watches any more.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.events.recv().await?;
            if let Event::Arrived(arrival) = &event {
                if self.reported.len() >= limits::CANARY_REMEMBERED {
                    self.reported.clear();
                }
                let Arrival { token, protocol, source, source_port, destination_port, .. } = *arrival;
                if !self.reported.insert((token, protocol, source, source_port, destination_port)) {
                    continue;
                }
            }
            return Some(event);
        }
    }

    /// The next thing to say within `patience`.
    pub async fn next_within(&mut self, patience: Duration) -> Option<Event> {
        tokio::time::timeout(patience, self.next()).await.ok().flatten()
    }
}

impl Event {
    fn line(&self) -> serde_json::Value {
        match self {
            Self::Arrived(arrival) => json!({"event": "arrival", "arrival": arrival}),
            Self::Lost(packets) => json!({"event": "lost", "packets": packets}),
            Self::Taken(port) => json!({"event": "taken", "port": port}),
        }
    }

    /// The event of a line that a canary wrote; `None` for `ready` and for lines that are none.
    pub fn of_line(line: &str) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        match value.get("event")?.as_str()? {
            "arrival" => serde_json::from_value(value.get("arrival")?.clone()).ok().map(Self::Arrived),
            "lost" => value.get("packets")?.as_u64().map(Self::Lost),
            "taken" => value.get("port")?.as_u64().and_then(|port| u16::try_from(port).ok()).map(Self::Taken),
            _ => None,
        }
    }
}

fn say(line: &serde_json::Value) {
    use std::io::Write;
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::arrival::Via;

    #[test]
    fn an_event_reads_as_it_was_written() {
        let arrival = Arrival {
            token: Some(Token::new(1, 2)),
            protocol: 6,
            source: [10, 0, 0, 1].into(),
            source_port: 61_000,
            destination: None,
            destination_port: 80,
            bytes: 60,
            via: Via::Raw,
        };
        for event in [Event::Arrived(arrival), Event::Lost(3), Event::Taken(80)] {
            assert_eq!(Event::of_line(&event.line().to_string()), Some(event));
        }
        assert_eq!(Event::of_line(r#"{"event":"ready"}"#), None);
        assert_eq!(Event::of_line("no line of ours"), None);
    }
}

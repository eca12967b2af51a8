//! Probes without pause while a sidecar starts, is killed and comes back: not one may pass.
//!
//! Only the attacker's pod has a firewall; the place it probes has none and reports all that comes. A sample of the
//! rounds runs with every test, all of them with `BULKHEAD_LONG=1`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bulkhead_lab::attack::targets::Family;
use bulkhead_lab::attack::token::Token;
use bulkhead_lab::attack::{Needs, Rights};
use bulkhead_lab::canary::Options;

use bulkhead_netfilter::{Connection, Table};
use bulkhead_proxy::firewall::TABLE_NAME;

use crate::ground::{Ground, STORE, Seen};
use crate::sidecars::Sidecar;
use crate::trial::able;

/// Probes of one start of a pod.
const PROBES_PER_START: u32 = 1000;

#[test]
fn nothing_passes_while_a_pod_starts() -> anyhow::Result<()> {
    let Some(()) = able() else { return Ok(()) };
    let rounds = rounds(5, 100);
    let mut ground = Ground::lay(true)?;
    watch(&ground)?;
    show_that_probes_arrive(&ground)?;
    for round in 0..rounds {
        let mut sidecar = Sidecar::init(&ground, "attacker")?;
        // From here on an app may run: the closed table stands.
        let prober = Prober::start(&ground, round + 1)?;
        sidecar.run(&ground)?;
        prober.finish_after(PROBES_PER_START)?;
        drop(sidecar);
        ground.renew_attacker()?;
    }
    expect_silence(&ground)?;
    println!("{rounds} starts with {PROBES_PER_START} probes each");
    Ok(())
}

#[test]
fn nothing_passes_while_a_sidecar_is_killed_again_and_again() -> anyhow::Result<()> {
    let Some(()) = able() else { return Ok(()) };
    let rounds = rounds(10, 200);
    let ground = Ground::lay(true)?;
    watch(&ground)?;
    show_that_probes_arrive(&ground)?;
    let mut sidecar = Sidecar::init(&ground, "attacker")?;
    let prober = Prober::start(&ground, 1)?;
    for round in 0..rounds {
        sidecar.start(&ground)?;
        // Moments spread over the whole of a start: 0 to 186 ms, in an order that repeats after 32 rounds.
        std::thread::sleep(Duration::from_millis(u64::from(round * 13 % 32) * 6));
        sidecar.kill()?;
        // And over the whole of an `init`: 0 to 31 ms.
        let mut init = sidecar.start_init(&ground)?;
        std::thread::sleep(Duration::from_millis(u64::from(round * 7 % 32)));
        init.kill()?;
        init.wait()?;
    }
    sidecar.run(&ground)?;
    prober.finish_after(PROBES_PER_START)?;
    expect_silence(&ground)?;
    println!("{rounds} kills of a sidecar, as many of its `init`");
    Ok(())
}

#[test]
fn an_init_that_is_killed_leaves_a_whole_table_or_none() -> anyhow::Result<()> {
    let Some(()) = able() else { return Ok(()) };
    let rounds = rounds(10, 200);
    let mut ground = Ground::lay(true)?;
    watch(&ground)?;
    show_that_probes_arrive(&ground)?;
    let mut whole = 0;
    for round in 0..rounds {
        let sidecar = Sidecar::prepare(&ground, "attacker")?;
        let mut init = sidecar.start_init(&ground)?;
        // 0 to 62 ms: before, within and after its one transaction.
        std::thread::sleep(Duration::from_millis(u64::from(round * 13 % 32) * 2));
        init.kill()?;
        init.wait()?;
        let found = ground.attacker.run(|| {
            let mut connection = Connection::open()?;
            let mut is_there = |table| connection.table_exists(&table);
            Ok::<_, anyhow::Error>([is_there(Table::inet(TABLE_NAME))?, is_there(Table::netdev(TABLE_NAME))?])
        })??;
        ensure!(found[0] == found[1], "half a table: {found:?}");
        if found[0] {
            whole += 1;
            ground.attacker.run(|| probe(Token::new(1, round)))?;
        }
        // A second `init`, as a kubelet starts it again, finds nothing in its way.
        sidecar.init_again(&ground)?;
        ground.attacker.run(|| probe(Token::new(2, round)))?;
        ground.renew_attacker()?;
    }
    expect_silence(&ground)?;
    println!("{rounds} kills of an `init`: {whole} left the whole table, {} none", rounds - whole);
    Ok(())
}

pub(crate) fn rounds(sample: u32, all: u32) -> u32 {
    if std::env::var_os("BULKHEAD_LONG").is_some() { all } else { sample }
}

/// Sends datagrams and opens connections in both families until it is told to end.
struct Prober {
    made: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
}

impl Prober {
    fn start(ground: &Ground, run: u32) -> anyhow::Result<Self> {
        let (made, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end) = (made.clone(), stop.clone());
        ground.attacker.run_aside(move || {
            if Rights::App.take(Needs::App, 65_534).is_err() {
                return;
            }
            while !end.load(Ordering::Relaxed) {
                probe(Token::new(run, counter.load(Ordering::Relaxed)));
                counter.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(Self { made, stop })
    }

    /// Waits until so many probes have been made in all, then ends it.
    fn finish_after(&self, probes: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.made.load(Ordering::Relaxed) < probes {
            ensure!(Instant::now() < deadline, "only {} probes were made", self.made.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One datagram and one connection in each family; what becomes of them is told by the place they go to.
pub(crate) fn probe(token: Token) {
    for family in [Family::V4, Family::V6] {
        let anywhere: IpAddr = if family == Family::V4 { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        if let Ok(socket) = UdpSocket::bind((anywhere, 0)) {
            let _ = socket.send_to(token.to_string().as_bytes(), (STORE.of(family), 9999));
        }
        let _ =
            TcpStream::connect_timeout(&SocketAddr::new(STORE.of(family), 5432), Duration::from_millis(50));
    }
}

/// Without a firewall probes arrive, by datagram and by connection, in both families. Each is short, so on a busy machine
/// one may end before it began; some of twenty do not.
pub(crate) fn show_that_probes_arrive(ground: &Ground) -> anyhow::Result<()> {
    let mut ways = BTreeSet::new();
    for number in 0..20 {
        ground.attacker.run(|| probe(Token::new(0, number)))?;
        let seen = ground.seen(|seen| ways_of(seen).len() == 4);
        ways = ways_of(&seen);
        if ways.len() == 4 {
            // What is still on its way belongs to these probes.
            ground.seen(|_| false);
            ground.forget();
            return Ok(());
        }
    }
    bail!("without a firewall probes arrived only by {ways:?}")
}

/// Protocols and families.
fn ways_of(seen: &[Seen]) -> BTreeSet<(u8, bool)> {
    seen.iter().map(|(_, arrival)| (arrival.protocol, arrival.source.is_ipv6())).collect()
}

pub(crate) fn expect_silence(ground: &Ground) -> anyhow::Result<()> {
    let seen = ground.seen(|_| false);
    ensure!(seen.is_empty(), "{} probes passed, the first: {:?}", seen.len(), seen.first());
    ensure!(ground.lost() == 0, "the canaries lost {} packets", ground.lost());
    Ok(())
}

pub(crate) fn watch(ground: &Ground) -> anyhow::Result<()> {
    ground.watch_at("store", Options { listen_tcp: vec![5432], listen_udp: vec![9999], ..Options::default() })
}

//! Where attacks are made: four places around a router, every cable routed, no bridge.
//!
//! The attacker may use `web` and nothing else; `store` is the pod it must not reach, with a service address besides;
//! `outside` is the world, the metadata address included; the router is the node. Nothing here knows of a firewall:
//! the same ground serves the control and the trial.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bulkhead_lab::attack::arrival::{Arrival, Matched, match_arrivals};
use bulkhead_lab::attack::targets::{Endpoint, Family, Link, Pair, Ports, Sidecar, Targets, Web};
use bulkhead_lab::attack::token::Token;
use bulkhead_lab::attack::{Attempted, Kind};
use bulkhead_lab::canary::{Canary, Event, Options};

use bulkhead_proxy::firewall::Marks;

use crate::namespaces::Space;

/// Ports on which a sidecar takes captured TCP.
const CAPTURE: [u16; 2] = [15_001, 15_006];
/// Its administrative port; within its own pod it may be asked for its health.
const ADMIN: u16 = 15_020;
/// Where a sidecar will take captured datagrams. Nothing of it listens there yet, and loopback within a pod is open, so
/// from their own pod they are hit in the control only.
const CAPTURE_UDP: [u16; 2] = [15_007, 15_053];
/// UID of the sidecar.
pub(crate) const SIDECAR_UID: u32 = 1337;
/// The node.
pub(crate) const NODE: Pair = pair(1);
const ATTACKER: Pair = pair(2);
/// The service that the attacker may use.
pub(crate) const WEB: Pair = pair(3);
/// The pod that the attacker must not reach.
pub(crate) const STORE: Pair = pair(4);
const SERVICE: Pair = pair(100);
const OUTSIDE: Pair =
    Pair { v4: Ipv4Addr::new(203, 0, 113, 9), v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9) };
const METADATA: Pair =
    Pair { v4: Ipv4Addr::new(169, 254, 169, 254), v6: Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) };

const fn pair(last: u8) -> Pair {
    Pair { v4: Ipv4Addr::new(10, 77, 0, last), v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last as u16) }
}

/// An arrival and the place where it was seen.
pub(crate) type Seen = (&'static str, Arrival);

/// The ground with its canaries.
pub(crate) struct Ground {
    pub(crate) attacker: Space,
    pub(crate) node: Space,
    pub(crate) web: Space,
    pub(crate) store: Space,
    pub(crate) outside: Space,
    guarded: bool,
    mark: AtomicU32,
    frame_mark: AtomicU32,
    seen: Arc<Mutex<Vec<Seen>>>,
    lost: Arc<Mutex<u64>>,
}

impl Ground {
    /// Lays every cable. No canary watches yet. `guarded` says whether there will be firewalls.
    pub(crate) fn lay(guarded: bool) -> anyhow::Result<Self> {
        let ground = Self {
            attacker: Space::new()?,
            node: Space::new()?,
            web: Space::new()?,
            store: Space::new()?,
            outside: Space::new()?,
            guarded,
            mark: AtomicU32::new(0x4255_4c4b),
            frame_mark: AtomicU32::new(0x4255_4c4b),
            seen: Arc::default(),
            lost: Arc::default(),
        };
        let forwarding = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
        ground.node.run(|| forwarding.iter().try_for_each(|name| set(name, "1")))??;
        ip(
            &ground.node,
            &format!("link set lo up\naddr add {}/32 dev lo\naddr add {}/128 dev lo\n", NODE.v4, NODE.v6),
        )?;
        let places: [(&Space, &[Pair]); 4] = [
            (&ground.attacker, &[ATTACKER]),
            (&ground.web, &[WEB]),
            (&ground.store, &[STORE, SERVICE]),
            (&ground.outside, &[OUTSIDE, METADATA]),
        ];
        for (number, (place, addresses)) in places.into_iter().enumerate() {
            ground.lay_cable(number, place, addresses).with_context(|| format!("cable {number}"))?;
        }
        Ok(ground)
    }

    fn lay_cable(&self, number: usize, place: &Space, addresses: &[Pair]) -> anyhow::Result<()> {
        place.run(|| {
            // A user namespace may know one group only.
            set("ipv4/ping_group_range", "0 65534").or_else(|_| set("ipv4/ping_group_range", "0 0"))?;
            set("ipv4/ip_unprivileged_port_start", "0")
        })??;
        let mac = gateway_mac(number);
        let path = place.path();
        let mut near = format!(
            "link add cable{number} address {mac} type veth peer name eth0 netns {path}\nlink set cable{number} up\n\
             addr add 169.254.1.1/32 dev cable{number}\naddr add fe80::1/64 dev cable{number} nodad\n"
        );
        let mut far = String::from("link set lo up\nlink set eth0 up\n");
        for Pair { v4, v6 } in addresses {
            near += &format!(
                "route add {v4}/32 dev cable{number} src {}\nroute add {v6}/128 dev cable{number}\n",
                NODE.v4
            );
            far += &format!("addr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n");
        }
        far += &format!(
            "route add 169.254.1.1 dev eth0\nroute add default via 169.254.1.1 src {}\nroute add default via fe80::1 dev eth0 src {}\n",
            addresses[0].v4, addresses[0].v6
        );
        ip(&self.node, &near)?;
        ip(place, &far)
    }

    /// Puts a new pod in the place of the attacker's.
    pub(crate) fn renew_attacker(&mut self) -> anyhow::Result<()> {
        ip(&self.node, "link del cable0\n")?;
        self.attacker = Space::new()?;
        self.lay_cable(0, &self.attacker, &[ATTACKER])
    }

    /// Starts a canary everywhere; `free` says whether the sidecars' ports are free for canaries to listen on.
    pub(crate) fn watch(&self, free: bool) -> anyhow::Result<()> {
        let tcp = if free { vec![15_001, 15_006, ADMIN] } else { vec![] };
        let udp = if free { CAPTURE_UDP.to_vec() } else { vec![] };
        let pod = |ports: &[u16]| Options {
            listen_tcp: [ports, &tcp].concat(),
            listen_udp: udp.clone(),
            ..Options::default()
        };
        self.watch_at("attacker", pod(&[]))?;
        self.watch_at("web", pod(&[]))?;
        self.watch_at("store", pod(&[22, 5432]))?;
        self.watch_at("outside", Options { packets: true, listen_tcp: vec![80, 443], ..Options::default() })?;
        self.watch_at("node", Options { join: true, listen_tcp: vec![10_250], ..Options::default() })
    }

    /// Starts the service that the attacker may use.
    pub(crate) fn serve(&self) -> anyhow::Result<()> {
        let arguments = ["serve", "--quiet", "--name", "web", "--listen", "8080,9000"].map(str::to_owned);
        self.web.run_aside(move || {
            bulkhead_lab::demo::main(&arguments);
        })?;
        let address = std::net::SocketAddr::new(WEB.v4.into(), 8080);
        let deadline = Instant::now() + Duration::from_secs(5);
        let up = || self.web.run(|| std::net::TcpStream::connect(address).is_ok());
        while !up()? {
            ensure!(Instant::now() < deadline, "the service does not listen on {address}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts a canary at one place.
    pub(crate) fn watch_at(&self, place: &'static str, options: Options) -> anyhow::Result<()> {
        let (seen, lost) = (self.seen.clone(), self.lost.clone());
        let (ready, is_ready) = std::sync::mpsc::channel();
        self.space(place).run_aside(move || {
            let watched = tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| {
                runtime.block_on(async {
                    let opened = Canary::open(&options);
                    let _ = ready.send(opened.as_ref().map(|_| ()).map_err(ToString::to_string));
                    let Ok(mut canary) = opened else { return };
                    while let Some(event) = canary.next().await {
                        match event {
                            Event::Arrived(arrival) => {
                                seen.lock().expect("no panic while held").push((place, arrival))
                            }
                            Event::Lost(packets) => *lost.lock().expect("no panic while held") += packets,
                            Event::Taken(_) => {}
                        }
                    }
                });
            });
            drop(watched);
        })?;
        is_ready.recv().context("the canary's thread ended")?.map_err(anyhow::Error::msg)
    }

    /// What an attacker on this ground knows.
    fn targets(&self) -> Targets {
        Targets {
            own: ATTACKER,
            link: Some(Link { interface: "eth0".into(), gateway_mac: gateway_mac(0) }),
            node: Some(NODE),
            neighbour: Some(WEB),
            web: Some(Web {
                address: WEB,
                port: 8080,
                host: "web.shop".into(),
                allowed_path: "/api/orders/1".into(),
                admin_path: "/admin/keys".into(),
                forbidden_method: "DELETE".into(),
            }),
            forbidden_pod: Some(Endpoint { address: STORE, port: 9999 }),
            forbidden_service: Some(Endpoint { address: SERVICE, port: 5432 }),
            database: Some(Endpoint { address: STORE, port: 5432 }),
            sweep: vec![NODE, WEB, STORE, SERVICE],
            sweep_port: 22,
            scan: Some(Ports {
                address: STORE,
                ports: vec![21, 22, 23, 80, 443, 3306, 6379, 9200, 11211, 27017],
            }),
            metadata: Some(Endpoint { address: METADATA, port: 80 }),
            outside: Some(Endpoint { address: OUTSIDE, port: 443 }),
            sidecar: Some(Sidecar {
                own_tcp: CAPTURE.to_vec(),
                own_udp: if self.guarded { Vec::new() } else { CAPTURE_UDP.to_vec() },
                peer_tcp: [&CAPTURE[..], &[ADMIN]].concat(),
                peer_udp: CAPTURE_UDP.to_vec(),
                uid: SIDECAR_UID,
                mark: self.mark.load(Ordering::Relaxed),
                frame_mark: self.frame_mark.load(Ordering::Relaxed),
            }),
            peer: Some(STORE),
            // What is allowed in part is for labs.
            resolver: None,
            redis: None,
            postgres: None,
            tls: None,
        }
    }

    /// Makes one attack by a process of its own; `rights` is what its flag `--as` takes.
    pub(crate) fn attack(
        &self,
        kind: &Kind,
        family: Family,
        token: Token,
        rights: &str,
    ) -> anyhow::Result<Attempted> {
        let targets = serde_json::to_string(&self.targets())?;
        let output = self.attacker.run(|| {
            Command::new(env!("CARGO_BIN_EXE_evasion-attacker"))
                .args(["--kind", kind.name, "--family", &family.digit().to_string()])
                .args(["--token", &token.to_string(), "--targets", &targets, "--as", rights])
                .output()
        })??;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{}: {}", kind.name, String::from_utf8_lossy(&output.stderr)))
    }

    /// Tells the attacker which marks its sidecar uses; without this it guesses.
    pub(crate) fn betray(&self, marks: Marks) {
        self.mark.store(marks.upstream, Ordering::Relaxed);
        self.frame_mark.store(marks.passed, Ordering::Relaxed);
    }

    /// A pod by its name in the inventory, with its addresses.
    pub(crate) fn pod(&self, name: &str) -> (&Space, Pair) {
        let addresses = match name {
            "attacker" => ATTACKER,
            "web" => WEB,
            _ => STORE,
        };
        (self.space(name), addresses)
    }

    fn space(&self, name: &str) -> &Space {
        match name {
            "attacker" => &self.attacker,
            "web" => &self.web,
            "store" => &self.store,
            "outside" => &self.outside,
            _ => &self.node,
        }
    }

    /// Everything that the canaries have seen, once `enough` says so or a second is over.
    pub(crate) fn seen(&self, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let seen = self.seen.lock().expect("no panic while held").clone();
            if enough(&seen) || Instant::now() > deadline {
                return seen;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Forgets what was seen so far.
    pub(crate) fn forget(&self) {
        self.seen.lock().expect("no panic while held").clear();
    }

    /// Packets that the kernel dropped before a canary read them.
    pub(crate) fn lost(&self) -> u64 {
        *self.lost.lock().expect("no panic while held")
    }
}

/// Which arrivals are of which attack, wherever they were seen.
pub(crate) fn match_seen(attacks: &[Attempted], seen: &[Seen]) -> Matched {
    let arrivals: Vec<_> = seen.iter().map(|(_, arrival)| arrival.clone()).collect();
    match_arrivals(attacks, &arrivals)
}

fn gateway_mac(number: usize) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

/// Runs lines of `ip` in a place.
fn ip(place: &Space, lines: &str) -> anyhow::Result<()> {
    let output = place.run(|| {
        let mut child = Command::new("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(lines.as_bytes())?;
        }
        child.wait_with_output()
    })??;
    ensure!(output.status.success(), "ip: {}in:\n{lines}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn set(name: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/{name}");
    std::fs::write(&path, value).with_context(|| format!("cannot write `{value}` to {path}"))
}

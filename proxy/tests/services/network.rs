//! A pod, a node with Services, and two backends: each in a network namespace of its own.
//!
//! The pod is the test's own namespace. The node forwards between the links of its pods and does what kube-proxy does: packets
//! to a Service's address get an endpoint's address and port, by nftables, in turn.

use crate::support::{enter_new_network, ip, run};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for what arrives on this machine, short enough to wait for what does not.
pub(crate) const SILENCE: Duration = Duration::from_millis(600);
/// The pod, in both families; so are those that follow.
pub(crate) const POD: [IpAddr; 2] = at(0, 7);
/// The node, as its pods see it.
pub(crate) const NODE: [IpAddr; 2] = at(9, 1);
/// One backend, labelled `track: old`.
pub(crate) const OLD: [IpAddr; 2] = at(1, 2);
/// The other one, labelled `track: new`.
pub(crate) const NEW: [IpAddr; 2] = at(2, 2);

const fn at(network: u8, host: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(10, 0, network, host)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, network as u16, 0, 0, 0, host as u16)),
    ]
}

/// The address of a Service.
pub(crate) const fn service(number: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(10, 96, 0, number)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, number as u16)),
    ]
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace with a thread in it.
pub(crate) struct Place {
    jobs: Sender<Job>,
    thread: String,
}

impl Place {
    fn new() -> Self {
        let (jobs, inbox): (Sender<Job>, Receiver<Job>) = channel();
        let (ready, started) = channel();
        thread::spawn(move || {
            enter_new_network();
            ip("link set lo up");
            let thread = std::fs::read_link("/proc/thread-self").expect("proc is mounted");
            let name = thread.file_name().expect("a number").to_string_lossy().into_owned();
            ready.send(name).expect("waiting");
            inbox.into_iter().for_each(|job| job());
        });
        Self { jobs, thread: started.recv().expect("the place starts") }
    }

    /// Runs something there; sockets that it makes stay there.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, answer) = channel();
        self.jobs.send(Box::new(move || drop(result.send(job())))).expect("the place lives");
        answer.recv().expect("the place answers")
    }
}

/// The node and its other pods.
pub(crate) struct Cluster {
    pub(crate) node: Place,
    pub(crate) old: Place,
    pub(crate) new: Place,
}

impl Cluster {
    /// To be made once, in the test's own namespace.
    pub(crate) fn new() -> Self {
        let cluster = Self { node: Place::new(), old: Place::new(), new: Place::new() };
        let node = &cluster.node.thread;
        ip(&format!("link add eth0 type veth peer name pod0 netns {node}"));
        ip(&format!("link add eth0 netns {} type veth peer name pod1 netns {node}", cluster.old.thread));
        ip(&format!("link add eth0 netns {} type veth peer name pod2 netns {node}", cluster.new.thread));
        cluster.node.run(|| {
            for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{forwarding}"), "1").expect("forwards");
            }
            (0..3).for_each(|network| {
                ip(&format!("addr add 10.0.{network}.1/24 dev pod{network}"));
                ip(&format!("addr add fd00:0:0:{network}::1/64 dev pod{network} nodad"));
                // Neighbours of what is forwarded are asked for from this address, which has to be there at once.
                ip(&format!("link set pod{network} addrgenmode none"));
                ip(&format!("addr add fe80::1/64 dev pod{network} nodad"));
                ip(&format!("link set pod{network} up"));
            });
            ip("addr add 10.0.9.1/32 dev lo");
            ip("addr add fd00:0:0:9::1/128 dev lo nodad");
        });
        configure(0, 7);
        cluster.old.run(|| configure(1, 2));
        cluster.new.run(|| configure(2, 2));
        cluster.node.run(await_neighbours);
        cluster
    }

    /// The node leads an address and port to these endpoints, in turn. `also` are rules for what leaves the node.
    pub(crate) fn lead(&self, services: &[Leads], also: &str) {
        let mut rules = [String::new(), String::new()];
        for leads in services {
            for (family, rules) in rules.iter_mut().enumerate() {
                let count = leads.endpoints.len();
                for (turn, (address, port)) in leads.endpoints.iter().enumerate() {
                    // What came to no earlier endpoint is spread evenly over those that are left.
                    let left = count - turn;
                    let spread = if left > 1 { format!("numgen inc mod {left} 0") } else { String::new() };
                    let (word, to) = match family {
                        0 => ("ip", SocketAddr::new(address[0], *port)),
                        _ => ("ip6", SocketAddr::new(address[1], *port)),
                    };
                    let (dialled, protocol) = (leads.service[family], leads.protocol);
                    let port = leads.port;
                    let _ = writeln!(
                        rules,
                        "{word} daddr {dialled} {protocol} dport {port} {spread} dnat to {to}"
                    );
                }
            }
        }
        let table = |family: &str, rules: &str| {
            format!(
                "table {family} services {{\nchain arriving {{ type nat hook prerouting priority -100;\n{rules}\n}}\nchain leaving {{ \
                 type nat hook postrouting priority 100;\n{also}\n}}\n}}\n"
            )
        };
        let text = table("ip", &rules[0]) + &table("ip6", &rules[1]);
        self.node.run(move || {
            let file = std::env::temp_dir().join(format!("bulkhead-services-{}.nft", std::process::id()));
            std::fs::write(&file, text).expect("write");
            run("nft", &["-f", &file.to_string_lossy()]);
            std::fs::remove_file(&file).expect("remove");
        });
    }
}

/// A port of a Service.
pub(crate) struct Leads {
    pub(crate) service: [IpAddr; 2],
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) endpoints: Vec<([IpAddr; 2], u16)>,
}

/// Until the node has found every pod by IPv6: a link that came up just now does not answer at once.
fn await_neighbours() {
    let pods = [(0, 7), (1, 2), (2, 2)].map(|(network, host)| format!("fd00:0:0:{network}::{host}"));
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("bind");
    let patience = Instant::now() + Duration::from_secs(10);
    for pod in pods {
        let address: Ipv6Addr = pod.parse().expect("an address");
        let found = || {
            // What is sent is of no matter, and so is whether somebody takes it.
            let _ = socket.send_to(b"?", (address, 9));
            let shown = Command::new("ip").args(["-6", "neigh", "show", &pod]).output().expect("ip");
            String::from_utf8_lossy(&shown.stdout).contains("lladdr")
        };
        while !found() {
            assert!(Instant::now() < patience, "{pod} does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn configure(network: u8, host: u8) {
    ip(&format!("addr add 10.0.{network}.{host}/24 dev eth0"));
    ip(&format!("addr add fd00:0:0:{network}::{host}/64 dev eth0 nodad"));
    ip("link set eth0 up");
    ip(&format!("route add default via 10.0.{network}.1"));
    ip(&format!("route add default via fd00:0:0:{network}::1"));
}

/// A server that answers each request with 200, and notes who asked for what.
pub(crate) struct Server {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// In the namespace of whoever calls.
    pub(crate) fn start(address: IpAddr, port: u16) -> Self {
        let listener = TcpListener::bind((address, port)).expect("listen");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&seen);
        thread::spawn(move || {
            while let Ok((stream, from)) = listener.accept() {
                note(&theirs, format!("connection from {}", from.ip()));
                let theirs = Arc::clone(&theirs);
                thread::spawn(move || serve(stream, &theirs));
            }
        });
        Self { seen }
    }

    /// In both families, one after the other.
    pub(crate) fn both(place: &Place, addresses: [IpAddr; 2], port: u16) -> [Self; 2] {
        addresses.map(|address| place.run(move || Self::start(address, port)))
    }

    /// What was noted since the last call.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().expect("no panic"))
    }
}

fn note(seen: &Mutex<Vec<String>>, what: String) {
    seen.lock().expect("no panic").push(what);
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<String>>) {
    while let Ok(head) = read_head(&mut stream) {
        note(seen, head.lines().next().unwrap_or_default().to_owned());
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The status of one request on a connection of its own, from the namespace of whoever calls; the error where it is refused or
/// cut.
pub(crate) fn ask(address: IpAddr, port: u16, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), SILENCE)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: service\r\n\r\n")?;
    let head = read_head(&mut stream)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or(io::ErrorKind::InvalidData.into())
}

/// True if a datagram to there is answered.
pub(crate) fn datagram_answered(address: IpAddr, port: u16) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).expect("bind");
    socket.set_read_timeout(Some(SILENCE)).expect("timeout");
    let sent = socket.connect((address, port)).and_then(|()| socket.send(b"ping"));
    sent.is_ok() && socket.recv(&mut [0; 8]).is_ok()
}

/// Sends back what comes, and notes that it did.
pub(crate) fn echo_datagrams(place: &Place, address: IpAddr, port: u16) -> Server {
    place.run(move || {
        let socket = UdpSocket::bind((address, port)).expect("bind");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&seen);
        thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((count, from)) = socket.recv_from(&mut bytes) {
                note(&theirs, format!("datagram from {}", from.ip()));
                let _ = socket.send_to(&bytes[..count], from);
            }
        });
        Server { seen }
    })
}

//! A pod and a peer: the pod is the test's own network namespace, the peer a thread in another one.

use crate::support::{enter_new_network, ip, set_mark};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// The pod, then the peer, then a second address of the peer.
pub(crate) const POD: [IpAddr; 2] = both(7);
pub(crate) const PEER: [IpAddr; 2] = both(9);
pub(crate) const OTHER_PEER: [IpAddr; 2] = both(66);
/// Long enough for what arrives on this machine, short enough to wait for what does not.
pub(crate) const SILENCE: Duration = Duration::from_millis(600);

const fn both(host: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host as u16)),
    ]
}

type Job = Box<dyn FnOnce() + Send>;

/// The other side of the wire.
pub(crate) struct Peer(Sender<Job>);

impl Peer {
    /// Connects a peer to the pod. To be called once, in the test's own namespace.
    pub(crate) fn connect() -> Self {
        let (jobs, inbox): (Sender<Job>, Receiver<Job>) = channel();
        let (ready, started) = channel();
        thread::spawn(move || {
            enter_new_network();
            let thread = std::fs::read_link("/proc/thread-self").expect("proc is mounted");
            ready
                .send(thread.file_name().expect("a number").to_string_lossy().into_owned())
                .expect("waiting");
            for job in inbox {
                job();
            }
        });
        let thread = started.recv().expect("the peer starts");
        let peer = Self(jobs);
        ip(&format!("link add eth0 type veth peer name eth0 netns {thread}"));
        configure(7);
        peer.run(|| {
            ip("link set lo up");
            configure(9);
            ip("addr add 10.0.0.66/24 dev eth0");
            // Deprecated: not chosen as a source unless a route says so.
            ip("addr add fd00::42/64 dev eth0 nodad preferred_lft 0");
        });
        ip("route add default via 10.0.0.9");
        ip("route add default via fd00::9");
        peer
    }

    /// Runs something in the peer's namespace; sockets made there stay there.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, answer) = channel();
        self.0.send(Box::new(move || drop(result.send(job())))).expect("the peer lives");
        answer.recv().expect("the peer answers")
    }

    pub(crate) fn listen(&self, address: IpAddr, port: u16) -> TcpListener {
        self.run(move || TcpListener::bind((address, port)).expect("listen at the peer"))
    }

    /// A connection from the peer to the pod.
    pub(crate) fn dial(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.run(move || TcpStream::connect_timeout(&to, SILENCE))
    }

    /// A connection from that address of the peer to the pod.
    pub(crate) fn dial_from(&self, from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
        self.run(move || {
            // The route's source decides which address is used.
            let (word, bits) = if from.is_ipv4() { ("", 32) } else { ("-6 ", 128) };
            ip(&format!("{word}route replace {}/{bits} dev eth0 src {from}", to.ip()));
            let result = TcpStream::connect_timeout(&to, SILENCE);
            ip(&format!("{word}route del {}/{bits} dev eth0", to.ip()));
            result
        })
    }

    pub(crate) fn udp(&self, address: IpAddr, port: u16) -> UdpSocket {
        with_timeout(self.run(move || UdpSocket::bind((address, port)).expect("bind at the peer")))
    }
}

fn configure(host: u8) {
    ip(&format!("addr add 10.0.0.{host}/24 dev eth0"));
    ip(&format!("addr add fd00::{host}/64 dev eth0 nodad"));
    ip("link set eth0 up");
}

/// A connection from the pod.
pub(crate) fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, SILENCE)
}

/// A connection from that port of the pod by a socket with this mark.
pub(crate) fn dial_from(from: SocketAddr, to: SocketAddr, mark: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    set_mark(&socket, mark)?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), SILENCE).map(|()| TcpStream::from(socket))
}

/// Lets the server reset a connection; from where it came. The kernel remembers it for seconds, and takes a new first packet
/// from there for one of its own.
pub(crate) fn reset(mut client: TcpStream, server: &TcpListener) -> SocketAddr {
    let (end, from) = accept(server).expect("arrives");
    SockRef::from(&end).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(end);
    assert!(client.read(&mut [0]).is_err(), "reset");
    from
}

/// The next connection that arrives. Not waited for longer than for anything that arrives on this machine.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let deadline = std::time::Instant::now() + 5 * SILENCE;
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && std::time::Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
            Ok((stream, from)) => {
                stream.set_nonblocking(false)?;
                return Ok((stream, from));
            }
        }
    }
}

pub(crate) fn with_timeout(socket: UdpSocket) -> UdpSocket {
    socket.set_read_timeout(Some(SILENCE)).expect("timeout");
    socket
}

/// True if a datagram sent by one arrives at the other.
pub(crate) fn datagram_arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
    let text = format!("datagram {:?}", std::time::Instant::now());
    // An error of an earlier datagram is told here.
    let address = to.local_addr().expect("address");
    if from.send_to(text.as_bytes(), address).is_err() && from.send_to(text.as_bytes(), address).is_err() {
        return false;
    }
    let mut buffer = [0; 200];
    matches!(to.recv_from(&mut buffer), Ok((length, _)) if buffer[..length] == *text.as_bytes())
}

/// A conversation: what one says the other hears and answers.
pub(crate) fn talk(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4];
    for stream in [&*client, &*server] {
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    }
    client.write_all(b"ping")?;
    server.read_exact(&mut buffer)?;
    assert_eq!(buffer, *b"ping");
    server.write_all(b"pong")?;
    client.read_exact(&mut buffer)?;
    assert_eq!(buffer, *b"pong");
    Ok(())
}

/// True if the echo request is answered.
pub(crate) fn echo_answered(socket: &UdpSocket, to: IpAddr) -> bool {
    let request = if to.is_ipv4() { 8 } else { 128 };
    let mut message = [request, 0, 0, 0, 0x42, 0x55, 0, 1];
    if to.is_ipv4() {
        let sum = (u32::from(request) << 8) + 0x4255 + 1;
        let sum = u16::try_from(sum).expect("small").to_be_bytes().map(|byte| !byte);
        message[2..4].copy_from_slice(&sum);
    }
    if socket.send_to(&message, (to, 0)).is_err() {
        return false;
    }
    let reply = if to.is_ipv4() { 0 } else { 129 };
    let header = if to.is_ipv4() { 20 } else { 0 };
    let mut buffer = [0; 200];
    let deadline = std::time::Instant::now() + SILENCE;
    while std::time::Instant::now() < deadline {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) if from.ip() == to && length > header && buffer[header] == reply => {
                return true;
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

//! Sockets of TCP in this namespace, to end one: its program is told at once, and so is the other end, by a reset.
//!
//! Source: `include/uapi/linux/inet_diag.h`, `sock_diag.h`. Needs CAP_NET_ADMIN, and a kernel with CONFIG_INET_DIAG_DESTROY.

use crate::error::NetlinkError;
use crate::exchange::Exchange;
use crate::wire::Encoder;
use std::net::{IpAddr, SocketAddr};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const TCP: u8 = 6;
/// States of a socket (`include/net/tcp_states.h`) that has no connection any more, or is none.
const WITHOUT_CONNECTION: [u8; 3] = [TIME_WAIT, CLOSE, LISTEN];
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
/// The kernel's word for a socket, whatever has its addresses later.
type Cookie = [u8; 8];
const ANY: Cookie = [0xff; 8];

/// A socket to ask for sockets.
#[derive(Debug)]
pub struct LocalSockets {
    exchange: Exchange,
}

impl LocalSockets {
    /// Opens it.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { exchange: Exchange::open(libc::NETLINK_SOCK_DIAG)? })
    }

    /// Ends the connection between these; false if there is none.
    pub fn end(&mut self, local: SocketAddr, remote: SocketAddr) -> Result<bool, NetlinkError> {
        let Some(cookie) = self.find(local, remote)? else { return Ok(false) };
        let fill = |e: &mut Encoder| encode_request(e, local, remote, cookie);
        match self.exchange.tell(SOCK_DESTROY, 0, "the end of a socket", fill) {
            Err(error) if error.is_not_found() => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// The kernel looks for a listener where there is no connection.
    fn find(&mut self, local: SocketAddr, remote: SocketAddr) -> Result<Option<Cookie>, NetlinkError> {
        let mut found = None;
        let fill = |e: &mut Encoder| encode_request(e, local, remote, ANY);
        let read = |message: &crate::wire::Message<'_>| found = connection_of(message.body);
        match self.exchange.ask(SOCK_DIAG_BY_FAMILY, 0, "a socket", fill, read) {
            Err(error) if error.is_not_found() => Ok(None),
            result => result.map(|()| found),
        }
    }
}

/// `struct inet_diag_req_v2`.
fn encode_request(e: &mut Encoder, local: SocketAddr, remote: SocketAddr, cookie: Cookie) {
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    e.append(&[u8::try_from(family).unwrap_or(0), TCP, 0, 0]);
    e.append(&u32::MAX.to_ne_bytes());
    e.append(&[local.port().to_be_bytes(), remote.port().to_be_bytes()].concat());
    for end in [local, remote] {
        let mut address = [0; 16];
        match end.ip() {
            IpAddr::V4(ip) => address[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => address = ip.octets(),
        }
        e.append(&address);
    }
    // By whatever device.
    e.append(&[0; 4]);
    e.append(&cookie);
}

/// `struct inet_diag_msg`: family, state, two bytes, ports, addresses, device, cookie.
fn connection_of(body: &[u8]) -> Option<Cookie> {
    let state = body.get(1)?;
    let cookie = body.get(44..52)?.try_into().ok()?;
    (!WITHOUT_CONNECTION.contains(state)).then_some(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_request_has_the_length_that_the_kernel_wants() {
        for (local, remote) in [("10.0.0.1:80", "10.0.0.2:81"), ("[fd00::1]:80", "[fd00::2]:81")] {
            let mut e = Encoder::default();
            let address = |text: &str| text.parse().expect("address");
            encode_request(&mut e, address(local), address(remote), ANY);
            assert_eq!((e.len(), &e.bytes()[8..12]), (56, &[0, 80, 0, 81][..]));
        }
    }

    #[test]
    fn a_listener_is_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let local = listener.local_addr().expect("address");
        let mut sockets = LocalSockets::open().expect("a socket");
        assert_eq!(sockets.end(local, "127.0.0.1:1".parse().expect("address")).ok(), Some(false));
        assert!(std::net::TcpStream::connect(local).is_ok());
    }
}

//! A name server for the shop: answers for the names of a hosts file, and that there are no others.
//!
//! One question by UDP, one answer (RFC 1035). Addresses are answered for `A` and `AAAA`; of a name that there is, any other
//! type is empty. The file is read at each question, as a zone that changes would be.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use serde_json::json;
use tokio::net::UdpSocket;

use super::names::in_hosts;
use super::{plain, say};
use crate::limits;

/// What a name server is told.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The name that its log lines carry
    #[arg(long, default_value = "names")]
    name: String,
    /// The UDP port to answer on, both families
    #[arg(long, default_value_t = 53)]
    listen_udp: u16,
    /// A hosts file with the names that there are
    #[arg(long, default_value = "/etc/hosts")]
    hosts: PathBuf,
}

/// Serves until the process is told to end.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    listen(arguments).await?;
    super::service::until_told_to_end().await?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the port, serves it from now on, and gives its number.
pub(super) async fn listen(arguments: Arguments) -> anyhow::Result<u16> {
    let Arguments { name, listen_udp: port, hosts } = arguments;
    let socket = UdpSocket::bind(("::", port)).await;
    let socket = socket.with_context(|| format!("cannot listen on UDP port {port}"))?;
    let port = socket.local_addr()?.port();
    say(&json!({"event": "listening", "role": &name, "ports": [port]}));
    tokio::spawn(serve(socket, Arc::from(name), hosts));
    Ok(port)
}

async fn serve(socket: UdpSocket, name: Arc<str>, hosts: PathBuf) {
    let mut buffer = vec![0; limits::DEMO_LINE_BYTES];
    loop {
        let Ok((bytes, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let zone = tokio::fs::read_to_string(&hosts).await.unwrap_or_default();
        let Some((asked, reply)) = answer(&buffer[..bytes], &zone) else { continue };
        say(&json!({"event": "question", "role": &*name, "peer": plain(peer).to_string(), "name": asked}));
        let _ = socket.send_to(&reply, peer).await;
    }
}

const HEADER: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;
/// Seconds for which an answer may be kept.
const KEPT_S: u32 = 5;

/// The name that is asked for, and the answer; `None` for what is no single question.
fn answer(message: &[u8], zone: &str) -> Option<(String, Vec<u8>)> {
    let header = message.get(..HEADER)?;
    let questions = u16::from_be_bytes([*header.get(4)?, *header.get(5)?]);
    let is_query = header.get(2)? & 0xf8 == 0;
    let (name, end) = name(message, HEADER)?;
    let record = u16::from_be_bytes(message.get(end..end + 2)?.try_into().ok()?);
    let question = message.get(HEADER..end + 4)?;
    if questions != 1 || !is_query {
        return None;
    }
    let known = in_hosts(zone, &name);
    let found: Vec<&IpAddr> = known
        .iter()
        .filter(|address| match record {
            A => address.is_ipv4(),
            AAAA => address.is_ipv6(),
            _ => false,
        })
        .collect();
    let code = if known.is_empty() { 3 } else { 0 };
    let mut reply = header.get(..2)?.to_vec();
    // A response with authority; recursion as it was asked for, and there is some.
    reply.extend([0x84 | header.get(2)? & 1, 0x80 | code]);
    reply.extend([0, 1]);
    reply.extend(u16::try_from(found.len()).ok()?.to_be_bytes());
    reply.extend([0; 4]);
    reply.extend(question);
    for address in found {
        let data = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        // The name is the question's.
        reply.extend([0xc0, 12]);
        reply.extend(record.to_be_bytes());
        reply.extend([0, 1]);
        reply.extend(KEPT_S.to_be_bytes());
        reply.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        reply.extend(data);
    }
    Some((name, reply))
}

/// A name without compression, as a question has it, and where it ends.
fn name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => return Some((labels.join("."), at)),
            1..=63 => labels.push(String::from_utf8_lossy(message.get(at..at + length)?).into_owned()),
            _ => return None,
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::packet;

    const ZONE: &str = "10.1.0.2 orders.shop\nfd00::2 orders.shop\n";

    fn question(name: &str, record: u16) -> Vec<u8> {
        packet::question(&name.split('.').collect::<Vec<_>>(), record)
    }

    #[test]
    fn names_of_the_file_have_addresses_of_the_family_that_is_asked_for() {
        let (name, reply) = answer(&question("Orders.shop", A), ZONE).expect("an answer");
        assert_eq!((name.as_str(), &reply[..4]), ("Orders.shop", &[0x62, 0x68, 0x85, 0x80][..]));
        assert!(reply.ends_with(&[0, 4, 10, 1, 0, 2]));
        let (_, reply) = answer(&question("orders.shop", AAAA), ZONE).expect("an answer");
        assert_eq!((reply[7], reply.last()), (1, Some(&2)));
    }

    #[test]
    fn other_names_are_not_there_and_other_types_are_empty() {
        let code = |name: &str, record| {
            let (_, reply) = answer(&question(name, record), ZONE).expect("an answer");
            (reply[3] & 15, reply[7])
        };
        assert_eq!((code("nobody.shop", A), code("orders.shop", 16)), ((3, 0), (0, 0)));
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let whole = question("orders.shop", A);
        for cut in 0..whole.len() {
            assert_eq!(answer(&whole[..cut], ZONE), None, "{cut}");
        }
        let mut response = whole;
        response[2] |= 0x80;
        assert_eq!(answer(&response, ZONE), None);
    }
}

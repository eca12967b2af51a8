//! A program that is asked about each packet by the kernel (NFQUEUE) and lets it pass.
//!
//! Only for the contrast, so it speaks its few messages itself. The rule that queues is the old tables' target, since
//! kernels are built without nf_tables' own.

use crate::network::Link;
use crate::system;
use crate::traffic::helper;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{Read, Write};

const TABLES: u16 = 10 << 8;
const QUEUE: u16 = 3 << 8;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const NESTED: u16 = 0x8000;
const IPV4: u8 = 2;
const QUEUE_NUMBER: u16 = 1;
const COPIED_BYTES: u32 = 128;

/// Starts it; returns its thread.
pub(crate) fn start(link: &Link) -> Result<i32> {
    let mut socket = link.pod.run(open)??;
    helper(move || {
        let mut buffer = vec![0; 1 << 17];
        while let Ok(length) = socket.read(&mut buffer) {
            if let Some(packet) = packet_number(&buffer[..length])
                && socket.write_all(&verdict(packet)).is_err()
            {
                return;
            }
        }
    })
}

fn open() -> Result<File> {
    let mut tables = system::netfilter_socket()?;
    tables.write_all(&rules())?;
    acknowledged(&mut tables).context("no rule that queues")?;
    let mut queue = system::netfilter_socket()?;
    for attributes in [
        // Bind.
        attribute(1, &[1, 0, 0, 0]),
        // Copy that much of each packet, and packets as large as they are.
        [
            attribute(2, &[&COPIED_BYTES.to_be_bytes()[..], &[2]].concat()),
            attribute(4, &4u32.to_be_bytes()),
            attribute(5, &4u32.to_be_bytes()),
        ]
        .concat(),
    ] {
        queue.write_all(&message(QUEUE | 2, REQUEST | ACKNOWLEDGE, 0, QUEUE_NUMBER, &attributes))?;
        acknowledged(&mut queue).context("no queue")?;
    }
    Ok(queue)
}

/// A table whose only rule queues what arrives.
fn rules() -> Vec<u8> {
    let name = |kind, name: &str| attribute(kind, &[name.as_bytes(), &[0]].concat());
    let (table, chain) = (name(1, "contrast"), "arrives");
    let hook = [attribute(1, &1u32.to_be_bytes()), attribute(2, &0u32.to_be_bytes())].concat();
    let chains = [table.clone(), name(3, chain), nest(4, &hook), name(7, "filter")].concat();
    let mut target = QUEUE_NUMBER.to_ne_bytes().to_vec();
    target.resize(8, 0);
    let info = [name(1, "NFQUEUE"), attribute(2, &0u32.to_be_bytes()), attribute(3, &target)].concat();
    let expression = nest(1, &[name(1, "target"), nest(2, &info)].concat());
    let rule = [table.clone(), name(2, chain), nest(4, &expression)].concat();
    [
        message(16, REQUEST, 0, 10, &[]),
        message(TABLES, REQUEST | CREATE, IPV4, 0, &table),
        message(TABLES | 3, REQUEST | CREATE, IPV4, 0, &chains),
        message(TABLES | 6, REQUEST | CREATE | 0x800 | ACKNOWLEDGE, IPV4, 0, &rule),
        message(17, REQUEST, 0, 10, &[]),
    ]
    .concat()
}

fn verdict(packet: u32) -> Vec<u8> {
    let pass = [1u32.to_be_bytes(), packet.to_be_bytes()].concat();
    message(QUEUE | 1, REQUEST, 0, QUEUE_NUMBER, &attribute(2, &pass))
}

/// Its number, if the message is a packet: the first attribute is its header.
fn packet_number(message: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let attribute = u16::from_ne_bytes(message.get(22..24)?.try_into().ok()?);
    let number = u32::from_be_bytes(message.get(24..28)?.try_into().ok()?);
    (kind == QUEUE && attribute == 1).then_some(number)
}

fn acknowledged(socket: &mut File) -> Result<()> {
    let mut buffer = [0; 4096];
    let length = socket.read(&mut buffer)?;
    let answer = buffer[..length].get(16..20).context("no answer")?;
    match i32::from_ne_bytes(answer.try_into()?) {
        0 => Ok(()),
        error => bail!(std::io::Error::from_raw_os_error(-error)),
    }
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

fn nest(kind: u16, inner: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, inner)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

//! One request and its answers on a netlink socket, whatever the subsystem.

use crate::error::NetlinkError;
use crate::limits;
use crate::socket::{Received, Socket};
use crate::wire::{ACK, DUMP, DUMP_INTERRUPTED, Encoder, MESSAGE_DONE, MESSAGE_ERROR, Message, Messages};

/// A socket that asks.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) socket: Socket,
    pub(crate) buffer: Vec<u8>,
    sequence: u32,
}

impl Exchange {
    pub(crate) fn open(protocol: i32) -> Result<Self, NetlinkError> {
        let socket = Socket::open(protocol, 0, limits::ANSWER_TIMEOUT)?;
        socket.enlarge_receive_buffer(1 << 20);
        Ok(Self { socket, sequence: 0, buffer: vec![0; limits::DATAGRAM_BYTES_MAX] })
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends a request and hands every answer to `each`, up to the acknowledgement, the end of the dump or,
    /// where neither was asked for, the first answer.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        what: &str,
        fill: impl FnOnce(&mut Encoder),
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), NetlinkError> {
        let sequence = self.next_sequence();
        let mut e = Encoder::default();
        e.message(kind, flags, sequence, fill);
        self.socket.send(e.bytes())?;
        loop {
            let length = match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(length) => length,
                Received::Overrun => continue,
                Received::Nothing => return Err(NetlinkError::TimedOut { message: what.to_owned() }),
            };
            for message in Messages(&self.buffer[..length]).filter(|m| m.sequence == sequence) {
                if matches!(message.kind, MESSAGE_ERROR | MESSAGE_DONE) {
                    return outcome(&message, what);
                }
                each(&message);
                if flags & (DUMP | ACK) == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// Sends a request that is only acknowledged.
    pub(crate) fn tell(
        &mut self,
        kind: u16,
        flags: u16,
        what: &str,
        fill: impl FnOnce(&mut Encoder),
    ) -> Result<(), NetlinkError> {
        self.ask(kind, flags | ACK, what, fill, |_| {})
    }

    /// Asks for a list, again while changes disturb it.
    pub(crate) fn dump<T>(
        &mut self,
        kind: u16,
        what: &str,
        fill: impl Fn(&mut Encoder),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut attempts_left = limits::DUMP_ATTEMPTS;
        loop {
            attempts_left -= 1;
            let mut found = Vec::new();
            let mut disturbed = false;
            let result = self.ask(kind, DUMP, what, &fill, |message| {
                disturbed |= message.flags & DUMP_INTERRUPTED != 0;
                found.extend(read(message));
            });
            match result {
                Err(error) if error.errno() == Some(libc::EINTR) && attempts_left > 0 => {}
                Err(error) => return Err(error),
                Ok(()) if disturbed && attempts_left > 0 => {}
                Ok(()) => return Ok(found),
            }
        }
    }
}

fn outcome(message: &Message<'_>, what: &str) -> Result<(), NetlinkError> {
    match message.outcome() {
        Some((0, _)) => Ok(()),
        Some((errno, text)) => Err(NetlinkError::Refused { message: what.to_owned(), errno, text }),
        None => Err(NetlinkError::Unreadable { message: what.to_owned() }),
    }
}

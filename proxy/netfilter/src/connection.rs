//! Talking to nf_tables: committing transactions and dumping what is loaded.

use crate::batch::{Batch, command};
use crate::error::NetlinkError;
use crate::limits;
use crate::socket::{Received, Socket};
use crate::table::Table;
use crate::wire::{
    ACK, DUMP, DUMP_INTERRUPTED, Encoder, MESSAGE_DONE, MESSAGE_ERROR, Message, Messages, subsystem,
};
use std::collections::HashMap;

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// A netlink socket for nf_tables. Blocking; each call waits at most [`limits::ANSWER_TIMEOUT`].
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    transaction_bytes_max: usize,
}

impl Connection {
    /// Opens it. Needs no right by itself; the kernel checks each request.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = Socket::open(libc::NETLINK_NETFILTER, 0, limits::ANSWER_TIMEOUT)?;
        let forced = socket.enlarge_send_buffer(limits::SEND_BUFFER_BYTES);
        socket.enlarge_receive_buffer(1 << 20);
        let transaction_bytes_max = match forced {
            true => socket.send_buffer_bytes() / 2,
            false => (socket.send_buffer_bytes() / 4).max(limits::TRANSACTION_BYTES_DEFAULT),
        };
        Ok(Self { socket, sequence: 0, buffer: vec![0; limits::DATAGRAM_BYTES_MAX], transaction_bytes_max })
    }

    /// Bytes that [`Self::commit`] can send in one transaction here.
    pub fn transaction_bytes_max(&self) -> usize {
        self.transaction_bytes_max
    }

    /// Applies a batch as one transaction.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (bytes, names, begin, last) = self.encode(batch);
        self.socket.send(&bytes)?;
        self.await_outcome(&names, begin, last)
    }

    /// Applies a batch of additions that nothing refers to yet, in as many transactions as needed.
    pub fn commit_in_parts(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        for part in batch.split(self.transaction_bytes_max) {
            self.commit(&part)?;
        }
        Ok(())
    }

    fn encode(&mut self, batch: &Batch) -> (Vec<u8>, HashMap<u32, String>, u32, u32) {
        let mut e = Encoder::default();
        let mut names = HashMap::new();
        let begin = self.next_sequence();
        e.netfilter_message(BATCH_BEGIN, 0, begin, (0, subsystem::TABLES), |_| {});
        let mut last = begin;
        for (index, message) in batch.messages.iter().enumerate() {
            last = self.next_sequence();
            names.insert(last, message.what.clone());
            // Kernels before 6.10 do not acknowledge the end of a batch, so its last message is.
            let ack = if index + 1 == batch.messages.len() { ACK } else { 0 };
            let kind = subsystem::TABLES << 8 | message.command;
            e.netfilter_message(kind, message.flags | ack, last, (message.family, 0), |e| {
                e.append(message.body.bytes());
            });
        }
        let end = self.next_sequence();
        e.netfilter_message(BATCH_END, 0, end, (0, subsystem::TABLES), |_| {});
        (e.bytes().to_vec(), names, begin, last)
    }

    /// The first refusal wins. A refusal of the whole batch carries the number of its begin; the others
    /// arrive in order, and the last message is always answered.
    fn await_outcome(
        &mut self,
        names: &HashMap<u32, String>,
        begin: u32,
        last: u32,
    ) -> Result<(), NetlinkError> {
        let whole = "the transaction".to_owned();
        let mut refusal = None;
        loop {
            let length = match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(length) => length,
                Received::Overrun => continue,
                Received::Nothing => {
                    return Err(refusal.unwrap_or(NetlinkError::TimedOut { message: whole }));
                }
            };
            for message in Messages(&self.buffer[..length]) {
                if message.kind != MESSAGE_ERROR
                    || message.sequence.wrapping_sub(begin) > last.wrapping_sub(begin)
                {
                    continue;
                }
                let (errno, text) =
                    message.outcome().ok_or_else(|| NetlinkError::Unreadable { message: whole.clone() })?;
                if errno != 0 && refusal.is_none() {
                    let name = names.get(&message.sequence).unwrap_or(&whole).clone();
                    refusal = Some(NetlinkError::Refused { message: name, errno, text });
                }
                if message.sequence == last || (message.sequence == begin && errno != 0) {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// The number of the current rule set generation of this network namespace: grows by one with every
    /// transaction, whoever commits it.
    pub fn generation(&mut self) -> Result<u32, NetlinkError> {
        let mut generation = None;
        self.ask(
            command::GET_GENERATION,
            0,
            0,
            "the rule set's generation",
            |_| {},
            |message| {
                generation = message.attributes().u32(1);
            },
        )?;
        generation.ok_or_else(|| NetlinkError::Unreadable { message: "the rule set's generation".to_owned() })
    }

    /// Asks for everything of a kind in one table and hands each message to `each`; repeated while a
    /// change disturbs it. `restart` forgets what a disturbed attempt brought.
    pub(crate) fn dump(
        &mut self,
        command: u16,
        table: Option<&Table>,
        what: &str,
        fill: impl Fn(&mut Encoder),
    ) -> Result<Vec<OwnedMessage>, NetlinkError> {
        const ATTEMPTS: u32 = 10;
        for attempt in 1.. {
            let mut found = Vec::new();
            let mut disturbed = false;
            let family = table.map_or(0, |table| table.family.number());
            let result = self.ask(command, DUMP, family, what, &fill, |message| {
                disturbed |= message.flags & DUMP_INTERRUPTED != 0;
                found.push(OwnedMessage { family: message.family(), body: message.body.to_vec() });
            });
            match result {
                Err(error) if error.errno() == Some(libc::EINTR) && attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
                Ok(()) if disturbed && attempt < ATTEMPTS => {}
                Ok(()) => return Ok(found),
            }
        }
        unreachable!("the loop returns");
    }

    fn ask(
        &mut self,
        command: u16,
        flags: u16,
        family: u8,
        what: &str,
        fill: impl FnOnce(&mut Encoder),
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<(), NetlinkError> {
        let sequence = self.next_sequence();
        let mut e = Encoder::default();
        e.netfilter_message(subsystem::TABLES << 8 | command, flags, sequence, (family, 0), fill);
        self.socket.send(e.bytes())?;
        loop {
            let length = match self.socket.receive(&mut self.buffer)? {
                Received::Datagram(length) => length,
                Received::Overrun => continue,
                Received::Nothing => return Err(NetlinkError::TimedOut { message: what.to_owned() }),
            };
            for message in Messages(&self.buffer[..length]) {
                if message.sequence != sequence {
                    continue;
                }
                if matches!(message.kind, MESSAGE_ERROR | MESSAGE_DONE) {
                    return match message.outcome() {
                        Some((0, _)) => Ok(()),
                        Some((errno, text)) => {
                            Err(NetlinkError::Refused { message: what.to_owned(), errno, text })
                        }
                        None => Err(NetlinkError::Unreadable { message: what.to_owned() }),
                    };
                }
                each(&message);
                if flags & DUMP == 0 {
                    return Ok(());
                }
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

/// The body of a message that outlives the receive buffer.
pub(crate) struct OwnedMessage {
    pub(crate) family: u8,
    pub(crate) body: Vec<u8>,
}

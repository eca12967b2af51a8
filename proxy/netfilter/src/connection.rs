//! Talking to nf_tables: committing transactions and dumping what is loaded.

use crate::batch::{Batch, command};
use crate::error::NetlinkError;
use crate::exchange::Exchange;
use crate::limits;
use crate::socket::Received;
use crate::table::Table;
use crate::wire::{ACK, Encoder, MESSAGE_ERROR, Message, Messages, subsystem};
use std::collections::HashMap;

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// A netlink socket for nf_tables. Blocking; each call waits at most [`limits::ANSWER_TIMEOUT`].
#[derive(Debug)]
pub struct Connection {
    exchange: Exchange,
    transaction_bytes_max: usize,
}

impl Connection {
    /// Opens it. Needs no right by itself; the kernel checks each request.
    pub fn open() -> Result<Self, NetlinkError> {
        let exchange = Exchange::open(libc::NETLINK_NETFILTER)?;
        let forced = exchange.socket.enlarge_send_buffer(limits::SEND_BUFFER_BYTES);
        let transaction_bytes_max = match forced {
            true => exchange.socket.send_buffer_bytes() / 2,
            false => (exchange.socket.send_buffer_bytes() / 4).max(limits::TRANSACTION_BYTES_DEFAULT),
        };
        Ok(Self { exchange, transaction_bytes_max })
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
        self.exchange.socket.send(&bytes)?;
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
        let begin = self.exchange.next_sequence();
        e.netfilter_message(BATCH_BEGIN, 0, begin, (0, subsystem::TABLES), |_| {});
        let mut last = begin;
        for (index, message) in batch.messages.iter().enumerate() {
            last = self.exchange.next_sequence();
            names.insert(last, message.what.clone());
            // Kernels before 6.10 do not acknowledge the end of a batch, so its last message is.
            let ack = if index + 1 == batch.messages.len() { ACK } else { 0 };
            let kind = subsystem::TABLES << 8 | message.command;
            e.netfilter_message(kind, message.flags | ack, last, (message.family, 0), |e| {
                e.append(message.body.bytes());
            });
        }
        let end = self.exchange.next_sequence();
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
            let length = match self.exchange.socket.receive(&mut self.exchange.buffer)? {
                Received::Datagram(length) => length,
                Received::Overrun => continue,
                Received::Nothing => {
                    return Err(refusal.unwrap_or(NetlinkError::TimedOut { message: whole }));
                }
            };
            for message in Messages(&self.exchange.buffer[..length]) {
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
        const WHAT: &str = "the rule set's generation";
        let mut generation = None;
        let kind = subsystem::TABLES << 8 | command::GET_GENERATION;
        self.exchange.ask(
            kind,
            0,
            WHAT,
            |e| e.family_header(0, 0),
            |message| {
                generation = message.attributes().u32(1);
            },
        )?;
        generation.ok_or_else(|| NetlinkError::Unreadable { message: WHAT.to_owned() })
    }

    pub(crate) fn dump<T>(
        &mut self,
        command: u16,
        table: Option<&Table>,
        what: &str,
        fill: impl Fn(&mut Encoder),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let family = table.map_or(0, |table| table.family.number());
        let fill = |e: &mut Encoder| {
            e.family_header(family, 0);
            fill(e);
        };
        self.exchange.dump(subsystem::TABLES << 8 | command, what, fill, read)
    }
}

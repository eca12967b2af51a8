//! A transaction of nf_tables: all of it holds, or nothing.
//!
//! A batch is a list of messages, each with a text for error reports. [`crate::Connection::commit`] sends it
//! as one transaction.

use crate::rule::{Rule, milliseconds};
use crate::set::{Element, Key, Set};
use crate::table::{Chain, Table};
use crate::wire::{APPEND, CREATE, EXCLUSIVE, Encoder};
use crate::{Hook, limits};
use std::sync::atomic::{AtomicU32, Ordering};

/// `NFT_OBJECT_CT_TIMEOUT`.
pub(crate) const OBJECT_CT_TIMEOUT: u32 = 7;

/// Commands of the nf_tables subsystem.
pub(crate) mod command {
    pub(crate) const NEW_TABLE: u16 = 0;
    pub(crate) const GET_TABLE: u16 = 1;
    pub(crate) const DELETE_TABLE: u16 = 2;
    pub(crate) const NEW_CHAIN: u16 = 3;
    pub(crate) const GET_CHAIN: u16 = 4;
    pub(crate) const DELETE_CHAIN: u16 = 5;
    pub(crate) const NEW_RULE: u16 = 6;
    pub(crate) const GET_RULE: u16 = 7;
    pub(crate) const DELETE_RULE: u16 = 8;
    pub(crate) const NEW_SET: u16 = 9;
    pub(crate) const GET_SET: u16 = 10;
    pub(crate) const DELETE_SET: u16 = 11;
    pub(crate) const NEW_ELEMENT: u16 = 12;
    pub(crate) const GET_ELEMENT: u16 = 13;
    pub(crate) const DELETE_ELEMENT: u16 = 14;
    pub(crate) const GET_GENERATION: u16 = 16;
    pub(crate) const NEW_OBJECT: u16 = 18;
}

#[derive(Clone, Debug)]
pub(crate) struct BatchMessage {
    pub(crate) command: u16,
    pub(crate) flags: u16,
    pub(crate) family: u8,
    pub(crate) body: Encoder,
    pub(crate) what: String,
}

/// A transaction in the making.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) messages: Vec<BatchMessage>,
}

impl Batch {
    /// An empty transaction.
    pub fn new() -> Self {
        Self::default()
    }

    /// True if it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes it takes on the wire.
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(message_bytes).sum::<usize>() + 40
    }

    /// Creates a table; nothing happens if it exists.
    pub fn add_table(&mut self, table: &Table) {
        self.push(command::NEW_TABLE, CREATE, table, format!("table `{}`", table.name), |e| {
            e.text(1, &table.name);
            e.u32(2, 0);
        });
    }

    /// Deletes a table with all that is in it; an error if there is none.
    pub fn delete_table(&mut self, table: &Table) {
        self.push(command::DELETE_TABLE, 0, table, format!("deletion of table `{}`", table.name), |e| {
            e.text(1, &table.name);
        });
    }

    /// Creates a chain; an error if it exists.
    pub fn add_chain(&mut self, table: &Table, chain: &Chain) {
        self.push(command::NEW_CHAIN, CREATE | EXCLUSIVE, table, format!("chain `{}`", chain.name), |e| {
            e.text(1, &table.name);
            e.text(3, &chain.name);
            if let Some(base) = &chain.base {
                e.nest(4, |e| {
                    e.u32(1, base.hook.number());
                    e.attribute(2, &base.priority.to_be_bytes());
                    encode_device(e, &base.hook);
                });
                e.u32(5, base.policy.number());
                e.text(7, base.chain_type.name());
            }
        });
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, table: &Table, chain: &str) {
        self.push(command::DELETE_RULE, 0, table, format!("rules of chain `{chain}`"), |e| {
            e.text(1, &table.name);
            e.text(2, chain);
        });
    }

    /// Deletes a chain that has no rules and to which no rule refers.
    pub fn delete_chain(&mut self, table: &Table, chain: &str) {
        self.push(command::DELETE_CHAIN, 0, table, format!("deletion of chain `{chain}`"), |e| {
            e.text(1, &table.name);
            e.text(3, chain);
        });
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, table: &Table, chain: &str, rule: &Rule) {
        let what = match &rule.name {
            Some(name) => format!("rule `{name}` of chain `{chain}`"),
            None => format!("a rule of chain `{chain}`"),
        };
        self.push(command::NEW_RULE, CREATE | APPEND, table, what, |e| {
            e.text(1, &table.name);
            e.text(2, chain);
            e.nest(4, |e| e.append(rule.expressions.bytes()));
            if let Some(name) = &rule.name {
                e.attribute(7, &comment(name));
            }
        });
    }

    /// Creates a set or map; an error if it exists.
    pub fn add_set(&mut self, table: &Table, set: &Set) {
        // Only has to differ within one transaction.
        static ID: AtomicU32 = AtomicU32::new(1);
        let id = ID.fetch_add(1, Ordering::Relaxed);
        self.push(command::NEW_SET, CREATE | EXCLUSIVE, table, format!("set `{}`", set.name), |e| {
            e.text(1, &table.name);
            e.text(2, &set.name);
            e.u32(3, set.flags());
            e.u32(4, set.key_printed_as());
            e.u32(5, set.key_bytes());
            if let Some(data) = set.data {
                e.u32(6, data.printed_as());
                e.u32(7, data.bytes());
            }
            encode_description(e, set);
            e.u32(10, id);
            if let Some(timeout) = set.timeout {
                e.u64(11, milliseconds(timeout));
            }
        });
    }

    /// Deletes a set to which no rule refers.
    pub fn delete_set(&mut self, table: &Table, set: &str) {
        self.push(command::DELETE_SET, 0, table, format!("deletion of set `{set}`"), |e| {
            e.text(1, &table.name);
            e.text(2, set);
        });
    }

    /// Adds elements; an error if one overlaps another.
    pub fn add_elements(&mut self, table: &Table, set: &Set, elements: &[Element]) {
        self.elements(command::NEW_ELEMENT, CREATE | EXCLUSIVE, table, set, elements);
    }

    /// Deletes elements; an error if one does not exist.
    pub fn delete_elements(&mut self, table: &Table, set: &Set, elements: &[Element]) {
        self.elements(command::DELETE_ELEMENT, 0, table, set, elements);
    }

    fn elements(&mut self, command: u16, flags: u16, table: &Table, set: &Set, elements: &[Element]) {
        let mut run = Encoder::default();
        for element in elements {
            encode_element(&mut run, set, element);
            if run.len() >= limits::ELEMENT_BYTES_PER_MESSAGE {
                self.element_run(command, flags, table, set, &run);
                run = Encoder::default();
            }
        }
        if run.len() > 0 {
            self.element_run(command, flags, table, set, &run);
        }
    }

    fn element_run(&mut self, command: u16, flags: u16, table: &Table, set: &Set, run: &Encoder) {
        self.push(command, flags, table, format!("elements of set `{}`", set.name), |e| {
            e.text(1, &table.name);
            e.text(2, &set.name);
            e.nest(3, |e| e.append(run.bytes()));
        });
    }

    /// Creates an object with timeouts (seconds) for TCP connections of one family, for [`Rule::set_timeouts`].
    pub fn add_tcp_timeout(&mut self, table: &Table, name: &str, ipv4: bool, timeouts: &TcpTimeouts) {
        self.push(command::NEW_OBJECT, CREATE, table, format!("connection timeouts `{name}`"), |e| {
            e.text(1, &table.name);
            e.text(2, name);
            e.u32(3, OBJECT_CT_TIMEOUT);
            e.nest(4, |e| {
                e.u16(1, if ipv4 { 2 } else { 10 });
                e.u8(2, 6);
                e.nest(3, |e| {
                    e.u32(3, timeouts.established_s);
                    e.u32(4, timeouts.fin_wait_s);
                    e.u32(5, timeouts.close_wait_s);
                    e.u32(6, timeouts.last_ack_s);
                    e.u32(7, timeouts.time_wait_s);
                    e.u32(8, timeouts.close_s);
                });
            });
        });
    }

    /// Adds what is expected and not loaded, deletes what is loaded and not expected. For sets of single values.
    pub fn replace_elements(
        &mut self,
        table: &Table,
        set: &Set,
        loaded: &[crate::LoadedElement],
        expected: &[Element],
    ) {
        let is = |element: &Element, key: &Key| trimmed(set, &element.first) == &key.0[..];
        let gone: Vec<Element> = loaded
            .iter()
            .filter(|loaded| !expected.iter().any(|element| is(element, &loaded.key)))
            .map(|loaded| Element::single(loaded.key.clone()))
            .collect();
        let new: Vec<Element> = expected
            .iter()
            .filter(|element| !loaded.iter().any(|loaded| is(element, &loaded.key)))
            .cloned()
            .collect();
        self.delete_elements(table, set, &gone);
        self.add_elements(table, set, &new);
    }

    /// Appends another batch.
    pub fn append(&mut self, other: Self) {
        self.messages.extend(other.messages);
    }

    /// Divides it into transactions of at most that many bytes (one message may be larger), in order. Only
    /// sensible for additions that nothing refers to yet: each part holds by itself.
    pub fn split(self, bytes_max: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut part = Self::new();
        let mut bytes = 40;
        for message in self.messages {
            if bytes + message_bytes(&message) > bytes_max && !part.messages.is_empty() {
                parts.push(std::mem::take(&mut part));
                bytes = 40;
            }
            bytes += message_bytes(&message);
            part.messages.push(message);
        }
        if !part.messages.is_empty() {
            parts.push(part);
        }
        parts
    }

    fn push(
        &mut self,
        command: u16,
        flags: u16,
        table: &Table,
        what: String,
        fill: impl FnOnce(&mut Encoder),
    ) {
        let mut body = Encoder::default();
        fill(&mut body);
        self.messages.push(BatchMessage { command, flags, family: table.family.number(), body, what });
    }
}

/// Seconds that conntrack keeps a TCP connection in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpTimeouts {
    /// Open and silent.
    pub established_s: u32,
    /// One side closed.
    pub fin_wait_s: u32,
    /// The other side is to close.
    pub close_wait_s: u32,
    /// The last acknowledgement is missing.
    pub last_ack_s: u32,
    /// Closed by both.
    pub time_wait_s: u32,
    /// Reset.
    pub close_s: u32,
}

fn message_bytes(message: &BatchMessage) -> usize {
    message.body.len() + crate::wire::HEADER_BYTES + crate::wire::FAMILY_HEADER_BYTES
}

fn encode_device(e: &mut Encoder, hook: &Hook) {
    if let Some(device) = hook.device() {
        e.text(3, device);
    }
}

fn encode_description(e: &mut Encoder, set: &Set) {
    let fields = set.is_concatenation() && set.intervals;
    if !fields && set.elements_max.is_none() {
        return;
    }
    e.nest(9, |e| {
        if let Some(elements_max) = set.elements_max {
            e.u32(1, elements_max);
        }
        if fields {
            e.nest(2, |e| {
                for field in &set.key {
                    e.nest(1, |e| e.u32(1, field.bytes()));
                }
            });
        }
    });
}

fn encode_element(e: &mut Encoder, set: &Set, element: &Element) {
    for (entry, key_end, flags) in entries(set, element) {
        encode_key(e, &entry, trimmed(set, &entry.first), key_end.as_ref().map(|key| &key.0[..]), flags);
    }
}

/// The kernel's end mark of an interval.
pub(crate) const INTERVAL_END: u32 = 1;

/// What an element is to the kernel: itself, with its last key in a concatenation of intervals; a start and an
/// end mark in intervals of one field.
pub(crate) fn entries(set: &Set, element: &Element) -> Vec<(Element, Option<Key>, u32)> {
    let last = element.last.as_ref().unwrap_or(&element.first);
    match (set.intervals, set.is_concatenation()) {
        (false, _) => vec![(element.clone(), None, 0)],
        (true, true) => vec![(element.clone(), Some(last.clone()), 0)],
        (true, false) => {
            let end = last.successor().map(|end| (Element::single(end), None, INTERVAL_END));
            [Some((element.clone(), None, 0)), end].into_iter().flatten().collect()
        }
    }
}

/// A key of one short field is not padded.
pub(crate) fn trimmed<'a>(set: &Set, key: &'a Key) -> &'a [u8] {
    let bytes = usize::try_from(set.key_bytes()).unwrap_or(usize::MAX);
    key.0.get(..bytes).unwrap_or(&key.0)
}

fn encode_key(e: &mut Encoder, element: &Element, key: &[u8], key_end: Option<&[u8]>, flags: u32) {
    e.nest(1, |e| {
        e.nest(1, |e| e.attribute(1, key));
        if let Some(data) = &element.data {
            e.nest(2, |e| e.attribute(1, &data.0));
        }
        if flags != 0 {
            e.u32(3, flags);
        }
        if let Some(timeout) = element.timeout {
            e.u64(4, milliseconds(timeout));
        }
        if let Some(key_end) = key_end {
            e.nest(10, |e| e.attribute(1, key_end));
        }
    });
}

/// User data in the form in which `nft` keeps comments: type 0, length, text with its zero.
pub(crate) fn comment(text: &str) -> Vec<u8> {
    let text: String = text.chars().take(120).collect();
    let mut bytes = vec![0, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FieldKind;
    use std::net::Ipv4Addr;

    #[test]
    fn a_split_batch_keeps_every_message_in_order() {
        let table = Table::inet("t");
        let mut batch = Batch::new();
        for number in 0..100 {
            batch.add_rule(&table, &format!("c{number}"), &Rule::new().counter().accept());
        }
        let whole: Vec<String> = batch.messages.iter().map(|m| m.what.clone()).collect();
        let parts = batch.split(1000);
        assert!(parts.len() > 5);
        assert!(parts.iter().all(|part| part.bytes() <= 1000));
        let split: Vec<String> = parts.into_iter().flat_map(|p| p.messages).map(|m| m.what).collect();
        assert_eq!(split, whole);
    }

    #[test]
    fn elements_are_divided_before_an_attribute_overflows() {
        let table = Table::inet("t");
        let set = Set::new("s", &[FieldKind::Ipv4]).intervals();
        let elements: Vec<Element> =
            (0u32..10_000).map(|n| Element::single(Key::new().v4(Ipv4Addr::from(n * 4)))).collect();
        let mut batch = Batch::new();
        batch.add_elements(&table, &set, &elements);
        assert!(batch.messages.len() > 1);
        assert!(batch.messages.iter().all(|m| m.body.len() < 65_536));
    }
}

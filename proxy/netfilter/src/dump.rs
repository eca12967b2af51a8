//! What the kernel says is loaded, and whether it is what we loaded.
//!
//! A rule is compared attribute by attribute with the kernel's own dump; only the values of counters may
//! differ. So an inverted look-up, a changed constant or an added expression is noticed.

use crate::batch::{INTERVAL_END, command, comment, entries, trimmed};
use crate::connection::Connection;
use crate::error::NetlinkError;
use crate::rule::Rule;
use crate::set::{Element, Key, Set};
use crate::table::{Chain, Table};
use crate::wire::{Attributes, Encoder, text_of};
use std::time::Duration;

/// A chain as loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedChain {
    /// Its name.
    pub name: String,
    hook: Option<(u32, i32)>,
    device: Option<String>,
    policy: Option<u32>,
    chain_type: Option<String>,
}

impl LoadedChain {
    /// True if it is hooked where, and does what, `chain` says.
    pub fn is(&self, chain: &Chain) -> bool {
        let base = chain.base.as_ref();
        self.name == chain.name
            && self.hook == base.map(|base| (base.hook.number(), base.priority))
            && self.device.as_deref() == base.and_then(|base| base.hook.device())
            && self.policy == base.map(|base| base.policy.number())
            && self.chain_type.as_deref() == base.map(|base| base.chain_type.name())
    }
}

/// A rule as loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedRule {
    /// The chain it belongs to.
    pub chain: String,
    /// The kernel's number for it.
    pub handle: u64,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Packets that its counter saw, if it has one.
    pub packets: u64,
    /// Bytes that its counter saw, if it has one.
    pub bytes: u64,
    user_data: Vec<u8>,
    expressions: Vec<u8>,
}

impl LoadedRule {
    /// True if it does exactly what `rule` says.
    pub fn is(&self, rule: &Rule) -> bool {
        let user_data = rule.name.as_deref().map(comment).unwrap_or_default();
        self.user_data == user_data && same_expressions(rule.expressions.bytes(), &self.expressions)
    }

    /// The chain that its verdict goes or jumps to.
    pub fn target(&self) -> Option<String> {
        expressions(&self.expressions)
            .filter(|(name, _)| name == "immediate")
            .find_map(|(_, data)| data.inside(2).inside(2).text(2))
    }

    /// The sets and maps that it looks into, in order.
    pub fn sets(&self) -> Vec<String> {
        let looks_up = expressions(&self.expressions).filter(|(name, _)| name == "lookup");
        looks_up.filter_map(|(_, data)| data.text(1)).collect()
    }
}

/// A set as loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedSet {
    /// Its name.
    pub name: String,
    flags: u32,
    key_bytes: u32,
    data_bytes: Option<u32>,
}

impl LoadedSet {
    /// True if it has the shape of `set`.
    pub fn is(&self, set: &Set) -> bool {
        // The kernel may add flags of its own above the ones that describe a shape.
        const SHAPE: u32 = 0xff;
        self.name == set.name
            && self.flags & SHAPE == set.flags()
            && self.key_bytes == set.key_bytes()
            && self.data_bytes == set.data.map(crate::FieldKind::bytes)
    }
}

/// An element as loaded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoadedElement {
    /// First or only key; the first beyond an interval if `ends_interval`.
    pub key: Key,
    /// Last key, in concatenations of intervals.
    pub key_end: Option<Key>,
    /// True for the end mark of an interval of one field.
    pub ends_interval: bool,
    /// What a map holds for it.
    pub data: Option<Key>,
    /// Packets that its counter saw, if it has one.
    pub packets: u64,
    /// Bytes that its counter saw, if it has one.
    pub bytes: u64,
    /// Time until it vanishes, if it does.
    pub expires_in: Option<Duration>,
}

/// True if exactly the expected elements are loaded, in any order.
pub fn same_elements(set: &Set, expected: &[Element], loaded: &[LoadedElement]) -> bool {
    let mut expected: Vec<_> = expected
        .iter()
        .flat_map(|element| entries(set, element))
        .map(|(entry, key_end, flags)| {
            (trimmed(set, &entry.first).to_vec(), key_end, flags == INTERVAL_END, entry.data)
        })
        .collect();
    let mut loaded: Vec<_> = loaded
        .iter()
        .map(|element| {
            (element.key.0.clone(), element.key_end.clone(), element.ends_interval, element.data.clone())
        })
        .collect();
    expected.sort_unstable();
    loaded.sort_unstable();
    expected == loaded
}

impl Connection {
    /// True if the table is loaded.
    pub fn table_exists(&mut self, table: &Table) -> Result<bool, NetlinkError> {
        Ok(self.tables()?.contains(table))
    }

    /// Every table of this network namespace that is of a family we know.
    pub fn tables(&mut self) -> Result<Vec<Table>, NetlinkError> {
        self.dump(
            command::GET_TABLE,
            None,
            "the list of tables",
            |_| {},
            |message| {
                let name = message.attributes().text(1)?;
                match message.family() {
                    1 => Some(Table::inet(&name)),
                    5 => Some(Table::netdev(&name)),
                    _ => None,
                }
            },
        )
    }

    /// Every chain of this network namespace that packets enter at a hook, of whatever family, as (family, table, chain);
    /// families by their number (`NFPROTO_…`).
    pub fn hooked_chains(&mut self) -> Result<Vec<(u8, String, String)>, NetlinkError> {
        self.dump(
            command::GET_CHAIN,
            None,
            "the list of all chains",
            |_| {},
            |message| {
                let attributes = message.attributes();
                attributes.value(4)?;
                Some((message.family(), attributes.text(1)?, attributes.text(3)?))
            },
        )
    }

    /// The chains of a table.
    pub fn chains(&mut self, table: &Table) -> Result<Vec<LoadedChain>, NetlinkError> {
        self.of_table(command::GET_CHAIN, table, "the list of chains", loaded_chain)
    }

    /// The rules of a table, in order within each chain.
    pub fn rules(&mut self, table: &Table) -> Result<Vec<LoadedRule>, NetlinkError> {
        self.of_table(command::GET_RULE, table, "the list of rules", loaded_rule)
    }

    /// The sets and maps of a table.
    pub fn sets(&mut self, table: &Table) -> Result<Vec<LoadedSet>, NetlinkError> {
        self.of_table(command::GET_SET, table, "the list of sets", loaded_set)
    }

    /// The elements of a set.
    pub fn elements(&mut self, table: &Table, set: &str) -> Result<Vec<LoadedElement>, NetlinkError> {
        let what = format!("the elements of set `{set}`");
        let fill = |e: &mut Encoder| {
            e.text(1, &table.name);
            e.text(2, set);
        };
        let parts = self.dump(command::GET_ELEMENT, Some(table), &what, fill, |message| {
            let elements = message.attributes().inside(3);
            Some(elements.filter_map(|(_, e)| loaded_element(&Attributes(e))).collect::<Vec<_>>())
        })?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Tables, chains, rules and sets all carry the table's name as attribute 1; older kernels ignore it as a
    /// filter for chains.
    fn of_table<T>(
        &mut self,
        command: u16,
        table: &Table,
        what: &str,
        read: impl Fn(&Attributes<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        self.dump(
            command,
            Some(table),
            what,
            |e| e.text(1, &table.name),
            |message| {
                let attributes = message.attributes();
                if attributes.text(1).as_deref() == Some(&table.name) { read(&attributes) } else { None }
            },
        )
    }
}

fn loaded_set(attributes: &Attributes<'_>) -> Option<LoadedSet> {
    Some(LoadedSet {
        name: attributes.text(2)?,
        flags: attributes.u32(3).unwrap_or(0),
        key_bytes: attributes.u32(5)?,
        data_bytes: attributes.u32(7),
    })
}

fn loaded_chain(attributes: &Attributes<'_>) -> Option<LoadedChain> {
    let hook = attributes.value(4).map(|hook| {
        let hook = Attributes(hook);
        let priority = hook.value(2).and_then(|value| value.try_into().ok()).map_or(0, i32::from_be_bytes);
        (hook.u32(1).unwrap_or(u32::MAX), priority)
    });
    Some(LoadedChain {
        name: attributes.text(3)?,
        hook,
        device: attributes.inside(4).text(3),
        policy: attributes.u32(5),
        chain_type: attributes.text(7),
    })
}

fn loaded_rule(attributes: &Attributes<'_>) -> Option<LoadedRule> {
    let raw = attributes.value(4).unwrap_or_default();
    let user_data = attributes.value(7).unwrap_or_default();
    let (bytes, packets) = expressions(raw)
        .find(|(name, _)| name == "counter")
        .map_or((0, 0), |(_, data)| (data.u64(1).unwrap_or(0), data.u64(2).unwrap_or(0)));
    Some(LoadedRule {
        chain: attributes.text(2)?,
        handle: attributes.u64(3)?,
        name: user_data.get(2..).filter(|_| user_data.first() == Some(&0)).map(text_of),
        packets,
        bytes,
        user_data: user_data.to_vec(),
        expressions: raw.to_vec(),
    })
}

fn loaded_element(attributes: &Attributes<'_>) -> Option<LoadedElement> {
    let key = |kind| attributes.inside(kind).value(1).map(|bytes| Key(bytes.to_vec()));
    let counter = match attributes.value(7) {
        Some(expression) => Some(expression),
        None => attributes.inside(11).value(1),
    };
    let counter = Attributes(counter.unwrap_or_default()).inside(2);
    Some(LoadedElement {
        key: key(1)?,
        key_end: key(10),
        ends_interval: attributes.u32(3).unwrap_or(0) & 1 != 0,
        data: key(2),
        bytes: counter.u64(1).unwrap_or(0),
        packets: counter.u64(2).unwrap_or(0),
        expires_in: attributes.u64(5).map(Duration::from_millis),
    })
}

/// The expressions of a rule as (name, attributes).
fn expressions(raw: &[u8]) -> impl Iterator<Item = (String, Attributes<'_>)> {
    Attributes(raw).filter_map(|(_, expression)| {
        let expression = Attributes(expression);
        Some((expression.text(1)?, expression.inside(2)))
    })
}

fn same_expressions(ours: &[u8], loaded: &[u8]) -> bool {
    let (mut ours, mut loaded) = (expressions(ours), expressions(loaded));
    loop {
        match (ours.next(), loaded.next()) {
            (None, None) => return true,
            (Some((name, _)), Some((loaded_name, _))) if name == "counter" && loaded_name == name => {}
            (Some((name, data)), Some((loaded_name, loaded_data))) => {
                // The counter inside a dynamic set's statement is its start value, never changed.
                if name != loaded_name || !same_attributes(data, loaded_data, name == "dynset") {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Same types and values in any order. What is nested is told by our own flag: the kernel does not set it.
fn same_attributes(ours: Attributes<'_>, loaded: Attributes<'_>, dynamic: bool) -> bool {
    /// `NFTA_DYNSET_EXPRESSIONS`: newer kernels may name the one expression a second time, as a list.
    const EXPRESSIONS: u16 = 11;
    let found = loaded.clone().filter(|(kind, _)| !(dynamic && *kind == EXPRESSIONS)).count();
    if ours.clone().count() != found {
        return false;
    }
    let mut rest = ours;
    while let Some((kind, nested, value)) = rest.next_with_nesting() {
        let Some(other) = loaded.value(kind) else { return false };
        let same = match nested {
            true => same_attributes(Attributes(value), Attributes(other), false),
            false => value == other,
        };
        if !same {
            return false;
        }
    }
    true
}

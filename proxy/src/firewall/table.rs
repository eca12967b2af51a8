//! Loading, switching and comparing the table. Knows the transactions; `mod.rs` knows when.

use super::chains::{PREROUTING, Rules, TCP_TIMEOUTS, lasting, switching_hooks};
use super::judgement::{Generation, entrances};
use super::names::NamedAddress;
use super::options::FirewallOptions;
use super::{elements, frames, hooks, names, sets};
use bulkhead_netfilter::route::Device;
use bulkhead_netfilter::{
    Batch, Connection, Element, LoadedRule, NetlinkError, Rule, Set, Table, TcpTimeouts, same_elements,
};
use bulkhead_policies::decide::Judge;
use std::collections::BTreeMap;

/// The table of packets.
pub(super) fn packets(name: &str) -> Table {
    Table::inet(name)
}

/// Everything that the table holds, in the order in which it can be made.
pub(super) struct Content {
    sets: Vec<(Set, Vec<Element>)>,
    dynamic: Vec<Set>,
    chains: Vec<Rules>,
}

impl Content {
    /// All of it, for a generation; without elements of a program that is not given.
    pub(super) fn whole(options: &FirewallOptions, generation: Generation, judge: Option<&Judge>) -> Self {
        let mut content = Self {
            sets: sets::constant(options),
            dynamic: sets::dynamic(),
            chains: lasting(options, generation.captures),
        };
        let [prerouting, output] = switching_hooks();
        let [(_, into_prerouting), (_, into_output)] = entrances(generation, options);
        content.chains.push((prerouting, into_prerouting.to_vec()));
        content.chains.push((output, into_output.to_vec()));
        content.append(Self::generation(options, generation, judge));
        content
    }

    /// The part that belongs to one generation.
    pub(super) fn generation(
        options: &FirewallOptions,
        generation: Generation,
        judge: Option<&Judge>,
    ) -> Self {
        let sets = judge.map_or_else(Vec::new, |judge| elements::of_program(generation.maps, judge));
        let dynamic = if generation.has_names { names::maps(generation.maps) } else { Vec::new() };
        Self { sets, dynamic, chains: generation.chains(options) }
    }

    fn append(&mut self, other: Self) {
        self.sets.extend(other.sets);
        self.dynamic.extend(other.dynamic);
        self.chains.extend(other.chains);
    }

    /// What it takes to create it. All chains come before all rules, since rules name chains.
    pub(super) fn creation(&self, table: &Table) -> Batch {
        let mut batch = Batch::new();
        for set in self.sets.iter().map(|(set, _)| set).chain(&self.dynamic) {
            batch.add_set(table, set);
        }
        for (set, elements) in &self.sets {
            batch.add_elements(table, set, elements);
        }
        for (chain, _) in &self.chains {
            batch.add_chain(table, chain);
        }
        self.add_rules(&mut batch, table);
        batch
    }

    fn add_rules(&self, batch: &mut Batch, table: &Table) {
        for (chain, rules) in &self.chains {
            for rule in rules {
                batch.add_rule(table, chain.name(), rule);
            }
        }
    }

    /// The first thing in which what is loaded differs, in words. Sets without expected elements are compared by
    /// shape only; `elements` says whether the others are looked into.
    pub(super) fn difference(
        &self,
        connection: &mut Connection,
        table: &Table,
        look_into_sets: bool,
    ) -> Result<Option<String>, NetlinkError> {
        if !connection.table_exists(table)? {
            return Ok(Some("the table is gone".to_owned()));
        }
        let chains = connection.chains(table)?;
        let rules = by_chain(connection.rules(table)?);
        for (chain, expected) in &self.chains {
            if !chains.iter().any(|loaded| loaded.is(chain)) {
                return Ok(Some(format!("chain `{}` is missing or hooked otherwise", chain.name())));
            }
            if !same_rules(expected, rules.get(chain.name()).map_or(&[], Vec::as_slice)) {
                return Ok(Some(format!("the rules of chain `{}` differ", chain.name())));
            }
        }
        let loaded = connection.sets(table)?;
        for set in self.sets.iter().map(|(set, _)| set).chain(&self.dynamic) {
            if !loaded.iter().any(|loaded| loaded.is(set)) {
                return Ok(Some(format!("set `{}` is missing or of another shape", set.name())));
            }
        }
        if !look_into_sets {
            return Ok(None);
        }
        for (set, expected) in &self.sets {
            if !same_elements(set, expected, &connection.elements(table, set.name())?) {
                return Ok(Some(format!("the elements of set `{}` differ", set.name())));
            }
        }
        Ok(None)
    }
}

fn by_chain(rules: Vec<LoadedRule>) -> BTreeMap<String, Vec<LoadedRule>> {
    let mut chains: BTreeMap<String, Vec<LoadedRule>> = BTreeMap::new();
    for rule in rules {
        chains.entry(rule.chain.clone()).or_default().push(rule);
    }
    chains
}

fn same_rules(expected: &[Rule], loaded: &[LoadedRule]) -> bool {
    expected.len() == loaded.len() && expected.iter().zip(loaded).all(|(rule, loaded)| loaded.is(rule))
}

/// The whole closed table in one transaction, in place of whatever has its name. It has no look-ups, so there is no
/// map that could be seen empty.
pub(super) fn load_closed(
    connection: &mut Connection,
    tables: (&Table, &Table),
    options: &FirewallOptions,
    generation: Generation,
    devices: &[Device],
) -> Result<(), NetlinkError> {
    let (packets, frames) = tables;
    let mut batch = Batch::new();
    for table in [packets, frames] {
        // Deleting what is not there is an error; so it is made first.
        batch.add_table(table);
        batch.delete_table(table);
        batch.add_table(table);
    }
    for (name, ipv4) in TCP_TIMEOUTS {
        batch.add_tcp_timeout(packets, name, ipv4, &TIMEOUTS);
    }
    batch.append(Content::whole(options, generation, None).creation(packets));
    for device in devices {
        frames::add(&mut batch, frames, device, options);
    }
    connection.commit(&batch)
}

/// Five days.
const OPEN_S: u32 = 432_000;
/// What is open and silent is kept as long as the kernel does by itself, and so is what one side has closed: an answer may
/// take its time, and what is forgotten would be judged anew, by whoever speaks next. Ends of connections are reported soon.
pub(super) const TIMEOUTS: TcpTimeouts = TcpTimeouts {
    established_s: OPEN_S,
    fin_wait_s: 30,
    close_wait_s: OPEN_S,
    last_ack_s: 15,
    time_wait_s: 5,
    close_s: 1,
};

/// Gives the lasting chains of a table that was found the rules of this run: its marks are its own. One transaction;
/// the sets that these rules use exist already.
pub(super) fn renew_lasting_chains(
    connection: &mut Connection,
    tables: (&Table, &Table),
    options: &FirewallOptions,
    generation: Generation,
    devices: &[Device],
) -> Result<(), NetlinkError> {
    let (packets, frames) = tables;
    let mut batch = Batch::new();
    let mut chains = lasting(options, generation.captures);
    chains.extend(generation.chains(options));
    for (chain, rules) in &chains {
        batch.flush_chain(packets, chain.name());
        for rule in rules {
            batch.add_rule(packets, chain.name(), rule);
        }
    }
    enter(&mut batch, packets, options, generation);
    for (set, elements) in sets::constant(options) {
        let loaded = connection.elements(packets, set.name())?;
        batch.replace_elements(packets, &set, &loaded, &elements);
    }
    let guarded = connection.chains(frames)?;
    for device in devices {
        match guarded.iter().any(|chain| chain.is(&frames::chain(device))) {
            true => frames::renew(&mut batch, frames, device, options),
            false => frames::add(&mut batch, frames, device, options),
        }
    }
    connection.commit(&batch)
}

/// The hooks for captured flows, before there can be one.
pub(super) fn begin_capturing(
    connection: &mut Connection,
    table: &Table,
    options: &FirewallOptions,
) -> Result<(), NetlinkError> {
    let chains = hooks::capturing(options);
    connection.commit(&Content { sets: Vec::new(), dynamic: Vec::new(), chains }.creation(table))
}

/// Once nothing is captured any more.
pub(super) fn end_capturing(
    connection: &mut Connection,
    table: &Table,
    options: &FirewallOptions,
) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    for (chain, _) in hooks::capturing(options) {
        batch.flush_chain(table, chain.name());
        batch.delete_chain(table, chain.name());
    }
    connection.commit(&batch)
}

/// First transaction of a reload: maps and chains that nothing refers to yet.
pub(super) fn stage(
    connection: &mut Connection,
    table: &Table,
    options: &FirewallOptions,
    generation: Generation,
    judge: &Judge,
    named: &[NamedAddress],
) -> Result<(), NetlinkError> {
    let mut creation = Content::generation(options, generation, Some(judge)).creation(table);
    names::add(&mut creation, table, generation.maps, named);
    connection.commit_in_parts(creation)
}

/// The chains of a generation whose maps are there: nothing refers to them yet.
pub(super) fn chains_creation(table: &Table, options: &FirewallOptions, generation: Generation) -> Batch {
    let chains = generation.chains(options);
    Content { sets: Vec::new(), dynamic: Vec::new(), chains }.creation(table)
}

/// Last transaction of a change: both hooks enter the new generation, the old one goes, and then `gone`.
pub(super) fn switch(
    connection: &mut Connection,
    table: &Table,
    options: &FirewallOptions,
    generation: Generation,
    gone: Batch,
) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    enter(&mut batch, table, options, generation);
    remove_others(connection, table, &mut batch, generation)?;
    batch.append(gone);
    connection.commit(&batch)
}

/// Both hooks enter the generation from here on.
fn enter(batch: &mut Batch, table: &Table, options: &FirewallOptions, generation: Generation) {
    for (hook, entrance) in entrances(generation, options) {
        batch.flush_chain(table, hook);
        entrance.iter().for_each(|rule| batch.add_rule(table, hook, rule));
    }
}

/// Removes what is left of other generations, for example by a reload that failed half-way.
pub(super) fn clean(
    connection: &mut Connection,
    table: &Table,
    current: Generation,
) -> Result<(), NetlinkError> {
    let mut batch = Batch::new();
    remove_others(connection, table, &mut batch, current)?;
    connection.commit(&batch)
}

/// Rules first: they refer to chains and maps.
fn remove_others(
    connection: &mut Connection,
    table: &Table,
    batch: &mut Batch,
    kept: Generation,
) -> Result<(), NetlinkError> {
    let is_other = |name: &str, kept| number_suffix(name).is_some_and(|number| number != kept);
    let chains = connection.chains(table)?.into_iter().map(|chain| chain.name);
    let chains: Vec<String> = chains.filter(|name| is_other(name, kept.number)).collect();
    chains.iter().for_each(|chain| batch.flush_chain(table, chain));
    chains.iter().for_each(|chain| batch.delete_chain(table, chain));
    for set in connection.sets(table)?.into_iter().filter(|set| is_other(&set.name, kept.maps)) {
        batch.delete_set(table, &set.name);
    }
    Ok(())
}

/// Chains of a generation end in its number, maps in theirs; no lasting name does.
fn number_suffix(name: &str) -> Option<u16> {
    name.rsplit_once('_')?.1.parse().ok()
}

/// The generation that a loaded table enters, if it is one of ours.
pub(super) fn found_generation(
    connection: &mut Connection,
    table: &Table,
) -> Result<Option<Generation>, NetlinkError> {
    if !connection.table_exists(table)? {
        return Ok(None);
    }
    let rules = connection.rules(table)?;
    let entrance = rules.iter().filter(|rule| rule.chain == PREROUTING).find_map(LoadedRule::target);
    let Some(number) = entrance.as_deref().and_then(Generation::number_of) else { return Ok(None) };
    let captures = rules.iter().any(|rule| rule.chain == hooks::ZONE);
    let of_generation = rules.iter().filter(|rule| number_suffix(&rule.chain) == Some(number));
    let asked: Vec<String> = of_generation.flat_map(LoadedRule::sets).collect();
    let Some(maps) = asked.iter().find_map(|set| number_suffix(set)) else {
        return Ok(Some(Generation { captures, ..Generation::closed(number) }));
    };
    let has_names = asked.iter().any(|set| names::maps(maps).iter().any(|map| map.name() == set));
    Ok(Some(Generation { number, maps, has_program: true, has_names, captures }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lasting_name_looks_like_that_of_a_generation() {
        let options = FirewallOptions::new(1).expect("random");
        for (chain, _) in lasting(&options, true) {
            assert_eq!(number_suffix(chain.name()), None, "{}", chain.name());
        }
        for set in sets::constant(&options).into_iter().map(|(set, _)| set).chain(sets::dynamic()) {
            assert_eq!(number_suffix(set.name()), None, "{}", set.name());
        }
        let generation =
            Generation { number: 4095, maps: 17, has_program: true, has_names: true, captures: true };
        for (chain, _) in generation.chains(&options) {
            assert_eq!(number_suffix(chain.name()), Some(4095));
        }
        for map in names::maps(17) {
            assert_eq!(number_suffix(map.name()), Some(17));
        }
    }
}

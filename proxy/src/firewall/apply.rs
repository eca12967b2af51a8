//! From one program to the next: by elements of the maps in force where that is all that differs, else by a reload in two
//! transactions.
//!
//! | what differs | what is done |
//! |---|---|
//! | addresses come, classes come | elements are added; no flow notices |
//! | addresses go or pass to another class, classes go | elements change, then the generation moves: everything open is judged again by its next packet |
//! | anything else, or very much | new maps and chains, then the hooks enter them |
//!
//! What an element change leaves behind if it fails part-way goes with the reload that follows. See `change.rs` for what
//! tells programs apart.

use super::change::ElementChange;
use super::elements;
use super::names::{self, NamedAddress};
use super::{Applied, Firewall, FirewallError, Means, limits, table};
use crate::firewall::Mark;
use bulkhead_netfilter::Batch;
use bulkhead_policies::decide::Judge;
use std::sync::Arc;

/// The low bits of generations whose marks are cleared at once.
const GENERATIONS_CLEARED: u16 = 0xff;

impl Firewall {
    /// Makes the kernel enforce a program. Flows that it still allows go on, others stop at the last transaction.
    /// An error changes nothing.
    pub fn apply(&mut self, judge: &Arc<Judge>) -> Result<Applied, FirewallError> {
        self.apply_with_names(judge, &[])
    }

    /// [`apply`](Self::apply), with the addresses that names lead to, by their classes in the new program.
    pub fn apply_with_names(
        &mut self,
        judge: &Arc<Judge>,
        named: &[NamedAddress],
    ) -> Result<Applied, FirewallError> {
        let entries = elements::count(judge);
        if entries > limits::PROGRAM_ENTRIES_MAX {
            return Err(FirewallError::TooLarge { entries, most: limits::PROGRAM_ENTRIES_MAX });
        }
        let captures = elements::captures(judge);
        if captures {
            self.begin_capturing()?;
        }
        let before = self.generation;
        let means = self.replace(judge, named)?;
        // To look at every connection takes longer than all else where they are many.
        let inspects_more = self.judge.as_ref().is_none_or(|old| elements::inspects_more(old, judge));
        self.judge = Some(judge.clone());
        self.named = names::loaded(named);
        self.transactions = None;
        // The program is in force without: such conversations are cut by their next packet.
        let _ = self.end_uncaptured(judge, inspects_more && self.generation != before);
        if !captures {
            // The program is in force; what is left costs time only.
            let _ = self.end_capturing();
        }
        Ok(Applied { generation: self.generation.number, means })
    }

    fn replace(&mut self, judge: &Arc<Judge>, named: &[NamedAddress]) -> Result<Means, FirewallError> {
        let change = self.element_change(judge, named);
        let halfway = match change.map(|change| self.change_elements(&change, judge)) {
            Some(Ok(())) => return Ok(Means::Elements),
            Some(Err(_)) => {
                // It may have begun.
                self.cleared_to = None;
                true
            }
            None => false,
        };
        if table::found_generation(&mut self.connection, &self.packets)? != Some(self.generation) {
            self.close()?;
        }
        match self.reload(judge, named) {
            Err(error) => {
                if let (true, Some(before)) = (halfway, self.judge.clone()) {
                    let named: Vec<NamedAddress> = self.named.values().copied().collect();
                    // What is left if this fails too is found and undone by the next comparison.
                    let _ = self.reload(&before, &named);
                }
                self.transactions = None;
                Err(error)
            }
            Ok(()) => Ok(Means::Reload),
        }
    }

    /// What tells the program from the one in force; `None` if it takes a reload.
    fn element_change(&self, judge: &Judge, named: &[NamedAddress]) -> Option<ElementChange> {
        let before = self.judge.as_ref().filter(|_| self.generation.has_program)?;
        let number = self.generation.maps;
        ElementChange::between(before, judge, number)?.with_named(&self.named, named, number)
    }

    fn change_elements(&mut self, change: &ElementChange, judge: &Arc<Judge>) -> Result<(), FirewallError> {
        let generation = match change.judges_again {
            true => self.generation.judging_again(),
            false => self.generation,
        };
        let mut beforehand = change.beforehand(&self.packets);
        if change.judges_again {
            self.clear_marks_of(generation.number)?;
            beforehand.append(table::chains_creation(&self.packets, &self.options, generation));
        }
        let exchange = change.exchange(&self.packets);
        let fits = |batch: &Batch| batch.bytes() <= self.connection.transaction_bytes_max();
        if !fits(&beforehand) || !fits(&exchange) {
            return Err(FirewallError::TooLarge {
                entries: elements::count(judge),
                most: limits::CHANGED_ELEMENTS_MAX,
            });
        }
        self.transactions = None;
        self.connection.commit(&beforehand)?;
        // The new program names alike what marks of the old one name.
        self.answers.remember(self.generation.number, judge.clone());
        self.connection.commit(&exchange)?;
        if change.judges_again {
            self.answers.remember(generation.number, judge.clone());
            let afterwards = change.afterwards(&self.packets);
            table::switch(&mut self.connection, &self.packets, &self.options, generation, afterwards)?;
        }
        self.generation = generation;
        Ok(())
    }

    /// New maps and chains, then the hooks enter them.
    pub(super) fn reload(&mut self, judge: &Arc<Judge>, named: &[NamedAddress]) -> Result<(), FirewallError> {
        let generation = self.generation.followed_by(judge);
        self.clear_marks_of(generation.number)?;
        table::clean(&mut self.connection, &self.packets, self.generation)?;
        let staged =
            table::stage(&mut self.connection, &self.packets, &self.options, generation, judge, named);
        // Before the switch: its first packets may be logged at once.
        self.answers.remember(generation.number, judge.clone());
        let switched = staged.and_then(|()| {
            table::switch(&mut self.connection, &self.packets, &self.options, generation, Batch::new())
        });
        if let Err(error) = switched {
            // It may have begun.
            self.cleared_to = None;
            self.answers.forget(generation.number);
            // What is left of it is in nobody's way and goes with the next reload.
            let _ = table::clean(&mut self.connection, &self.packets, self.generation);
            return Err(error.into());
        }
        self.generation = generation;
        self.transactions = None;
        Ok(())
    }

    /// The closed table in place of what is there, then the program that was in force.
    pub(super) fn restore(&mut self) -> Result<(), FirewallError> {
        self.close()?;
        let Some(judge) = self.judge.clone() else { return Ok(()) };
        if elements::captures(&judge) {
            self.begin_capturing()?;
        }
        let named: Vec<NamedAddress> = self.named.values().copied().collect();
        self.reload(&judge, &named)?;
        // What was opened while nobody held it.
        let _ = self.end_uncaptured(&judge, true);
        Ok(())
    }

    /// Clears the marks of the generations that come next, which takes a look at every connection of the machine: for idle
    /// times, so that [`apply`](Self::apply) need not.
    pub fn prepare_next(&mut self) -> Result<(), FirewallError> {
        self.clear_marks_of(self.generation.next_number())
    }

    /// No flow may carry the mark of a generation that is about to begin: it would pass unjudged. Nobody sets such a mark before,
    /// so one look at the connections is for all generations that share the high bits of the number.
    pub(super) fn clear_marks_of(&mut self, generation: u16) -> Result<(), FirewallError> {
        let (high, last) = (generation & !GENERATIONS_CLEARED, generation | GENERATIONS_CLEARED);
        if self.cleared_to == Some(last) {
            return Ok(());
        }
        let mask = Mark::nothing_matched(Mark::GENERATION_MAX & !GENERATIONS_CLEARED);
        let from = Mark::nothing_matched(generation);
        let flows = self.conntrack.flows(Mark::nothing_matched(high), mask)?;
        for flow in flows.into_iter().filter(|flow| flow.mark >= from) {
            self.conntrack.set_mark(&flow, 0)?;
        }
        self.cleared_to = Some(last);
        Ok(())
    }
}

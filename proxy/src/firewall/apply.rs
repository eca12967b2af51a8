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
        let means = self.replace(judge, named)?;
        self.judge = Some(judge.clone());
        self.named = names::loaded(named);
        self.transactions = None;
        // The program is in force without: such conversations are refused until they are forgotten.
        let _ = self.forget_uncaptured_datagrams(judge);
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
            Some(Err(_)) => true,
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
        self.reload(&judge, &named)
    }

    /// Clears the marks of the generation that comes next, which takes a look at every connection of the machine: for idle
    /// times, so that [`apply`](Self::apply) need not. Nobody sets them before that generation begins.
    pub fn prepare_next(&mut self) -> Result<(), FirewallError> {
        let next = self.generation.next_number();
        if self.cleared != Some(next) {
            self.clear_marks_of(next)?;
            self.cleared = Some(next);
        }
        Ok(())
    }

    /// No flow may carry the mark of a generation that is about to begin: it would pass unjudged.
    pub(super) fn clear_marks_of(&mut self, generation: u16) -> Result<(), FirewallError> {
        if self.cleared.take() == Some(generation) {
            return Ok(());
        }
        let mark = Mark::nothing_matched(generation);
        for flow in self.conntrack.flows(mark, Mark::GENERATION_MASK)? {
            self.conntrack.set_mark(&flow, 0)?;
        }
        Ok(())
    }
}

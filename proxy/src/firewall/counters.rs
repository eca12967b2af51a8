//! What the named rules of the table saw: the infrastructure's, the guards, the verdicts.

use super::{Firewall, FirewallError};

/// What a named rule of the table saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The name, for example `neighbour discovery in`.
    pub name: String,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Firewall {
    /// Every named counter of the table: what the infrastructure's rules, the guards and the verdicts saw since this
    /// sidecar took over.
    pub fn counters(&mut self) -> Result<Vec<Counter>, FirewallError> {
        let mut rules = self.connection.rules(&self.packets)?;
        rules.extend(self.connection.rules(&self.frames)?);
        let mut counters: Vec<Counter> = Vec::new();
        for rule in rules {
            let Some(name) = rule.name else { continue };
            match counters.iter_mut().find(|counter| counter.name == name) {
                Some(counter) => {
                    counter.packets += rule.packets;
                    counter.bytes += rule.bytes;
                }
                None => counters.push(Counter { name, packets: rule.packets, bytes: rule.bytes }),
            }
        }
        Ok(counters)
    }
}

//! Evasion: everything that a program in a pod can try to get past its firewall.
//!
//! First without a firewall: each attack must arrive, or its silence later would prove nothing (`control`). Then with
//! real sidecars, with each set of rights (`trial`), against the table of the manual (`table`), and without pause while
//! sidecars start and die (`storm`). Needs network
//! namespaces, so root or a user namespace; where neither is to be had the tests say that they were skipped.

mod control;
mod controller;
mod ground;
mod namespaces;
mod reloads;
mod sidecars;
mod storm;
mod table;
mod trial;

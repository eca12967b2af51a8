//! Bounds the names that peers make up: hosts and paths of requests on one edge.
//!
//! A peer that asks for ever new names would fill the report with them. Beyond the limit both become [`ANY`]: the edge,
//! its answers and its counts stay exact, and which names there were besides is no longer told.

use crate::limits::FLOW_NAMES_PER_EDGE_MAX;
use bulkhead_api::HttpSignature;
use bulkhead_facts::Direction;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// What stands for a host and a path that are not told apart. Neither can be called so.
pub(super) const ANY: &str = "*";

/// Direction, peer and port.
pub(super) type NamedEdge = (Direction, IpAddr, u16);

/// The names that the report holds.
#[derive(Default)]
pub(super) struct Names {
    edges: HashMap<NamedEdge, EdgeNames>,
}

#[derive(Default)]
struct EdgeNames {
    hosts: HashSet<String>,
    paths: HashSet<String>,
}

impl Names {
    /// Replaces host and path by [`ANY`] if one of them is new on an edge that has enough.
    pub(super) fn bound(&self, edge: &NamedEdge, http: &mut HttpSignature) {
        let Some(known) = self.edges.get(edge) else { return };
        let fits = |known: &HashSet<String>, name: &String| {
            known.len() < FLOW_NAMES_PER_EDGE_MAX || known.contains(name)
        };
        if !fits(&known.hosts, &http.host) || !fits(&known.paths, &http.path_template) {
            ANY.clone_into(&mut http.host);
            ANY.clone_into(&mut http.path_template);
        }
    }

    /// The report now holds these names.
    pub(super) fn learn(&mut self, edge: NamedEdge, http: &HttpSignature) {
        if http.path_template == ANY && http.host == ANY {
            return;
        }
        let known = self.edges.entry(edge).or_default();
        for (known, name) in [(&mut known.hosts, &http.host), (&mut known.paths, &http.path_template)] {
            if !known.contains(name) {
                known.insert(name.clone());
            }
        }
    }
}

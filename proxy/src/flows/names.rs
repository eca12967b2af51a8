//! Bounds the names that peers make up: hosts, paths and other requests on one edge.
//!
//! A peer that asks for ever new names would fill the report with them. Beyond the limit host and path become [`ANY`], another
//! request [`RequestSignature::Others`]: the edge, its answers and its counts stay exact, and which names there were besides
//! is no longer told.

use crate::limits::FLOW_NAMES_PER_EDGE_MAX;
use bulkhead_api::{HttpSignature, RequestSignature};
use bulkhead_facts::Direction;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

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
    requests: HashSet<Arc<RequestSignature>>,
}

impl Names {
    /// Replaces host and path by [`ANY`] if one of them is new on an edge that has enough.
    pub(super) fn bound(&self, edge: &NamedEdge, http: &mut Arc<HttpSignature>) {
        let Some(known) = self.edges.get(edge) else { return };
        let fits = |known: &HashSet<String>, name: &String| {
            known.len() < FLOW_NAMES_PER_EDGE_MAX || known.contains(name)
        };
        if !fits(&known.hosts, &http.host) || !fits(&known.paths, &http.path_template) {
            let http = Arc::make_mut(http);
            ANY.clone_into(&mut http.host);
            ANY.clone_into(&mut http.path_template);
        }
    }

    /// Replaces a request that is new on an edge that has enough of them.
    pub(super) fn bound_request(&self, edge: &NamedEdge, request: &mut Arc<RequestSignature>) {
        let Some(known) = self.edges.get(edge) else { return };
        if known.requests.len() >= FLOW_NAMES_PER_EDGE_MAX && !known.requests.contains(request) {
            *request = Arc::new(RequestSignature::Others);
        }
    }

    /// The report now holds this.
    pub(super) fn learn_all(
        &mut self,
        edge: NamedEdge,
        http: Option<&HttpSignature>,
        request: Option<&Arc<RequestSignature>>,
    ) {
        if let Some(http) = http {
            self.learn(edge, http);
        }
        if let Some(request) = request.filter(|request| ***request != RequestSignature::Others) {
            self.edges.entry(edge).or_default().requests.insert(Arc::clone(request));
        }
    }

    fn learn(&mut self, edge: NamedEdge, http: &HttpSignature) {
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

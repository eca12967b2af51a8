//! The index of one stage: which of its entries is the first to match a request.
//!
//! A trie of path segments leads to terminals; at a terminal, method and host pick a short list of candidates.
//! No step looks at all entries, and none allocates. An entry without an HTTP section matches everything and
//! bounds the search.

use super::Around;
use super::headers::{headers_match, websocket_matches};
use super::query::query_matches;
use super::text_table::TextTable;
use crate::model::{HeaderMatch, HttpMatch, L7Section, QueryMatch};
use crate::program::{L7Entry, L7Stage};
use bulkhead_facts::{Effect, HostName, HostPattern, HttpRequest};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// Any method, any host.
const ANY: u32 = 0;
/// The host of a request that names none: deny entries with hosts match it, since nobody can say they would not.
const HOSTLESS: u32 = 1;
/// An upper bound of the labels of a host name, so of the `*.` patterns that can match one.
const HOST_IDS_MAX: usize = 130;
/// No node, no entry.
const NONE: u32 = u32::MAX;

/// What is asked: everything but the path, looked up once per request.
pub(super) struct Question<'a> {
    request: &'a HttpRequest<'a>,
    around: Around,
    method: u32,
    hosts: [u32; HOST_IDS_MAX],
    hosts_used: usize,
}

/// Index of one stage.
#[derive(Clone, Debug)]
pub(super) struct StageIndex {
    nodes: Vec<Node>,
    literals: TextTable,
    methods: TextTable,
    hosts: TextTable,
    has_hosts: bool,
    lists: HashMap<(u32, u32, u32), (u32, u32), BuildHasherDefault<Mix>>,
    candidates: Vec<Candidate>,
    effects: Vec<Option<Effect>>,
    /// First entry that matches everything, or [`NONE`].
    unconditional: u32,
}

#[derive(Clone, Debug)]
struct Node {
    any_child: u32,
    has_literals: bool,
    /// Lowest entry at or below this node.
    entry_min: u32,
    /// The path ends here.
    exact: Terminal,
    /// The path goes on.
    below: Terminal,
}

#[derive(Clone, Copy, Debug, Default)]
struct Terminal {
    any_method: bool,
    named_method: bool,
    any_host: bool,
    named_host: bool,
}

#[derive(Clone, Debug)]
struct Candidate {
    entry: u32,
    headers: Box<[HeaderMatch]>,
    query: Box<[QueryMatch]>,
    websocket: Option<bool>,
    frames_checked: bool,
    proxied: bool,
}

impl Candidate {
    /// What method, path and host do not settle.
    fn matches(&self, question: &Question<'_>, effect: Option<Effect>) -> bool {
        let request = question.request;
        let around = question.around;
        !(self.frames_checked && around.unframed)
            && (self.proxied || !around.proxied || effect == Some(Effect::Deny))
            && headers_match(&self.headers, request.headers, effect)
            && query_matches(&self.query, request.query, effect)
            && websocket_matches(self.websocket, request.headers, effect)
    }
}

impl StageIndex {
    pub(super) fn new(stage: &L7Stage) -> Self {
        Builder::new(stage).build(stage)
    }

    /// Looks up method and host.
    pub(super) fn question<'a>(&self, request: &'a HttpRequest<'a>, around: Around) -> Question<'a> {
        let method = self.methods.find(0, request.method.as_bytes()).unwrap_or(NONE);
        let mut question = Question { request, around, method, hosts: [ANY; HOST_IDS_MAX], hosts_used: 0 };
        if !self.has_hosts {
            return question;
        }
        match request.host {
            None => question.push_host(HOSTLESS),
            Some(host) => self.find_hosts(host, &mut question),
        }
        question
    }

    fn find_hosts(&self, host: &HostName, question: &mut Question<'_>) {
        let text = host.as_str();
        if let Some(id) = self.hosts.find(0, text.as_bytes()) {
            question.push_host(id);
        }
        let mut rest = text;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(id) = self.hosts.find(1, parent.as_bytes()) {
                question.push_host(id);
            }
            rest = parent;
        }
    }

    /// Position of the first entry that matches, with this text as the path.
    pub(super) fn first_match(&self, question: &Question<'_>, path: &str) -> Option<usize> {
        let mut best = self.unconditional;
        self.walk(0, path.strip_prefix('/'), question, &mut best);
        (best != NONE).then_some(best as usize)
    }

    fn walk(&self, node: u32, rest: Option<&str>, question: &Question<'_>, best: &mut u32) {
        let Some(here) = self.nodes.get(node as usize) else { return };
        if here.entry_min >= *best {
            return;
        }
        let Some(rest) = rest else {
            self.consider(node * 2, here.exact, question, best);
            return;
        };
        self.consider(node * 2 + 1, here.below, question, best);
        let (segment, next) = match rest.split_once('/') {
            Some((segment, next)) => (segment, Some(next)),
            None => (rest, None),
        };
        if here.has_literals
            && let Some(child) = self.literals.find(node, segment.as_bytes())
        {
            self.walk(child, next, question, best);
        }
        if !segment.is_empty() {
            self.walk(here.any_child, next, question, best);
        }
    }

    fn consider(&self, list: u32, terminal: Terminal, question: &Question<'_>, best: &mut u32) {
        let method = (terminal.named_method && question.method != NONE).then_some(question.method);
        for method in terminal.any_method.then_some(ANY).into_iter().chain(method) {
            if terminal.any_host {
                self.consider_list((list, method, ANY), question, best);
            }
            if terminal.named_host {
                for host in &question.hosts[..question.hosts_used] {
                    self.consider_list((list, method, *host), question, best);
                }
            }
        }
    }

    fn consider_list(&self, key: (u32, u32, u32), question: &Question<'_>, best: &mut u32) {
        let Some((first, end)) = self.lists.get(&key) else { return };
        for candidate in self.candidates.get(*first as usize..*end as usize).unwrap_or_default() {
            if candidate.entry >= *best {
                return;
            }
            let effect = self.effects.get(candidate.entry as usize).copied().flatten();
            if candidate.matches(question, effect) {
                *best = candidate.entry;
                return;
            }
        }
    }
}

impl Question<'_> {
    fn push_host(&mut self, id: u32) {
        if let Some(slot) = self.hosts.get_mut(self.hosts_used) {
            *slot = id;
            self.hosts_used += 1;
        }
    }
}

struct Builder {
    index: StageIndex,
    lists: BTreeMap<(u32, u32, u32), Vec<Candidate>>,
    method_count: u32,
    host_count: u32,
}

impl Builder {
    fn new(stage: &L7Stage) -> Self {
        let index = StageIndex {
            nodes: Vec::new(),
            literals: TextTable::default(),
            methods: TextTable::default(),
            hosts: TextTable::default(),
            has_hosts: false,
            lists: HashMap::default(),
            candidates: Vec::new(),
            effects: stage.entries.iter().map(|entry| entry.effect).collect(),
            unconditional: NONE,
        };
        Self { index, lists: BTreeMap::new(), method_count: ANY, host_count: HOSTLESS }
    }

    fn build(mut self, stage: &L7Stage) -> StageIndex {
        self.add_node();
        for (position, entry) in (0..NONE).zip(&stage.entries) {
            match (&entry.section, entry.effect) {
                (Some(L7Section::Http(alternatives)), _) => {
                    alternatives.iter().for_each(|m| self.add(position, entry, m));
                }
                // A section of another protocol cannot be decided on HTTP: a deny matches.
                (None, _) | (Some(_), Some(Effect::Deny)) => {
                    self.index.unconditional = position;
                    break;
                }
                (Some(_), Some(Effect::Allow) | None) => {}
            }
        }
        for (key, candidates) in self.lists {
            let first = length(&self.index.candidates);
            self.index.candidates.extend(candidates);
            self.index.lists.insert(key, (first, length(&self.index.candidates)));
        }
        self.index
    }

    fn add(&mut self, position: u32, entry: &L7Entry, http: &HttpMatch) {
        let (node, below) = self.descend(position, http);
        let methods = match &http.methods[..] {
            [] => vec![ANY],
            named => named.iter().map(|method| self.method(method)).collect(),
        };
        let mut hosts = match &http.hosts[..] {
            [] => vec![ANY],
            named => named.iter().map(|host| self.host(host)).collect(),
        };
        if !http.hosts.is_empty() && entry.effect == Some(Effect::Deny) {
            hosts.push(HOSTLESS);
        }
        let Some(here) = self.index.nodes.get_mut(node as usize) else { return };
        let terminal = if below { &mut here.below } else { &mut here.exact };
        terminal.any_method |= methods.contains(&ANY);
        terminal.named_method |= methods.iter().any(|id| *id != ANY);
        terminal.any_host |= hosts.contains(&ANY);
        terminal.named_host |= hosts.iter().any(|id| *id != ANY);
        self.index.has_hosts |= !http.hosts.is_empty();
        let list = node * 2 + u32::from(below);
        for method in methods {
            for host in &hosts {
                let candidate = Candidate {
                    entry: position,
                    headers: http.headers.clone().into(),
                    query: http.query.clone().into(),
                    websocket: http.websocket,
                    frames_checked: http.frames_checked,
                    proxied: http.proxied,
                };
                self.lists.entry((list, method, *host)).or_default().push(candidate);
            }
        }
    }

    /// The node where the template ends, made where it is missing, and whether the path must go on there.
    fn descend(&mut self, position: u32, http: &HttpMatch) -> (u32, bool) {
        let mut node = 0;
        self.lower_minimum(node, position);
        let Some(template) = &http.path else { return (node, true) };
        for segment in template.segments() {
            node = match segment {
                Some(literal) => self.literal_child(node, literal),
                None => self.any_child(node),
            };
            self.lower_minimum(node, position);
        }
        (node, template.matches_below())
    }

    fn literal_child(&mut self, node: u32, literal: &str) -> u32 {
        if let Some(child) = self.index.literals.find(node, literal.as_bytes()) {
            return child;
        }
        let child = self.add_node();
        self.index.literals.insert(node, literal.as_bytes(), child);
        self.index.nodes[node as usize].has_literals = true;
        child
    }

    fn any_child(&mut self, node: u32) -> u32 {
        let child = self.index.nodes[node as usize].any_child;
        if child != NONE {
            return child;
        }
        let child = self.add_node();
        self.index.nodes[node as usize].any_child = child;
        child
    }

    fn lower_minimum(&mut self, node: u32, position: u32) {
        let here = &mut self.index.nodes[node as usize];
        here.entry_min = here.entry_min.min(position);
    }

    fn add_node(&mut self) -> u32 {
        let node = length(&self.index.nodes);
        let (exact, below) = (Terminal::default(), Terminal::default());
        self.index.nodes.push(Node { any_child: NONE, has_literals: false, entry_min: NONE, exact, below });
        node
    }

    fn method(&mut self, method: &str) -> u32 {
        intern(&mut self.index.methods, &mut self.method_count, 0, method)
    }

    fn host(&mut self, host: &HostPattern) -> u32 {
        let (space, name) = match host {
            HostPattern::Exact(name) => (0, name),
            HostPattern::Below(name) => (1, name),
        };
        intern(&mut self.index.hosts, &mut self.host_count, space, name.as_str())
    }
}

fn intern(table: &mut TextTable, count: &mut u32, space: u32, text: &str) -> u32 {
    if let Some(id) = table.find(space, text.as_bytes()) {
        return id;
    }
    *count += 1;
    table.insert(space, text.as_bytes(), *count);
    *count
}

/// Lengths stay below the limits of a program, which [`super::validate`] checked before.
fn length<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(NONE)
}

/// Hash of three small numbers that come from a policy, never from the network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(23) ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

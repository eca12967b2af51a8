//! One request for each kind that chains tell apart.
//!
//! Exact, since rules compare for equality, for prefixes and for what lies below: of all values that a rule does not name
//! itself, those are alike that have the same longest prefix, and those hosts that have the same longest parent.

use super::paths::{PathKind, fresh, paths};
use super::{Gate, Sent};
use crate::limits::{HEADER_VALUES_MAX, REQUEST_KINDS_MAX};
use crate::model::{HeaderMatch, HeaderValueMatch, HttpMatch, L7Section};
use crate::program::Action;
use crate::questions::HttpQuestion;
use bulkhead_facts::{HostName, HostPattern, PathTemplate, UrlPath};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Bytes, or a request that stands for all of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKind {
    /// The request; `None` for bytes that are no HTTP.
    pub request: Option<HttpQuestion>,
    /// The kind, as `POST /v1/charges/{any}`.
    pub shown: String,
}

impl RequestKind {
    /// As it is sent.
    pub fn sent(&self) -> Sent<'_> {
        self.request.as_ref().map_or(Sent::Opaque, Sent::Http)
    }
}

/// Rules tell more kinds apart than a comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooManyKinds {
    /// Of HTTP requests.
    Requests,
    /// Of a protocol whose requests are not laid out yet.
    Protocol(&'static str),
}

impl fmt::Display for TooManyKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests => {
                write!(f, "rules tell more than {REQUEST_KINDS_MAX} kinds of requests apart: split them")
            }
            Self::Protocol(section) => {
                write!(f, "rules with `{section}` bear on it, and only HTTP is compared request by request")
            }
        }
    }
}

impl std::error::Error for TooManyKinds {}

/// Bytes that are no HTTP, and one request for each kind that the chains of these gates, and further matches, tell apart.
/// With `spelled`, paths that are not in normal form count as well.
pub fn requests(
    gates: &[Gate<'_>],
    further: &[&HttpMatch],
    spelled: bool,
) -> Result<Vec<RequestKind>, TooManyKinds> {
    let mut found = vec![RequestKind { request: None, shown: "bytes that are no HTTP".to_owned() }];
    let mut matches: BTreeSet<&HttpMatch> = further.iter().copied().collect();
    for gate in gates {
        let Action::Inspect { chain, .. } = gate.action else { continue };
        let chain = &gate.judge.program().l7_chains[chain.0 as usize];
        let entries = chain.enforced.iter().chain(&chain.shadow).flat_map(|stage| &stage.entries);
        for entry in entries {
            match &entry.section {
                Some(L7Section::Http(requests)) => matches.extend(requests),
                Some(other) => return Err(TooManyKinds::Protocol(other.name())),
                None => {}
            }
        }
    }
    let templates: BTreeSet<&PathTemplate> = matches.iter().filter_map(|http| http.path.as_ref()).collect();
    let templates: Vec<&PathTemplate> = templates.into_iter().collect();
    for path in paths(&templates, spelled, REQUEST_KINDS_MAX).ok_or(TooManyKinds::Requests)? {
        let here: Vec<&HttpMatch> =
            matches.iter().copied().filter(|http| concerns(http, &path.text)).collect();
        at_path(&path, &here, &mut found)?;
    }
    Ok(found)
}

/// True if the path matches in normal form or as it is sent.
fn concerns(http: &HttpMatch, path: &str) -> bool {
    let Some(template) = &http.path else { return true };
    let normal = UrlPath::parse(path).is_ok_and(|path| template.matches_text(path.normal()));
    normal || template.matches_text(path)
}

fn at_path(
    path: &PathKind,
    matches: &[&HttpMatch],
    found: &mut Vec<RequestKind>,
) -> Result<(), TooManyKinds> {
    let methods = methods(matches);
    let hosts = hosts(matches);
    let headers = headers(matches)?;
    let targets = targets(path, matches)?;
    let count = methods.len().saturating_mul(hosts.len()).saturating_mul(headers.len());
    let count = count.saturating_mul(targets.len());
    if found.len().saturating_add(count) > REQUEST_KINDS_MAX {
        return Err(TooManyKinds::Requests);
    }
    for method in &methods {
        for host in &hosts {
            for (headers, (target, path)) in headers.iter().flat_map(|h| targets.iter().map(move |t| (h, t)))
            {
                let request = HttpQuestion {
                    method: method.clone(),
                    target: target.clone(),
                    host: host.clone(),
                    headers: headers.clone(),
                };
                let shown = shown(&request, path);
                found.push(RequestKind { request: Some(request), shown });
            }
        }
    }
    Ok(())
}

fn shown(request: &HttpQuestion, path: &str) -> String {
    let mut shown = format!("{} {path}", request.method);
    if let Some(host) = &request.host {
        shown.push_str(&format!(" at {host}"));
    }
    for (name, value) in &request.headers {
        shown.push_str(&format!(" with `{name}: {value}`"));
    }
    shown
}

/// The path with every query that rules tell apart, as sent and as shown: each named parameter is absent, there, or there
/// for some servers only.
fn targets(path: &PathKind, matches: &[&HttpMatch]) -> Result<Vec<(String, String)>, TooManyKinds> {
    let names: BTreeSet<&str> =
        matches.iter().flat_map(|http| &http.query).map(|query| query.name.as_str()).collect();
    let mut queries = vec![String::new()];
    for name in names {
        let coded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        if queries.len().saturating_mul(3) > REQUEST_KINDS_MAX {
            return Err(TooManyKinds::Requests);
        }
        let with = |before: &String| {
            let more = [name, &coded]
                .map(|item| format!("{before}{}{item}=", if before.is_empty() { "?" } else { "&" }));
            [before.clone()].into_iter().chain(more)
        };
        queries = queries.iter().flat_map(with).collect();
    }
    let both = |query: String| (format!("{}{query}", path.text), format!("{}{query}", path.shown));
    Ok(queries.into_iter().map(both).collect())
}

/// Every method that is named, and one that is not.
fn methods(matches: &[&HttpMatch]) -> Vec<String> {
    let named: BTreeSet<&str> = matches.iter().flat_map(|http| &http.methods).map(String::as_str).collect();
    let usual =
        ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"].into_iter().find(|method| !named.contains(method));
    let other = usual.map_or_else(|| fresh("OTHER", |text| named.contains(text)), str::to_owned);
    named.iter().map(|method| (*method).to_owned()).chain([other]).collect()
}

/// None, one that is not named, every one that is, and one below each.
fn hosts(matches: &[&HttpMatch]) -> Vec<Option<String>> {
    let patterns: BTreeSet<&HostPattern> = matches.iter().flat_map(|http| &http.hosts).collect();
    if patterns.is_empty() {
        return vec![None];
    }
    let mut names: BTreeSet<String> = BTreeSet::new();
    for pattern in patterns {
        let (HostPattern::Exact(name) | HostPattern::Below(name)) = pattern;
        names.insert(name.as_str().to_owned());
    }
    let taken = |text: &str| names.contains(text);
    let below = names.iter().map(|name| fresh("x", |label| taken(&format!("{label}.{name}"))) + "." + name);
    let below: Vec<String> = below.filter(|name| HostName::parse(name).is_ok()).collect();
    let other = fresh("elsewhere", taken);
    names.iter().cloned().chain(below).chain([other]).map(Some).chain([None]).collect()
}

/// Every set of values that rules tell apart, of every field that they name.
fn headers(matches: &[&HttpMatch]) -> Result<Vec<Vec<(String, String)>>, TooManyKinds> {
    let mut groups: BTreeMap<String, Vec<&HeaderMatch>> = BTreeMap::new();
    for header in matches.iter().flat_map(|http| &http.headers) {
        groups.entry(folded(&header.name)).or_default().push(header);
    }
    let mut found: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for requirements in groups.values() {
        let sets = value_sets(requirements)?;
        for name in field_names(requirements) {
            if found.len().saturating_mul(sets.len()) > REQUEST_KINDS_MAX {
                return Err(TooManyKinds::Requests);
            }
            let with = |before: &Vec<(String, String)>, set: &Vec<String>| {
                let fields = set.iter().map(|value| (name.clone(), value.clone()));
                before.iter().cloned().chain(fields).collect()
            };
            found = found.iter().flat_map(|before| sets.iter().map(move |set| with(before, set))).collect();
        }
    }
    Ok(found)
}

/// Names that some servers read as one are judged together.
pub(crate) fn folded(name: &str) -> String {
    name.replace('_', "-").to_ascii_lowercase()
}

/// One name that only some servers read as those that rules name, if there is any, and then those.
fn field_names(requirements: &[&HeaderMatch]) -> Vec<String> {
    let named: BTreeSet<&str> = requirements.iter().map(|header| header.name.as_str()).collect();
    let first = named.first().copied().unwrap_or_default();
    let swapped = first.match_indices(['-', '_']).map(|(at, mark)| {
        let other = if mark == "-" { "_" } else { "-" };
        format!("{}{other}{}", &first[..at], &first[at + 1..])
    });
    let all = if first.contains(['-', '_']) { Some(first.replace('-', "_")) } else { None };
    let variant = all.into_iter().chain(swapped).find(|name| !named.contains(name.as_str()));
    variant.into_iter().chain(named.iter().map(|name| (*name).to_owned())).collect()
}

/// Every set of the values that are told apart: several fields of one name may be sent.
fn value_sets(requirements: &[&HeaderMatch]) -> Result<Vec<Vec<String>>, TooManyKinds> {
    let mut values: BTreeSet<String> = BTreeSet::new();
    let mut stems: BTreeSet<&str> = BTreeSet::from([""]);
    for requirement in requirements {
        match &requirement.value {
            HeaderValueMatch::Exact(text) => {
                values.insert(text.clone());
            }
            HeaderValueMatch::Prefix(text) => {
                values.insert(text.clone());
                stems.insert(text);
            }
            HeaderValueMatch::Present | HeaderValueMatch::Absent => {}
        }
    }
    let others: Vec<String> = stems
        .iter()
        .map(|stem| {
            let longer = |text: &str| {
                stems.iter().any(|other| other.len() > stem.len() && text.starts_with(other))
                    || values.contains(text)
            };
            fresh(&format!("{stem}~"), longer)
        })
        .collect();
    values.extend(others);
    if values.len() > HEADER_VALUES_MAX {
        return Err(TooManyKinds::Requests);
    }
    let values: Vec<String> = values.into_iter().collect();
    let set = |bits: usize| {
        let chosen = values.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
        chosen.map(|(_, value)| value.clone()).collect()
    };
    Ok((0..1usize << values.len()).map(set).collect())
}

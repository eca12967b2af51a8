//! Kinds of HTTP requests.
//!
//! Paths first: at each kind of path only the matches that concern it tell methods, hosts, header fields and queries
//! apart. Of header fields, whether one is there, and which values, in every set that rules tell apart ([`super::sets`]).

use super::names::{beginnings, fresh};
use super::paths::{PathKind, paths};
use super::requests::{Asked, Kinds, TooManyKinds};
use super::sets::{Test, told_apart};
use crate::decide::section_matches;
use crate::limits::REQUEST_KINDS_MAX;
use crate::model::{HeaderMatch, HeaderValueMatch, HttpMatch, L7Section};
use crate::questions::{HttpQuestion, RequestQuestion};
use bulkhead_facts::{Effect, HostName, HostPattern, PathTemplate, UrlPath};
use std::collections::{BTreeMap, BTreeSet};

/// A match with the way in which it is asked.
type AskedMatch<'s> = (bool, &'s HttpMatch);

/// Adds the kinds, if a section speaks of HTTP.
pub(super) fn add(sections: &[Asked<'_>], spelled: bool, found: &mut Kinds) -> Result<(), TooManyKinds> {
    let mut speaks = false;
    let mut matches: BTreeSet<AskedMatch<'_>> = BTreeSet::new();
    for (deny, section) in sections {
        if let L7Section::Http(any) = section {
            speaks = true;
            matches.extend(any.iter().map(|http| (*deny, http)));
        }
    }
    if !speaks {
        return Ok(());
    }
    let templates: BTreeSet<&PathTemplate> =
        matches.iter().filter_map(|(_, http)| http.path.as_ref()).collect();
    let templates: Vec<&PathTemplate> = templates.into_iter().collect();
    for path in paths(&templates, spelled, REQUEST_KINDS_MAX).ok_or(TooManyKinds)? {
        let here: Vec<AskedMatch<'_>> =
            matches.iter().copied().filter(|(_, http)| concerns(http, &path.text)).collect();
        at_path(&path, &here, found)?;
    }
    Ok(())
}

/// True if the path matches in normal form or as it is sent.
fn concerns(http: &HttpMatch, path: &str) -> bool {
    let Some(template) = &http.path else { return true };
    let normal = UrlPath::parse(path).is_ok_and(|path| template.matches_text(path.normal()));
    normal || template.matches_text(path)
}

fn at_path(path: &PathKind, matches: &[AskedMatch<'_>], found: &mut Kinds) -> Result<(), TooManyKinds> {
    let methods = methods(matches);
    let hosts = hosts(matches);
    let headers = headers(matches)?;
    let targets = targets(path, matches)?;
    let checked: Vec<HttpMatch> =
        matches.iter().filter(|(_, http)| http.frames_checked).map(|(_, http)| (*http).clone()).collect();
    let proxied = matches.iter().any(|(_, http)| http.proxied);
    let ways = (1 + usize::from(!checked.is_empty())) * (1 + usize::from(proxied));
    found.room_for(&[methods.len(), hosts.len(), headers.len(), targets.len(), ways])?;
    let has_checked = !checked.is_empty();
    let checked = L7Section::Http(checked);
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
                let request = RequestQuestion::Http(request);
                let is_checked =
                    has_checked && !headers.is_empty() && takes(&checked, &request, Effect::Allow);
                found.push(request, Some(shown));
                if is_checked {
                    found.again_unframed(1);
                }
                if proxied {
                    found.again_proxied(1 + usize::from(is_checked));
                }
            }
        }
    }
    Ok(())
}

/// True if a section of an allow or a deny takes a request.
pub(super) fn takes(section: &L7Section, request: &RequestQuestion, effect: Effect) -> bool {
    request.with(|request| request.is_ok_and(|request| section_matches(section, &request, Some(effect))))
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
fn targets(path: &PathKind, matches: &[AskedMatch<'_>]) -> Result<Vec<(String, String)>, TooManyKinds> {
    let names: BTreeSet<&str> =
        matches.iter().flat_map(|(_, http)| &http.query).map(|query| query.name.as_str()).collect();
    let mut queries = vec![String::new()];
    for name in names {
        let coded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        if queries.len().saturating_mul(3) > REQUEST_KINDS_MAX {
            return Err(TooManyKinds);
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
fn methods(matches: &[AskedMatch<'_>]) -> Vec<String> {
    let named: BTreeSet<&str> =
        matches.iter().flat_map(|(_, http)| &http.methods).map(String::as_str).collect();
    let usual =
        ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"].into_iter().find(|method| !named.contains(method));
    let other = usual.map_or_else(|| fresh("OTHER", |text| named.contains(text)), str::to_owned);
    named.iter().map(|method| (*method).to_owned()).chain([other]).collect()
}

/// None, one that is not named, every one that is, and one below each.
fn hosts(matches: &[AskedMatch<'_>]) -> Vec<Option<String>> {
    let patterns: BTreeSet<&HostPattern> = matches.iter().flat_map(|(_, http)| &http.hosts).collect();
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

/// A requirement on the values of a field, with the way in which it is asked.
#[derive(Clone, Copy)]
enum Requirement<'s> {
    Header(bool, &'s HeaderMatch),
    /// Whether `upgrade` asks for a WebSocket.
    Websocket(bool, bool),
}

/// Every set of values that rules tell apart, of every field that they name.
fn headers(matches: &[AskedMatch<'_>]) -> Result<Vec<Vec<(String, String)>>, TooManyKinds> {
    let mut groups: BTreeMap<String, Vec<Requirement<'_>>> = BTreeMap::new();
    for (deny, http) in matches {
        for header in &http.headers {
            groups.entry(folded(&header.name)).or_default().push(Requirement::Header(*deny, header));
        }
        if let Some(wanted) = http.websocket {
            groups.entry(UPGRADE.to_owned()).or_default().push(Requirement::Websocket(*deny, wanted));
        }
    }
    let mut found: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for requirements in groups.values() {
        let sets = value_sets(requirements)?;
        for name in field_names(requirements) {
            if found.len().saturating_mul(sets.len()) > REQUEST_KINDS_MAX {
                return Err(TooManyKinds);
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

/// The field that asks for another protocol (RFC 9110 section 7.8).
const UPGRADE: &str = "upgrade";
/// Signs of values, those first that read best.
const VALUE_SIGNS: &str =
    "~xyzabcdefghijklmnopqrstuvwABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._!#$%&'*+^`|/:;<=>?@[]{}()";

/// Names that some servers read as one are judged together.
pub(crate) fn folded(name: &str) -> String {
    name.replace('_', "-").to_ascii_lowercase()
}

/// One name that only some servers read as those that rules name, if there is any, and then those.
fn field_names(requirements: &[Requirement<'_>]) -> Vec<String> {
    let name = |requirement: &'_ Requirement<'_>| match requirement {
        Requirement::Header(_, header) => header.name.clone(),
        Requirement::Websocket(..) => UPGRADE.to_owned(),
    };
    let named: BTreeSet<String> = requirements.iter().map(name).collect();
    let first = named.first().map_or("", String::as_str);
    let swapped = first.match_indices(['-', '_']).map(|(at, mark)| {
        let other = if mark == "-" { "_" } else { "-" };
        format!("{}{other}{}", &first[..at], &first[at + 1..])
    });
    let all = if first.contains(['-', '_']) { Some(first.replace('-', "_")) } else { None };
    let variant = all.into_iter().chain(swapped).find(|name| !named.contains(name));
    variant.into_iter().chain(named.iter().cloned()).collect()
}

/// Every set of the values that are told apart: several fields of one name may be sent, and one may hold a list.
fn value_sets(requirements: &[Requirement<'_>]) -> Result<Vec<Vec<String>>, TooManyKinds> {
    let (mut whole, mut stems): (BTreeSet<&str>, BTreeSet<&str>) = Default::default();
    for requirement in requirements {
        match requirement {
            Requirement::Header(_, header) => match &header.value {
                HeaderValueMatch::Exact(text) => drop(whole.insert(text)),
                HeaderValueMatch::Prefix(text) => drop(stems.insert(text)),
                HeaderValueMatch::Present | HeaderValueMatch::Absent => {}
            },
            Requirement::Websocket(..) => drop(whole.insert("websocket")),
        }
    }
    let others = beginnings(&stems, &whole, VALUE_SIGNS);
    let texts = || whole.iter().chain(&stems).map(|text| (*text).to_owned());
    // A list whose first member is nobody's, and which holds one that is somebody's.
    let lists = others.iter().flat_map(|other| texts().map(move |text| format!("{other},{text}")));
    let items: Vec<String> = texts().chain(others.iter().cloned()).chain(lists).collect();
    let tests: Vec<Test<'_, String>> = requirements.iter().map(|own| value_test(*own)).collect();
    told_apart(items, &tests, REQUEST_KINDS_MAX).ok_or(TooManyKinds)
}

fn value_test(requirement: Requirement<'_>) -> Test<'_, String> {
    let (deny, name, part) = match requirement {
        Requirement::Header(deny, header) => {
            (deny, header.name.clone(), HttpMatch { headers: vec![header.clone()], ..HttpMatch::default() })
        }
        Requirement::Websocket(deny, wanted) => {
            (deny, UPGRADE.to_owned(), HttpMatch { websocket: Some(wanted), ..HttpMatch::default() })
        }
    };
    let section = L7Section::Http(vec![part]);
    let effect = if deny { Effect::Deny } else { Effect::Allow };
    let carried = move |value: &String| {
        let headers = vec![(name.clone(), value.clone())];
        let http = HttpQuestion { method: "GET".to_owned(), target: "/".to_owned(), host: None, headers };
        takes(&section, &RequestQuestion::Http(http), effect)
    };
    Test { deny, takes: Box::new(carried) }
}

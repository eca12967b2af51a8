//! In which parts a request differs from what a rule narrows to.

use super::Difference;
use crate::decide::{query_matches, websocket_matches};
use crate::model::{HeaderMatch, HeaderValueMatch, HttpMatch, L7Section, Rule, RuleAction};
use crate::questions::HttpQuestion;
use bulkhead_facts::{HeaderField, HostName, UrlPath};

/// The differences to the kind of request that comes nearest; none if one matches or the rule narrows nothing.
pub(super) fn differences(rule: &Rule, request: Option<&HttpQuestion>) -> Vec<Difference> {
    let kinds = match &rule.l7 {
        Some(L7Section::Http(kinds)) => kinds,
        // Neither a request of HTTP nor opaque bytes are of such a protocol: a deny matches them.
        Some(_) if rule.action == RuleAction::Deny => return Vec::new(),
        Some(other) => return vec![Difference::Section(other.name())],
        None => return Vec::new(),
    };
    let Some(request) = request else { return vec![Difference::NoRequest] };
    let each = kinds.iter().map(|kind| compare(kind, request, rule.action));
    each.min_by_key(Vec::len).unwrap_or_else(|| vec![Difference::NoRequest])
}

fn compare(kind: &HttpMatch, request: &HttpQuestion, action: RuleAction) -> Vec<Difference> {
    let mut found = Vec::new();
    if !kind.methods.is_empty() && !kind.methods.contains(&request.method) {
        found.push(Difference::Method(request.method.clone()));
    }
    let path = request.target.split('?').next().unwrap_or_default();
    let path_hit = |parsed: &UrlPath<'_>| kind.path.as_ref().is_none_or(|template| template.matches(parsed));
    if !UrlPath::parse(path).is_ok_and(|parsed| path_hit(&parsed)) {
        found.push(Difference::Path(path.to_owned()));
    }
    if !kind.hosts.is_empty() {
        let host = request
            .host
            .as_deref()
            .and_then(|host| HostName::parse_authority(host).ok())
            .map(|(host, _)| host);
        if !host.is_some_and(|host| kind.hosts.iter().any(|pattern| pattern.matches(&host))) {
            found.push(Difference::Host(request.host.clone()));
        }
    }
    let missing = kind.headers.iter().filter(|header| !header_holds(header, request, action));
    found.extend(missing.map(|header| Difference::Header(header.name.clone())));
    let query = request.target.split_once('?').map(|(_, query)| query);
    let effect = action.effect();
    let missing =
        kind.query.iter().filter(|wanted| !query_matches(std::slice::from_ref(wanted), query, effect));
    found.extend(missing.map(|wanted| Difference::Query(wanted.name.clone())));
    let fields: Vec<HeaderField<'_>> = request
        .headers
        .iter()
        .map(|(name, value)| HeaderField { name: name.as_bytes(), value: value.as_bytes() })
        .collect();
    if !websocket_matches(kind.websocket, &fields, effect) {
        found.push(Difference::Websocket);
    }
    found
}

/// Each instance of a field on its own: an allow or pass needs all to match, a deny needs one.
fn header_holds(header: &HeaderMatch, request: &HttpQuestion, action: RuleAction) -> bool {
    let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(&header.name);
    let values: Vec<&str> = request.headers.iter().filter(same).map(|field| field.1.as_str()).collect();
    let quantified = |hit: &dyn Fn(&str) -> bool| match action {
        RuleAction::Deny => values.iter().any(|value| hit(value)),
        RuleAction::Allow | RuleAction::Pass => !values.is_empty() && values.iter().all(|value| hit(value)),
    };
    match &header.value {
        HeaderValueMatch::Present => !values.is_empty(),
        HeaderValueMatch::Absent => values.is_empty(),
        HeaderValueMatch::Exact(text) => quantified(&|value| value == text),
        HeaderValueMatch::Prefix(text) => quantified(&|value| value.starts_with(text.as_str())),
    }
}

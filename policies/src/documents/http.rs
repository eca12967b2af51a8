//! The `http` section of a rule: methods, path, hosts, headers.
//!
//! Everything becomes the canonical form that requests are compared in, or is refused: a rule with a name that no
//! request can have would never fire. There are no regular expressions; what looks like one is refused with the template to write instead.

use crate::diagnostics::{Report, Span, nearest, quoted};
use crate::limits::{HEADER_VALUE_BYTES_MAX, REQUEST_ITEMS_MAX, RULE_ITEMS_MAX};
use crate::model::{HeaderMatch, HeaderValueMatch, HttpMatch, QueryMatch, RuleAction};
use crate::yaml::{Fields, Node, Nulls};
use bulkhead_facts::{HostPattern, PathTemplate, TemplateError};

/// Reads the list of requests.
pub(super) fn read(report: &mut Report, node: &Node, action: RuleAction) -> Option<Vec<HttpMatch>> {
    let items = node.expect_list(report, "http")?;
    if items.is_empty() {
        report
            .error("matches-nobody", node.span, "`http` is empty: it matches no request")
            .help("name the requests, or write `http: [{}]` for every HTTP request");
        return None;
    }
    if items.len() > RULE_ITEMS_MAX {
        report.over_limit(
            "RULE_ITEMS_MAX",
            node.span,
            format!("more than {RULE_ITEMS_MAX} kinds of requests"),
            "split the rule",
        );
        return None;
    }
    let mut requests: Vec<HttpMatch> =
        items.iter().filter_map(|item| read_request(report, item, action)).collect();
    requests.sort();
    requests.dedup();
    Some(requests)
}

fn read_request(report: &mut Report, node: &Node, action: RuleAction) -> Option<HttpMatch> {
    let mut fields = Fields::open(report, node, "a request", Nulls::Refused)?;
    let methods = fields.texts(report, "methods");
    let path = fields.get(report, "path");
    let hosts = fields.texts(report, "hosts");
    let headers = fields.list(report, "headers");
    let query = fields.list(report, "query");
    let websocket = fields.boolean(report, "websocket");
    let frames_checked = fields.choice(report, "frames", &[("checked", true)]).unwrap_or(false);
    let proxied = proxied(report, &mut fields, action);
    let lists = [
        ("methods", methods.as_ref().map(Vec::len)),
        ("hosts", hosts.as_ref().map(Vec::len)),
        ("headers", headers.map(<[_]>::len)),
        ("query", query.map(<[_]>::len)),
    ];
    for (name, length) in lists {
        check_length(report, node, name, length);
    }
    fields.finish(report);
    check_frames(report, node, frames_checked, websocket == Some(true) && action == RuleAction::Allow);
    let mut found = HttpMatch {
        methods: methods
            .unwrap_or_default()
            .iter()
            .filter_map(|(text, span)| method(report, text, *span))
            .collect(),
        path: path.and_then(|node| path_template(report, node)),
        hosts: hosts
            .unwrap_or_default()
            .iter()
            .filter_map(|(text, span)| host(report, text, *span))
            .collect(),
        headers: headers.unwrap_or_default().iter().filter_map(|node| header(report, node)).collect(),
        query: query.unwrap_or_default().iter().filter_map(|node| parameter(report, node)).collect(),
        websocket,
        frames_checked,
        proxied,
    };
    found.methods.sort();
    found.methods.dedup();
    found.hosts.sort();
    found.hosts.dedup();
    found.headers.sort();
    found.headers.dedup();
    found.query.sort();
    found.query.dedup();
    Some(found)
}

/// Whether a connection may begin with a header of the PROXY protocol.
pub(super) fn proxied(report: &mut Report, fields: &mut Fields<'_>, action: RuleAction) -> bool {
    let node = fields.get(report, "proxyProtocol");
    let accepted = fields.choice(report, "proxyProtocol", &[("accepted", true)]).unwrap_or(false);
    if let Some(node) = node.filter(|_| accepted && action != RuleAction::Allow) {
        report
            .error("bad-request", node.span, "`proxyProtocol` stands in a rule that allows, and nowhere else")
            .help("what is denied is denied behind such a header, too");
    }
    accepted
}

/// Frames are checked where an allowed request becomes a WebSocket, and nowhere else.
fn check_frames(report: &mut Report, node: &Node, frames_checked: bool, fits: bool) {
    if let Some(frames) = node.child("frames").filter(|_| frames_checked && !fits) {
        report
            .error(
                "bad-request",
                frames.span,
                "`frames` stands beside `websocket: true` in a rule that allows, and nowhere else",
            )
            .help("frames are those of the WebSocket that an allowed request becomes");
    }
}

fn check_length(report: &mut Report, node: &Node, name: &str, length: Option<usize>) {
    let span = node.child(name).map_or(node.span, |list| list.span);
    if length == Some(0) && node.child(name).and_then(Node::as_list).is_some_and(<[_]>::is_empty) {
        report
            .error("empty-list", span, format!("`{name}` is empty: it would match nothing"))
            .help(format!("remove `{name}` if any will do"));
    }
    if length.is_some_and(|length| length > REQUEST_ITEMS_MAX) {
        report.over_limit(
            "REQUEST_ITEMS_MAX",
            span,
            format!("more than {REQUEST_ITEMS_MAX} items in `{name}`"),
            "split the request",
        );
    }
}

/// Methods in common use (RFC 9110 section 9, RFC 5789, RFC 4918, RFC 10008 and others).
const METHODS: [&str; 18] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "QUERY",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
];

fn method(report: &mut Report, text: &str, span: Span) -> Option<String> {
    if !is_token(text) {
        report
            .error("bad-method", span, format!("{} is no HTTP method", quoted(text)))
            .help("write for example `GET`");
        return None;
    }
    let upper = text.to_ascii_uppercase();
    if METHODS.contains(&upper.as_str()) && upper != text {
        report
            .error(
                "bad-method",
                span,
                format!("methods are compared with their case: no client sends {}", quoted(text)),
            )
            .help(format!("write `{upper}`"));
        return None;
    }
    if !METHODS.contains(&text) {
        let diagnostic =
            report.warning("unusual-method", span, format!("{} is an unusual method", quoted(text)));
        if let Some(near) = nearest(text, METHODS) {
            diagnostic.help(format!("did you mean `{near}`?"));
        }
    }
    Some(text.to_owned())
}

fn path_template(report: &mut Report, node: &Node) -> Option<PathTemplate> {
    let text = node.expect_text(report, "path")?;
    if text.contains('?') {
        report
            .error("bad-path", node.span, format!("path {} holds a query", quoted(text)))
            .help("write the part before `?`: paths are compared without their query");
        return None;
    }
    match PathTemplate::parse(text) {
        Ok(template) => Some(template),
        Err(error) => {
            let diagnostic = report.error("bad-path", node.span, format!("path {}: {error}", quoted(text)));
            if let Some(help) = path_help(text, &error) {
                diagnostic.help(help);
            }
            None
        }
    }
}

/// What to write instead, where it can be told.
fn path_help(text: &str, error: &TemplateError) -> Option<String> {
    if let TemplateError::NotNormal(normal) = error {
        return Some(format!("write `{normal}`"));
    }
    let bare = text.trim_start_matches('^').trim_end_matches('$');
    let below = ["/.*", "/.+", "/*", ".*", "*"].iter().find_map(|tail| bare.strip_suffix(tail));
    if let Some(front) = below.filter(|front| PathTemplate::parse(&format!("{front}/**")).is_ok()) {
        return Some(format!("write `{front}/**` for everything below, `{front}/{{name}}` for one segment"));
    }
    if bare != text && PathTemplate::parse(bare).is_ok() {
        return Some(format!("a path is compared whole: write `{bare}`"));
    }
    if !text.starts_with('/') && PathTemplate::parse(&format!("/{text}")).is_ok() {
        return Some(format!("write `/{text}`"));
    }
    None
}

fn host(report: &mut Report, text: &str, span: Span) -> Option<HostPattern> {
    match HostPattern::parse(text) {
        Ok(host) => Some(host),
        Err(error) => {
            let diagnostic = report.error("bad-host", span, format!("host {}: {error}", quoted(text)));
            if text.contains('*') {
                diagnostic.help("write `*.example.com` for every name below, or the whole name");
            } else if text.contains("://") {
                diagnostic.help("write the host alone, without scheme and path");
            } else if text.contains(':') {
                diagnostic.help("write the host alone: the port belongs in `ports`");
            }
            None
        }
    }
}

fn header(report: &mut Report, node: &Node) -> Option<HeaderMatch> {
    let mut fields = Fields::open(report, node, "a header", Nulls::Refused)?;
    let name_node = fields.required(report, "name");
    let name = name_node.and_then(|node| node.expect_text(report, "name"));
    let present = fields.boolean(report, "present");
    let exact = fields.text(report, "exact");
    let prefix = fields.text(report, "prefix");
    let written = ["present", "exact", "prefix"].iter().filter(|name| fields.has(name)).count();
    fields.finish(report);
    if written != 1 {
        report
            .error("bad-header", node.span, "a header has exactly one of `present`, `exact` and `prefix`")
            .help("write for example `{name: x-tenant, present: true}`");
        return None;
    }
    let name = header_name(report, name?, name_node?.span)?;
    let value = match (present, exact, prefix) {
        (Some(true), ..) => HeaderValueMatch::Present,
        (Some(false), ..) => HeaderValueMatch::Absent,
        (_, Some(text), _) => HeaderValueMatch::Exact(header_value(report, node, "exact", text)?),
        (_, _, Some(text)) => HeaderValueMatch::Prefix(header_value(report, node, "prefix", text)?),
        (None, None, None) => return None,
    };
    Some(HeaderMatch { name, value })
}

/// A parameter of the query: its name, and whether it has to be there.
fn parameter(report: &mut Report, node: &Node) -> Option<QueryMatch> {
    let mut fields = Fields::open(report, node, "a query parameter", Nulls::Refused)?;
    let name_node = fields.required(report, "name");
    let name = name_node.and_then(|node| node.expect_text(report, "name"));
    let present = fields.required(report, "present").and_then(|_| fields.boolean(report, "present"));
    fields.finish(report);
    let name = name?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if name.is_empty() || name.len() > 100 || !name.bytes().all(plain) {
        report
            .error("bad-query", name_node?.span, format!("{} is no name of a parameter", quoted(name)))
            .help("use up to 100 letters, digits, `-`, `.`, `_` and `~`: others are encoded in more than one way");
        return None;
    }
    Some(QueryMatch { name: name.to_owned(), present: present? })
}

fn header_name(report: &mut Report, text: &str, span: Span) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if !is_token(text) {
        report
            .error("bad-header", span, format!("{} is no name of a header", quoted(text)))
            .help("write for example `x-tenant`");
        return None;
    }
    if lower == "host" {
        report
            .error("bad-header", span, "the host is compared in its own form")
            .help("write `hosts: […]` instead");
        return None;
    }
    Some(lower)
}

fn header_value(report: &mut Report, node: &Node, field: &str, text: &str) -> Option<String> {
    let span = node.child(field).map_or(node.span, |value| value.span);
    if text.is_empty() {
        report
            .error("bad-header", span, format!("`{field}` is empty"))
            .help("write `present: true` if any value will do");
        return None;
    }
    if text.len() > HEADER_VALUE_BYTES_MAX {
        report.over_limit(
            "HEADER_VALUE_BYTES_MAX",
            span,
            format!("`{field}` is longer than {HEADER_VALUE_BYTES_MAX} bytes"),
            "ask for how it begins",
        );
        return None;
    }
    let bare = text.trim_matches([' ', '\t']) == text
        || field == "prefix" && text.trim_start_matches([' ', '\t']) == text;
    if !bare || text.bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7f) {
        report
            .error("bad-header", span, format!("{} is no value that a header can have", quoted(text)))
            .help("values have no control characters and no white space around them");
        return None;
    }
    Some(text.to_owned())
}

/// A token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

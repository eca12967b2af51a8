//! The request of a case: at most one, under the name of its protocol.

use crate::diagnostics::Report;
use crate::questions::{HttpQuestion, RequestQuestion, WORD_PROTOCOLS};
use crate::yaml::{Fields, Node, Nulls};

/// Reads the request of a case, if it has one.
pub(super) fn read(report: &mut Report, fields: &mut Fields<'_>) -> Option<RequestQuestion> {
    let written: Vec<(&str, &Node)> = ["http"]
        .into_iter()
        .chain(WORD_PROTOCOLS)
        .filter_map(|protocol| Some((protocol, fields.get(report, protocol)?)))
        .collect();
    let read: Vec<Option<RequestQuestion>> = written
        .iter()
        .map(|(protocol, node)| match *protocol {
            "http" => http(report, node).map(RequestQuestion::Http),
            protocol => in_words(report, node, protocol),
        })
        .collect();
    if let [(first, _), (second, node), ..] = written[..] {
        report
            .error(
                "two-sections",
                node.span,
                format!("a case has one request, and this one has `{first}` and `{second}`"),
            )
            .help("write two cases");
    }
    read.into_iter().next()?
}

fn http(report: &mut Report, node: &Node) -> Option<HttpQuestion> {
    let mut fields = Fields::open(report, node, "a request", Nulls::Refused)?;
    let method = fields.text(report, "method").unwrap_or("GET").to_owned();
    let target = fields.required_text(report, "path");
    let host = fields.text(report, "host").map(str::to_owned);
    let mut headers = Vec::new();
    if let Some(list) = fields.get(report, "headers") {
        Fields::open(report, list, "headers", Nulls::Refused)?;
        for entry in list.as_map().unwrap_or_default() {
            let values = entry.value.as_list().unwrap_or(std::slice::from_ref(&entry.value));
            for value in values {
                headers.push((entry.key.clone(), value.expect_text(report, &entry.key)?.to_owned()));
            }
        }
    }
    fields.finish(report);
    Some(HttpQuestion { method, target: target?.to_owned(), host, headers })
}

/// The fields of a protocol, each of one text or of a list.
fn in_words(report: &mut Report, node: &Node, protocol: &str) -> Option<RequestQuestion> {
    let before = report.error_count();
    let mut request = RequestQuestion::begin(protocol)?;
    let mut fields = Fields::open(report, node, "a request", Nulls::Refused)?;
    for field in request.word_fields() {
        let node = match field.required {
            true => fields.required(report, field.in_documents),
            false => fields.get(report, field.in_documents),
        };
        let Some(node) = node else { continue };
        let items = if field.several {
            node.expect_list(report, field.in_documents)?
        } else {
            std::slice::from_ref(node)
        };
        for item in items {
            let Some(text) = text_of(report, item, &request, field.in_documents) else { continue };
            if let Err(message) = request.set(field.name, &text) {
                report.error("bad-value", item.span, message);
            }
        }
    }
    fields.finish(report);
    (report.error_count() == before).then_some(request)
}

/// Text; of fields that hold a number or a truth, as it is written.
fn text_of(report: &mut Report, node: &Node, request: &RequestQuestion, name: &str) -> Option<String> {
    match (request, name) {
        (RequestQuestion::Redis(_), "database") if node.as_str().is_none() => {
            node.expect_integer(report, name, 0..=i64::from(u16::MAX)).map(|number| number.to_string())
        }
        (RequestQuestion::Tls(_), "ech") => node.expect_boolean(report, name).map(|truth| truth.to_string()),
        (_, _) => node.expect_text(report, name).map(str::to_owned),
    }
}

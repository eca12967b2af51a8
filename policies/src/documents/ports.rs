//! Ports in the short form of our own kinds.
//!
//! `8080`, `"8000-8010"`, `http` (a port's name at the destination), `udp/53`, `sctp/2905-2907`, `tcp` (the whole
//! protocol), `icmp` and `icmp/echo-request` (both families at once), `icmp/8`, `icmpv6/128`. A bare number or range is TCP.

use super::names::is_port_name;
use crate::diagnostics::{Report, Span, quoted};
use crate::model::PortMatch;
use crate::yaml::{Node, ScalarKind};
use bulkhead_facts::{L4Protocol, PortRange};

/// Reads one item of `ports`; messages of ICMP by name give one match for each family.
pub(super) fn read(report: &mut Report, node: &Node) -> Vec<PortMatch> {
    let Some(scalar) = node.as_scalar() else {
        report
            .error(
                "wrong-type",
                node.span,
                format!("a port must be a number or text, not {}", node.kind_name()),
            )
            .help("write `8080`, `\"8000-8010\"`, `http`, `udp/53` or `icmp/echo-request`");
        return Vec::new();
    };
    match scalar.kind() {
        ScalarKind::Integer | ScalarKind::Text => {}
        ScalarKind::Null | ScalarKind::Boolean | ScalarKind::Float | ScalarKind::Ambiguous => {
            report
                .error(
                    "wrong-type",
                    node.span,
                    format!("a port must be a number or text, not {}", node.kind_name()),
                )
                .help("quote it if it is a name");
            return Vec::new();
        }
    }
    match parse(&scalar.text) {
        Ok(ports) => ports,
        Err(problem) => {
            problem.report(report, node.span, &scalar.text);
            Vec::new()
        }
    }
}

struct Problem {
    message: &'static str,
    help: String,
}

impl Problem {
    fn new(message: &'static str, help: impl Into<String>) -> Self {
        Self { message, help: help.into() }
    }

    fn report(self, report: &mut Report, span: Span, text: &str) {
        report.error("bad-port", span, format!("{}: {}", quoted(text), self.message)).help(self.help);
    }
}

fn parse(text: &str) -> Result<Vec<PortMatch>, Problem> {
    let Some((protocol, rest)) = text.split_once('/') else { return parse_bare(text) };
    if protocol == "icmp" && rest.parse::<u16>().is_err() {
        return icmp_by_name(rest);
    }
    let Some(protocol) =
        L4Protocol::parse(protocol).filter(|_| protocol.bytes().all(|b| !b.is_ascii_uppercase()))
    else {
        return Err(Problem::new(
            "unknown protocol",
            "write `tcp/…`, `udp/…`, `sctp/…`, `icmp/…` or `icmpv6/…`",
        ));
    };
    if protocol.is_icmp() {
        let number =
            rest.parse().map_err(|_| Problem::new("unknown message", "write its type as a number"))?;
        return Ok(vec![PortMatch::Range(protocol, PortRange::icmp_type(number))]);
    }
    if is_port_name(rest) {
        return Ok(vec![PortMatch::Named(Some(protocol), rest.to_owned())]);
    }
    Ok(vec![PortMatch::Range(protocol, parse_range(rest)?)])
}

fn parse_bare(text: &str) -> Result<Vec<PortMatch>, Problem> {
    match text {
        "icmp" => return Ok(both_icmp(PortRange::ALL, PortRange::ALL)),
        "tcp" | "udp" | "sctp" | "icmpv6" => {
            let protocol = L4Protocol::parse(text).into_iter();
            return Ok(protocol.map(|protocol| PortMatch::Range(protocol, PortRange::ALL)).collect());
        }
        _ => {}
    }
    if is_port_name(text) {
        return Ok(vec![PortMatch::Named(None, text.to_owned())]);
    }
    Ok(vec![PortMatch::Range(L4Protocol::TCP, parse_range(text)?)])
}

fn parse_range(text: &str) -> Result<PortRange, Problem> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && !part.starts_with('0');
        digits.then(|| part.parse::<u16>().ok()).flatten()
    };
    let (Some(first), Some(last)) = (number(first), number(last)) else {
        return Err(Problem::new(
            "not a port",
            "write a number from 1 to 65535, a range `8000-8010`, a port's name, or `udp/53`",
        ));
    };
    PortRange::new(first, last)
        .ok_or_else(|| Problem::new("range ends before it begins", format!("write `{last}-{first}`")))
}

/// Messages that people name, with their types (RFC 792; RFC 4443).
const ICMP_NAMES: [(&str, u8, u8); 4] = [
    ("echo-request", 8, 128),
    ("echo-reply", 0, 129),
    ("destination-unreachable", 3, 1),
    ("time-exceeded", 11, 3),
];

fn icmp_by_name(name: &str) -> Result<Vec<PortMatch>, Problem> {
    match ICMP_NAMES.iter().find(|(known, ..)| *known == name) {
        Some((_, v4, v6)) => Ok(both_icmp(PortRange::icmp_type(*v4), PortRange::icmp_type(*v6))),
        None => {
            let names: Vec<&str> = ICMP_NAMES.iter().map(|(known, ..)| *known).collect();
            Err(Problem::new(
                "unknown message",
                format!("write {}, or its type as a number", crate::yaml::alternatives(&names)),
            ))
        }
    }
}

fn both_icmp(v4: PortRange, v6: PortRange) -> Vec<PortMatch> {
    vec![PortMatch::Range(L4Protocol::ICMP, v4), PortMatch::Range(L4Protocol::ICMPV6, v6)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(ports) => ports.iter().map(|port| format!("{port:?}")).collect::<Vec<_>>().join(" "),
            Err(problem) => problem.message.to_owned(),
        }
    }

    #[test]
    fn every_form_of_a_port_is_read() {
        for (text, expected) in [
            ("8080", "Range(tcp, PortRange { first: 8080, last: 8080 })"),
            ("8000-8010", "Range(tcp, PortRange { first: 8000, last: 8010 })"),
            ("http", "Named(None, \"http\")"),
            ("tcp/http", "Named(Some(tcp), \"http\")"),
            ("udp/53", "Range(udp, PortRange { first: 53, last: 53 })"),
            ("sctp/2905-2907", "Range(sctp, PortRange { first: 2905, last: 2907 })"),
            ("udp", "Range(udp, PortRange { first: 0, last: 65535 })"),
            ("icmpv6/128", "Range(icmpv6, PortRange { first: 32768, last: 33023 })"),
            ("icmp/8", "Range(icmp, PortRange { first: 2048, last: 2303 })"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(parse("icmp").map(|ports| ports.len()).ok(), Some(2));
        assert_eq!(shown("icmp/echo-request"), format!("{} {}", shown("icmp/8"), shown("icmpv6/128")));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "0",
            "65536",
            "80-",
            "90-80",
            "08",
            "tpc/80",
            "TCP/80",
            "udp/",
            "icmp/ping",
            "icmp/999",
            "a_b",
            "80/tcp",
            "",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

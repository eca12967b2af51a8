//! `bulkhead policy explain`: why a flow is allowed or denied, and what would allow it.

use super::requests::{self, HttpArguments};
use super::set::Set;
use super::{BAD_INPUT, DOES_NOT_HOLD, DateArguments, HOLDS, InventoryArguments, report};
use bulkhead_facts::{Effect, L4Protocol};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::explain::{Change, Explanation, Patch, SideExplanation, explain};
use bulkhead_policies::program::{Answer, RuleInfo};
use bulkhead_policies::questions::{Ends, Judges, Question, RequestQuestion, Version};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Explain one flow: the verdict, every policy that bears on it, and what would allow it
///
/// Exit code 0 if the flow is allowed, 1 if it is denied.
#[derive(clap::Args, Debug)]
pub(super) struct ExplainArguments {
    /// Who opens the flow: `NAMESPACE/NAME` of a pod or workload, or an address
    from: String,
    /// Towards whom: also a Service, or `fqdn/NAME` for a name outside
    to: String,
    /// `8080`, `udp/53` or `icmp/8`
    port: String,
    /// A request: `GET /path`, `grpc SERVICE/METHOD`, or `tls`, `dns`, `redis`, `postgres`, `kafka` with words as
    /// `name=api.example type=AAAA`; without one, bytes that cannot be read
    #[arg(num_args = 0.., value_name = "REQUEST")]
    request: Vec<String>,
    #[command(flatten)]
    http: HttpArguments,
    /// Policy files or folders
    #[arg(long = "policies", value_name = "POLICY", required = true, num_args = 1..)]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    inventory: InventoryArguments,
    #[command(flatten)]
    date: DateArguments,
    #[arg(long, value_enum, default_value_t)]
    format: ExplainFormat,
}

/// How explanations are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ExplainFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

pub(super) fn run(arguments: &ExplainArguments) -> u8 {
    let set = match Set::read(&arguments.policies, &arguments.inventory, arguments.date) {
        Ok(set) => set,
        Err(code) => return code,
    };
    let compiler = match set.compiler() {
        Ok(compiler) => compiler,
        Err(code) => return code,
    };
    match flows(arguments, &set, &compiler) {
        Ok(found) => print(arguments.format, &found),
        Err(message) => report::refuse(&message),
    }
}

/// An explanation with the flow and the request that it is about.
type Flow = (String, Option<RequestQuestion>, Explanation);

/// Every flow that the arguments name, those with equal explanations once.
fn flows(arguments: &ExplainArguments, set: &Set, compiler: &Compiler<'_>) -> Result<Vec<Flow>, String> {
    let ends = |text: &str| {
        Ends::find(text, &set.inventory).map_err(|unknown| format!("{unknown}\n  help: {}", unknown.help()))
    };
    let (from, to) = (ends(&arguments.from)?, ends(&arguments.to)?);
    let (protocol, port) = parse_port(&arguments.port)?;
    let request = arguments.http.request(&arguments.request)?;
    if let Some(request) = request.as_ref().filter(|request| !request.runs_on(protocol)) {
        return Err(format!("`{request}` does not run on {protocol}"));
    }
    let mut judges = Judges::new(compiler, &set.inventory);
    let mut found: Vec<Flow> = Vec::new();
    for source in from.sources(&set.inventory) {
        for arriving in to.destinations(&set.inventory, protocol, port) {
            let same_pod = source.pod.is_some() && source.pod == arriving.end.pod;
            if same_pod || source.address.is_ipv4() != arriving.end.address.is_ipv4() {
                continue;
            }
            let question = Question {
                source,
                destination: arriving.end,
                dialled: arriving.dialled,
                name: arriving.name,
                protocol,
                port: arriving.port,
                request: request.as_ref(),
            };
            let places = &set.loaded.places;
            let told =
                explain(compiler, &mut judges, places, &question).map_err(|error| error.to_string())?;
            if !found.iter().any(|(_, _, before)| *before == told) {
                let flow =
                    format!("{} to {} {protocol}/{}", source.address, arriving.end.address, arriving.port);
                found.push((flow, request.clone(), told));
            }
        }
    }
    if found.is_empty() {
        return Err(no_flow(arguments, &from, &to, set));
    }
    Ok(found)
}

/// Why nothing can be asked.
fn no_flow(arguments: &ExplainArguments, from: &Ends, to: &Ends, set: &Set) -> String {
    let nowhere = |ends: &Ends| ends.sources(&set.inventory).is_empty();
    match (from, to) {
        (Ends::Service(_) | Ends::Name(_), _) => {
            format!("`{}` opens no flow: name the workload or address that does", arguments.from)
        }
        (_, Ends::Service(_)) => format!(
            "`{}` leads to nobody on port {} but to the source itself: its endpoints are not in the inventory, or not ready",
            arguments.to, arguments.port
        ),
        (from, _) if nowhere(from) => format!("`{}` has no address yet", arguments.from),
        (_, to @ Ends::Pods(_)) if nowhere(to) => format!("`{}` has no address yet", arguments.to),
        (_, _) => {
            "no flow between these ends: they need addresses of one family, and must be two pods".to_owned()
        }
    }
}

/// `8080` is TCP; for ICMP the number is the type.
pub(super) fn parse_port(text: &str) -> Result<(L4Protocol, u16), String> {
    let (protocol, number) = text.split_once('/').unwrap_or(("tcp", text));
    let wrong = || format!("`{text}` is no port: write `8080`, `udp/53` or `icmp/8`");
    let protocol = L4Protocol::parse(protocol).ok_or_else(wrong)?;
    if protocol.is_icmp() {
        let kind: u8 = number.parse().map_err(|_| wrong())?;
        return Ok((protocol, u16::from(kind) << 8));
    }
    let port: u16 = number.parse().map_err(|_| wrong())?;
    if port == 0 { Err(wrong()) } else { Ok((protocol, port)) }
}

fn print(format: ExplainFormat, found: &[Flow]) -> u8 {
    match format {
        ExplainFormat::Text => {
            for (flow, _, told) in found {
                say!("{flow}: {}\n{told}", told.answer.effect(Version::Enforced));
            }
        }
        ExplainFormat::Json => {
            let flows: Vec<Value> = found.iter().map(flow_json).collect();
            say!("{:#}", Value::from(flows));
        }
    }
    let denied = |(_, _, told): &Flow| told.answer.effect(Version::Enforced) == Effect::Deny;
    if found.is_empty() {
        return BAD_INPUT;
    }
    if found.iter().any(denied) { DOES_NOT_HOLD } else { HOLDS }
}

fn flow_json((flow, request, told): &Flow) -> Value {
    json!({
        "flow": flow,
        "verdict": told.answer.effect(Version::Enforced).as_str(),
        "shadow": told.answer.effect(Version::Shadow).as_str(),
        "request": request.as_ref().map(requests::to_json),
        "sides": told.sides.iter().map(side_json).collect::<Vec<_>>(),
    })
}

fn side_json(side: &SideExplanation) -> Value {
    let steps: Vec<Value> = side
        .steps
        .iter()
        .map(|step| {
            json!({
                "tier": step.tier.as_str(),
                "policy": step.policy,
                "place": step.place.as_ref().map(ToString::to_string),
                "says": step.says,
            })
        })
        .collect();
    let nearest = side.nearest.as_ref().map(|nearest| {
        json!({
            "rule": nearest.rule,
            "place": nearest.place.as_ref().map(ToString::to_string),
            "differs": nearest.differs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "fields": nearest.differs.iter().map(|difference| difference.field()).collect::<Vec<_>>(),
        })
    });
    json!({
        "direction": side.answer.direction.as_str(),
        "pod": format!("{}/{}", side.answer.pod.namespace, side.answer.pod.name),
        "workload": side.answer.workload.to_string(),
        "collection": side.collection,
        "inspected": side.answer.inspected,
        "enforced": answer_json(side.answer.version(Version::Enforced)),
        "shadow": answer_json(side.answer.version(Version::Shadow)),
        "steps": steps,
        "nearest": nearest,
        "change": side.change.as_ref().map(|change| change.says.clone()),
        "patch": side.change.as_ref().and_then(patch_json),
    })
}

/// What a machine has to do: operations on a document, or a new document.
fn patch_json(change: &Change) -> Option<Value> {
    Some(match change.patch.as_ref()? {
        Patch::Edit { document, operations } => json!({
            "document": {"kind": document.kind, "namespace": document.namespace, "name": document.name},
            "operations": operations,
        }),
        Patch::Create(document) => json!({"create": document}),
    })
}

fn answer_json((answer, rule): (Answer, Option<&RuleInfo>)) -> Value {
    json!({
        "verdict": answer.effect.as_str(),
        "reason": answer.reason.as_str(),
        "tier": rule.map(|rule| rule.tier.as_str()),
        "policy": rule.map(|rule| rule.policy.to_string()),
        "rule": rule.map(|rule| rule.rule.clone()),
    })
}

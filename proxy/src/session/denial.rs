//! What a refused client is told.
//!
//! A peer learns the reason and an identifier by which its people can ask ours: an allowlist is not for attackers
//! to read. The pod's own app is told everything, so that whoever wrote it can see what to change.

use bulkhead_facts::Direction;
use bulkhead_inspect::{Call, Hello, HttpHead, Notice, Question, Statements, Subject, signature};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::Answer;
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A refusal on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    /// JSON; empty where the protocol has no place for it.
    body: String,
    /// The same in one line of text.
    line: String,
    /// Identifier in the body and in the report.
    pub(super) report_id: String,
}

impl Denial {
    /// For the inspector to put into its protocol's form.
    pub(super) fn notice(&self, status: u16) -> Notice<'_> {
        Notice { status, json: &self.body, line: &self.line }
    }
}

/// Whom and what a refusal concerns.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) direction: Direction,
    pub(super) peer: IpAddr,
    pub(super) port: u16,
    /// The request; `None` where it could not be read.
    pub(super) question: Option<&'a Question<'a>>,
    /// What could not be read, in our words.
    pub(super) detail: Option<&'static str>,
}

/// Writes the refusal.
pub(super) fn denial(judge: &Judge, answer: Answer, about: About<'_>) -> Denial {
    let report_id = new_report_id();
    let is_http = about.question.is_none_or(|question| matches!(question.subject, Subject::Http(_)));
    if about.direction == Direction::Ingress && !is_http {
        // Whoever does not speak HTTP is told a line, of which a peer learns little.
        let line = told_in_line(answer, &report_id);
        return Denial { body: String::new(), line, report_id };
    }
    let mut body =
        json!({"error": "denied by bulkhead", "reason": answer.reason.as_str(), "report": report_id});
    if let (Direction::Egress, Some(fields)) = (about.direction, body.as_object_mut()) {
        fields.insert("policy".to_owned(), policy(judge, answer).into());
        if let Some(rule) = answer.rule {
            fields.insert("rule".to_owned(), judge.rule(rule).rule.clone().into());
        }
        fields.insert("revision".to_owned(), judge.program().revision.into());
        fields.insert("destination".to_owned(), format!("{} port {}", about.peer, about.port).into());
        if let Some(detail) = about.detail {
            fields.insert("detail".to_owned(), detail.into());
        }
        fields.insert("change".to_owned(), change(judge, answer, about).into());
    }
    let mut line = told_in_line(answer, &report_id);
    if let (Direction::Egress, Some(change)) = (about.direction, body.get("change").and_then(Value::as_str)) {
        line = printable(&format!("{line} {}: {change}", policy(judge, answer)));
    }
    Denial { body: format!("{body}\n"), line, report_id }
}

fn told_in_line(answer: Answer, report_id: &str) -> String {
    format!("denied by bulkhead: {} (report {report_id})", answer.reason.as_str())
}

/// One line of printable ASCII, whatever names it holds.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

fn policy(judge: &Judge, answer: Answer) -> String {
    match (answer.rule, &judge.program().collection) {
        (Some(rule), _) => judge.rule(rule).policy.to_string(),
        (None, Some(collection)) => format!("default of Collection/{collection}"),
        (None, None) => "default".to_owned(),
    }
}

/// The smallest change that would let it pass.
fn change(judge: &Judge, answer: Answer, about: About<'_>) -> String {
    let Some(question) = about.question else {
        if answer.reason == bulkhead_facts::Reason::Limit {
            return "send less at once, or allow the port without an L7 section".to_owned();
        }
        return "send requests that every server reads alike, or allow the port without an L7 section"
            .to_owned();
    };
    let (section, request) = item(question);
    let from_deny = answer.reason == bulkhead_facts::Reason::DeniedByRule;
    match answer.rule.map(|rule| judge.rule(rule)) {
        Some(rule) if from_deny => {
            format!("narrow rule `{}` of {} so that it spares {request}", rule.rule, rule.policy)
        }
        Some(rule) => {
            format!("add {request} to `{section}` of egress rule `{}` of {}", rule.rule, rule.policy)
        }
        None => format!(
            "add {request} to `{section}` of an egress rule of {} to {} port {}",
            judge.program().workload,
            about.peer,
            about.port
        ),
    }
}

/// The section that the request belongs to, and the item of it that is this request.
pub(super) fn item(question: &Question<'_>) -> (&'static str, String) {
    match &question.subject {
        Subject::Http(head) => ("http", http_item(head)),
        Subject::Tls(hello) => ("tls", tls_item(hello)),
        Subject::Redis(command) => {
            ("redis", format!("{{commands: [{}]}}", command.name.to_ascii_lowercase()))
        }
        Subject::Postgres(message) => ("postgres", postgres_item(message)),
        Subject::Kafka(call) => ("kafka", kafka_item(call)),
    }
}

fn kafka_item(call: &Call<'_>) -> String {
    let topics = match call.topics.as_slice() {
        [] => String::new(),
        topics => format!(", topics: [{}]", topics.join(", ")),
    };
    format!("{{apis: [api-{}]{topics}}}", call.api)
}

fn postgres_item(message: &Statements<'_>) -> String {
    let classes: Vec<&str> = message.classes.iter().map(|class| class.as_str()).collect();
    let statements = match classes.as_slice() {
        [] => String::new(),
        classes => format!(", statements: [{}]", classes.join(", ")),
    };
    format!("{{users: [{:?}], databases: [{:?}]{statements}}}", message.user, message.database)
}

/// `tls` is one mapping, no list: what is added are its fields.
fn tls_item(hello: &Hello) -> String {
    match (&hello.server_name, hello.encrypted) {
        (_, true) => "{ech: true}".to_owned(),
        (None, false) => "{noSni: true}".to_owned(),
        (Some(name), false) => format!("{{sni: [{}]}}", name.as_str()),
    }
}

fn http_item(head: &HttpHead<'_>) -> String {
    let (method, path) = (signature::method(head.method), signature::template(head.target_text()));
    format!("{{methods: [{method}], path: \"{path}\"}}")
}

/// Sixteen hexadecimal digits that say nothing of how many there were before.
pub(crate) fn new_report_id() -> String {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}", KEYS.hash_one(COUNT.fetch_add(1, Ordering::Relaxed)))
}

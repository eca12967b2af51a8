//! The shape of documents that stand beside policies: PolicyTest and PolicyProof.

use super::{
    Field, STATEMENTS, Shape, dns, field, grpc, kafka, list, postgres, redis, request, required, tls,
};

/// The `spec` of a PolicyProof.
pub(super) fn policy_proof() -> Shape {
    let ends = || Shape::OneOrMore(Box::new(Shape::Text));
    let says = "Pod, workload, `namespace/…`, address, block, `outside` or `nodes`";
    let never = vec![
        field("name", Shape::Text, "For reports."),
        field("from", ends(), "Who must not; absent: everybody."),
        field("except", ends(), "Who may all the same."),
        field("to", ends(), "What must not be reached; absent: anything."),
    ];
    let only = vec![
        field("name", Shape::Text, "For reports."),
        required("from", ends(), says),
        required("to", ends(), says),
    ];
    let contained = Shape::Object(vec![
        field("name", Shape::Text, "For reports."),
        required("from", ends(), "What is compromised."),
        required("within", ends(), "All that may be reached from it, over any number of steps."),
    ]);
    let carrying = |ends: Vec<Field>| Shape::Object(ends.into_iter().chain(traffic()).collect());
    let lists = |shape: Shape| Shape::List(Box::new(shape), 0);
    Shape::Object(vec![
        field("never", lists(carrying(never)), "Flows that nobody named may open."),
        field("only", lists(carrying(only)), "Flows that nobody else may open."),
        field("contained", lists(contained), "How far a compromised workload reaches."),
    ])
}

/// What a flow carries that an assertion is about.
fn traffic() -> Vec<Field> {
    let port = Shape::OneOrMore(Box::new(Shape::PortText));
    vec![
        field("port", port, "The destination's own; absent: every one."),
        field("http", list(request()), "Only these requests, as in a rule; absent: every byte."),
        field("grpc", list(grpc()), "Only these calls."),
        field("tls", tls(), "Only these TLS clients."),
        field("dns", list(dns()), "Only these questions."),
        field("redis", list(redis()), "Only these commands."),
        field("postgres", list(postgres()), "Only these sessions and statements."),
        field("kafka", list(kafka()), "Only these requests."),
    ]
}

/// The `spec` of a PolicyTest.
pub(super) fn policy_test() -> Shape {
    let ends = || Shape::OneOrMore(Box::new(Shape::Text));
    let mut fields = vec![
        field("name", Shape::Text, "For reports."),
        required("from", ends(), "Pod, workload or address; several in a list."),
        required("to", ends(), "Pod, workload, Service or address; several in a list."),
        required("port", Shape::OneOrMore(Box::new(Shape::PortText)), "`8080`, `udp/53`; several in a list."),
    ];
    fields.extend(asked());
    fields.extend([
        field("answer", Shape::Word(&["enforced", "shadow"]), "Which answer is meant."),
        field("rule", Shape::Text, "The rule that has to settle it."),
        field("reason", Shape::Text, "The reason that the verdict has to carry."),
    ]);
    let case = Shape::Object(fields);
    let cases = || Shape::List(Box::new(case.clone()), 0);
    Shape::Object(vec![
        field("allow", cases(), "Flows that must pass."),
        field("deny", cases(), "Flows that must not."),
    ])
}

/// The request of a case, by its protocol; without one, bytes that nobody can read.
fn asked() -> Vec<Field> {
    let texts = || list(Shape::Text);
    let http = vec![
        field("method", Shape::Text, "Absent: GET."),
        required("path", Shape::Text, "With its query."),
        field("host", Shape::Text, "With or without port."),
        field("headers", Shape::TextMap, "Header fields."),
    ];
    let grpc =
        vec![required("service", Shape::Text, "Full name."), required("method", Shape::Text, "Its method.")];
    let tls = vec![
        field("sni", Shape::Text, "Server name; absent: the client names none."),
        field("version", Shape::Text, "`\"1.3\"`, or `1.2-1.3` for what is offered; absent: 1.2-1.3."),
        field("alpn", texts(), "Application protocols that are offered."),
        field("ech", Shape::Boolean, "The client encrypts the name that it means."),
    ];
    let dns = vec![
        required("name", Shape::Text, "The name."),
        field("type", Shape::Text, "`A`, `AAAA`, … or `TYPE65`; absent: A."),
    ];
    let redis = vec![
        required("command", Shape::Text, "First word, without case."),
        field("keys", texts(), "The keys that it names."),
        field("database", Shape::NumberText, "Number, or `unknown`; absent: 0."),
    ];
    let postgres = vec![
        required("user", Shape::Text, "Role."),
        field("database", Shape::Text, "Absent: the one with the role's name."),
        field(
            "statements",
            list(Shape::Word(ASKED_STATEMENTS)),
            "Classes; absent: the start of the session.",
        ),
    ];
    let kafka = vec![
        required("api", Shape::Text, "`produce`, `fetch`, … or `api-NUMBER`."),
        field("topics", texts(), "The topics that it names."),
    ];
    vec![
        field("http", Shape::Object(http), "A request of HTTP."),
        field("grpc", Shape::Object(grpc), "A call of gRPC."),
        field("tls", Shape::Object(tls), "The first message of a TLS client."),
        field("dns", Shape::Object(dns), "A question to a name server."),
        field("redis", Shape::Object(redis), "A command to Redis."),
        field("postgres", Shape::Object(postgres), "Statements, or the start of a session."),
        field("kafka", Shape::Object(kafka), "A request to Kafka."),
    ]
}

/// Those that rules name, and what is none of them.
const ASKED_STATEMENTS: &[&str] = &{
    let mut all = ["other"; STATEMENTS.len() + 1];
    let mut at = 0;
    while at < STATEMENTS.len() {
        all[at] = STATEMENTS[at];
        at += 1;
    }
    all
};

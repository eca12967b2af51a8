//! Kafka through sessions against an implementation of others: the client franz-go and its broker.
//!
//! Needs `kafka-peer`: `deploy/tools.sh kafka` builds it with Go. Without it the tests are skipped and say so.

use super::h2spec::front;
use super::*;
use bulkhead_policies::model::{KafkaMatch, TopicMatch};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

fn program_path() -> Option<PathBuf> {
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tools/kafka-peer");
    let named = std::env::var_os("BULKHEAD_KAFKA_PEER").map(PathBuf::from);
    let found = named.into_iter().chain([built]).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: kafka-peer is not here; `deploy/tools.sh kafka` builds it");
    }
    found
}

/// A broker with the topics `orders` and `secret`.
async fn broker(program: &PathBuf) -> (Child, SocketAddr) {
    let mut command = Command::new(program);
    command.arg("broker").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("a broker");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    timeout(PATIENCE, BufReader::new(stdout).read_line(&mut line)).await.expect("in time").expect("a line");
    (child, line.trim().parse().expect("an address"))
}

/// Everything about `orders`, and what names no topic: groups, transactions, versions.
fn rules() -> Vec<KafkaMatch> {
    let topic = KafkaMatch { apis: vec![], topics: vec![TopicMatch::Exact("orders".into())] };
    vec![topic, KafkaMatch { apis: vec![10, 11, 12, 13, 14, 18, 22, 25, 26], topics: vec![] }]
}

async fn steps(program: &PathBuf, front: SocketAddr, most: &str) -> Vec<String> {
    let mut client = Command::new(program);
    client.args(["client", &front.to_string(), most]).kill_on_drop(true);
    let output = timeout(Duration::from_secs(90), client.output()).await.expect("in time").expect("a client");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_every_age_do_what_is_allowed_and_are_told_of_the_rest_in_words_of_their_own() {
    let Some(program) = program_path() else { return };
    for most in ["", "v3.5", "v2.8", "v2.0", "v1.0"] {
        let (_broker, destination) = broker(&program).await;
        let lab = Lab::new(Hold::Gate, Direction::Ingress, destination);
        let mut program_of = super::program(Hold::Gate, Direction::Ingress);
        program_of.l7_chains[0].enforced[0].entries[0].section = Some(L7Section::Kafka(rules()));
        let judge = Arc::new(Judge::new(program_of).expect("a valid program"));
        let current = Current { judge, ..(*current(Hold::Gate, Direction::Ingress)).clone() };
        lab.policy.send_replace(Arc::new(current));
        let lab = Arc::new(lab);
        let told = steps(&program, front(Arc::clone(&lab)).await, most).await;
        let denied = "TOPIC_AUTHORIZATION_FAILED";
        let expected = [
            "produce orders: ok",
            "produce orders: ok",
            "produce orders: ok",
            "produce orders: ok",
            "fetch orders: ok",
            "group on orders: ok",
            "transaction on orders: ok",
            &format!("produce secret: {denied}"),
            &format!("fetch secret: {denied}"),
            &format!("metadata secret: {denied}"),
            "metadata orders: ok",
            "produce orders again: ok",
        ];
        assert_eq!(told, expected, "versions up to {most:?}: {:?}", lines(&lab.flows()));
    }
}

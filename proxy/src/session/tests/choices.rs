//! Connections to a Service of which only some endpoints may be reached.

use super::origin::{self, Origin};
use super::{Client, Hold, Lab, program};
use crate::policy::Current;
use crate::session::limits::ENDPOINT_TRIES_MAX;
use crate::session::{Dial, Ends, serve};
use bulkhead_facts::{Direction, Effect, PortRange, Reason};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{
    Action, AddressSpan, Answer, AnswerId, AnswerPair, Choice, ChoiceId, ClassId, Endpoint, L7ChainId,
    PortBox, Program,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The Service; nobody listens there.
const SERVICE: Ipv4Addr = Ipv4Addr::new(127, 96, 0, 1);
const PORT: u16 = 80;
/// Passes whatever it says.
const OPEN: Action = Action::Answer(AnswerId(1));
/// Requests to `/ok/**` pass.
const GATED: Action = Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(3) };

/// Dials what it is told to, and notes it.
#[derive(Clone, Default)]
struct AsTold(Arc<Mutex<Vec<SocketAddr>>>);

impl Dial for AsTold {
    async fn dial(&self, ends: Ends) -> io::Result<TcpStream> {
        self.0.lock().expect("no panic").push(ends.destination);
        TcpStream::connect(ends.destination).await
    }
}

/// The Service leads to these; they may be dialled themselves as well, and nothing else may.
fn led_to(endpoints: &[(SocketAddr, Action)]) -> Arc<Current> {
    let mut endpoints: Vec<Endpoint> = endpoints
        .iter()
        .map(|(at, action)| Endpoint { address: at.ip(), port: at.port(), action: *action })
        .collect();
    endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
    let mut program = program(Hold::Gate, Direction::Egress);
    let differ = Answer { effect: Effect::Deny, rule: None, reason: Reason::EndpointsDiffer };
    program.answers.push(AnswerPair { enforced: differ, shadow: differ });
    let service = u32::from(SERVICE);
    let span = |address: u32, class| AddressSpan { first: address, last: address, class: ClassId(class) };
    program.egress.v4 = vec![span(Ipv4Addr::LOCALHOST.into(), 1), span(service, 0)];
    let port_box = |class, port, action| PortBox {
        class: ClassId(class),
        ports: PortRange::single(port),
        action,
        ..program.egress.boxes[0]
    };
    let choose = Action::Choose { choice: ChoiceId(0), otherwise: AnswerId(4) };
    let mut boxes = vec![port_box(0, PORT, choose)];
    boxes.extend(endpoints.iter().map(|endpoint| port_box(1, endpoint.port, endpoint.action)));
    program.egress.boxes = boxes;
    program.choices = vec![Choice { endpoints }];
    current(program)
}

fn current(program: Program) -> Arc<Current> {
    let judge = Judge::new(program).expect("a valid program");
    Arc::new(Current { judge: Arc::new(judge), generation: 1, named: Default::default() })
}

struct Ground {
    lab: Lab,
    dialled: AsTold,
}

impl Ground {
    fn new(current: Arc<Current>) -> Self {
        let lab = Lab::new(Hold::Gate, Direction::Egress, (SERVICE, PORT).into());
        lab.policy.send_replace(current);
        Self { lab, dialled: AsTold::default() }
    }

    async fn connect(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (accepted, client) = accepted.expect("a connection");
        let ends = Ends { client, destination: self.lab.destination };
        let (shared, dial) = (self.lab.shared(), self.dialled.clone());
        let session =
            tokio::spawn(async move { serve(Direction::Egress, accepted, ends, shared, &dial).await });
        Client { stream: stream.expect("a connection"), session }
    }

    /// The status of one request on a connection of its own; `None` if it is reset.
    async fn ask(&self, path: &str) -> Option<String> {
        let mut client = self.connect().await;
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        let (answer, _) = client.read_to_end().await;
        client.finish().await;
        answer.split_whitespace().nth(1).map(str::to_owned)
    }

    fn dialled(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.dialled.0.lock().expect("no panic"))
    }
}

/// A port of this machine that is taken and that nobody listens on.
fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

async fn two() -> [Origin; 2] {
    [origin::http().await, origin::http().await]
}

#[tokio::test]
async fn only_endpoints_that_may_be_reached_are_dialled_and_each_has_its_share() {
    let [one, other] = two().await;
    let ground = Ground::new(led_to(&[(one.address, OPEN), (other.address, OPEN)]));
    for _ in 0..60 {
        assert_eq!(ground.ask("/any").await.as_deref(), Some("200"));
    }
    let mut shares: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    ground.dialled().into_iter().for_each(|at| *shares.entry(at).or_default() += 1);
    assert_eq!(shares.keys().copied().collect::<Vec<_>>(), {
        let mut both = vec![one.address, other.address];
        both.sort();
        both
    });
    // Of 60 that are thrown evenly, fewer than 10 on one side come once in 10 million.
    assert!(shares.values().all(|share| *share >= 10), "{shares:?}");
}

#[tokio::test]
async fn where_one_refuses_the_next_is_tried_and_what_was_dialled_is_told() {
    let [one, _] = two().await;
    let (_taken, gone) = refusing();
    let ground = Ground::new(led_to(&[(one.address, OPEN), (gone, OPEN)]));
    for _ in 0..20 {
        assert_eq!(ground.ask("/any").await.as_deref(), Some("200"));
    }
    assert!(ground.dialled().contains(&gone), "tried now and then");
    let flows = ground.lab.flows();
    assert!(flows.iter().all(|flow| flow.endpoint == Some(one.address)), "{flows:?}");
    let seen = flows.iter().map(|flow| (flow.peer, flow.port, flow.count)).collect::<Vec<_>>();
    assert_eq!(seen, [(SERVICE.into(), PORT, 20)], "the app meant the Service");
}

#[tokio::test]
async fn where_all_refuse_so_do_we_after_as_many_tries_as_the_limit() {
    let taken: Vec<_> = (0..2 * ENDPOINT_TRIES_MAX).map(|_| refusing()).collect();
    let endpoints: Vec<_> = taken.iter().map(|(_, at)| (*at, OPEN)).collect();
    let ground = Ground::new(led_to(&endpoints));
    assert_eq!(ground.ask("/any").await, None);
    let dialled = ground.dialled();
    let different: BTreeSet<_> = dialled.iter().collect();
    assert_eq!((dialled.len(), different.len()), (ENDPOINT_TRIES_MAX, ENDPOINT_TRIES_MAX));
}

#[tokio::test]
async fn requests_are_judged_by_the_rules_of_the_endpoint_that_was_reached() {
    let [open, gated] = two().await;
    let ground = Ground::new(led_to(&[(open.address, OPEN), (gated.address, GATED)]));
    for _ in 0..40 {
        let answered = ground.ask("/elsewhere").await;
        let expected = match ground.dialled()[..] {
            [at] if at == open.address => "200",
            [at] if at == gated.address => "403",
            ref other => panic!("{other:?}"),
        };
        assert_eq!(answered.as_deref(), Some(expected));
    }
    assert!(!gated.seen.text().contains("/elsewhere"), "it never arrives there");
    for flow in ground.lab.flows() {
        let allowed = flow.enforced.effect == Effect::Allow;
        let at = if allowed { open.address } else { gated.address };
        assert_eq!((flow.endpoint, flow.peer), (Some(at), SERVICE.into()), "{flow:?}");
    }
}

/// True if a connection under the one program is served on under the other.
async fn goes_on(before: &Arc<Current>, after: Arc<Current>) -> bool {
    const ASK: &[u8] = b"GET /ok/1 HTTP/1.1\r\nhost: a\r\n\r\n";
    let ground = Ground::new(Arc::clone(before));
    let mut client = ground.connect().await;
    client.send(ASK).await;
    client.read_until("/ok/1 0 0\n").await;
    ground.lab.policy.send_replace(after);
    // It may be reset already.
    let _ = client.stream.write_all(ASK).await;
    let answer = client.read(12).await;
    client.finish().await;
    answer == b"HTTP/1.1 200"
}

#[tokio::test]
async fn an_open_connection_ends_when_its_endpoint_may_not_be_reached_any_more_and_else_goes_on() {
    let [one, other] = two().await;
    let only = |at: &Origin| led_to(&[(at.address, GATED)]);
    let before = only(&one);
    let both = led_to(&[(one.address, GATED), (other.address, OPEN)]);
    assert!(goes_on(&before, both).await, "one endpoint more");
    assert!(!goes_on(&before, only(&other)).await, "another one instead");
    let mut whole = Program::clone(before.judge.program());
    whole.egress.boxes[0].action = GATED;
    assert!(goes_on(&before, current(whole.clone())).await, "the whole Service");
    whole.egress.boxes.truncate(1);
    assert!(!goes_on(&before, current(whole)).await, "the whole Service, which it is none of any more");
}

#[tokio::test]
async fn a_connection_from_before_the_endpoints_differed_ends() {
    let [one, _] = two().await;
    let mut whole = Program::clone(led_to(&[(one.address, OPEN)]).judge.program());
    whole.egress.boxes[0].action = OPEN;
    // The network behind the Service's address is this machine's: what is dialled there arrives at the one origin.
    let lab = Lab::new(Hold::Gate, Direction::Egress, (SERVICE, PORT).into());
    lab.policy.send_replace(current(whole));
    let to_one = Lab { destination: one.address, ..lab };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (accepted, client) = accepted.expect("a connection");
    let ends = Ends { client, destination: (SERVICE, PORT).into() };
    let (shared, dial) = (to_one.shared(), super::To(one.address));
    let session = tokio::spawn(async move { serve(Direction::Egress, accepted, ends, shared, &dial).await });
    let mut client = Client { stream: stream.expect("a connection"), session };
    client.send("GET /ok/1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read_until("/ok/1 0 0\n").await;
    to_one.policy.send_replace(led_to(&[(one.address, OPEN)]));
    assert!(!client.read_to_end().await.1, "reset");
    client.finish().await;
    let flows = to_one.flows();
    assert!(flows.iter().any(|flow| flow.enforced.reason == Reason::EndpointsDiffer), "{flows:?}");
}

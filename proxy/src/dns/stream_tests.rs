//! Connections to name servers, over real sockets, while programs change.

use super::{Dns, QuestionJudge, serve_stream};
use crate::advisory::Advisory;
use crate::drain::Stage;
use crate::enforcement::{self, Pulse};
use crate::flows::Recorder;
use crate::intercept::Sockets;
use crate::metrics::Metrics;
use crate::policy::{Current, NamedClasses};
use crate::session::{Dial, Ends};
use crate::test_program::allowing_egress_to;
use bulkhead_facts::{Direction, PortRange};
use bulkhead_policies::decide::Judge;
use bulkhead_policies::program::{Action, AnswerId, L7Chain, L7ChainId};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// What whoever listens at the test's own address stands for.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PATIENCE: Duration = Duration::from_secs(10);
/// No question, nor the beginning of one.
const OTHER: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n";

struct To(SocketAddr);

impl Dial for To {
    async fn dial(&self, _: Ends) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

/// A program with this action for the name server. Its chains let nothing pass, and every question.
pub(super) fn program(revision: u64, action: Action) -> Arc<Current> {
    let mut program = allowing_egress_to(SERVER, revision);
    program.l7_chains =
        [0, 1].map(|end| L7Chain { enforced: vec![], shadow: vec![], end: AnswerId(end) }).into();
    for open in &mut program.egress.boxes {
        (open.ports, open.action) = (PortRange::new(53, 53).expect("a port"), action);
    }
    let judge = Arc::new(Judge::new(program).expect("valid"));
    Arc::new(Current { judge, generation: 1, named: NamedClasses::default() })
}

#[tokio::test]
async fn what_is_no_question_goes_on_only_until_a_program_denies_it() {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let table = Advisory::new("a test".to_owned());
    let (enforcement, thread) =
        enforcement::start(table, Pulse::default(), metrics.clone()).expect("a thread");
    let (_ending, stage) = watch::channel(Stage::Serving);
    let dns = Dns {
        enforcement: enforcement.clone(),
        sockets: Sockets::unmarked(),
        judge: QuestionJudge { recorder: Arc::new(Recorder::new(metrics)), internal: Arc::new([]) },
        stage,
    };
    let allowed = Action::Answer(AnswerId(1));
    let judged = Action::Inspect { chain: L7ChainId(0), opaque: AnswerId(0) };
    let (programs, policy) = watch::channel(program(1, allowed));

    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listens");
    let ours = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listens");
    let mut client = TcpStream::connect(ours.local_addr().expect("address")).await.expect("connects");
    let (captured, from) = ours.accept().await.expect("a client");
    let (ends, to) =
        (Ends { client: from, destination: (SERVER, 53).into() }, To(server.local_addr().expect("address")));
    let served = tokio::spawn(async move {
        serve_stream(&dns, Direction::Egress, captured, ends, policy, &to).await;
    });
    let (mut other, _) = server.accept().await.expect("dialled");
    let mut buffer = [0; 64];
    for revision in 1..=2 {
        client.write_all(OTHER).await.expect("sent");
        let arrived = timeout(PATIENCE, other.read_exact(&mut buffer[..OTHER.len()])).await.expect("in time");
        assert_eq!((arrived.expect("passes"), &buffer[..OTHER.len()]), (OTHER.len(), OTHER));
        programs.send_replace(program(revision + 1, allowed));
    }
    programs.send_replace(program(4, judged));
    timeout(PATIENCE, served).await.expect("in time").expect("no panic");
    for end in [&mut client, &mut other] {
        let error = end.read(&mut buffer).await.expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    enforcement.stop();
    thread.join().expect("no panic");
}

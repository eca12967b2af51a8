//! Sessions as the sidecar runs them: one thread, one runtime, a program compiled from documents.

use super::program::program;
use bulkhead_facts::Direction;
use bulkhead_policies::decide::Judge;
use bulkhead_proxy::drain::Stage;
use bulkhead_proxy::flows::Recorder;
use bulkhead_proxy::metrics::Metrics;
use bulkhead_proxy::policy::Current;
use bulkhead_proxy::session::{Dial, Ends, Shared, serve};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

struct To(SocketAddr);

impl Dial for To {
    async fn dial(&self, _: Ends) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

/// Says where it listens, and serves until standard input ends. Connections count as made to this port of a pod.
pub(crate) fn serve_until_told(origin: SocketAddr, port: u16) {
    let judge = Arc::new(Judge::new(program(POD, &[CLIENT]).expect("a program")).expect("a valid program"));
    let current = Current { judge, generation: 1, named: Default::default() };
    let (policy, stage) = (watch::channel(Arc::new(current)).0, watch::channel(Stage::Serving).0);
    let recorder = Arc::new(Recorder::new(Arc::new(Metrics::new().expect("metrics"))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    runtime.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        while let Ok((stream, client)) = listener.accept().await {
            let shared =
                Shared { policy: policy.subscribe(), recorder: recorder.clone(), stage: stage.subscribe() };
            let ends = Ends {
                client: SocketAddr::from((CLIENT, client.port())),
                destination: SocketAddr::from((POD, port)),
            };
            tokio::spawn(async move { serve(Direction::Ingress, stream, ends, shared, &To(origin)).await });
        }
    });
}

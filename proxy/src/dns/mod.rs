//! The name system between the pod and its name servers.
//!
//! Questions by UDP arrive at [`datagrams`], those by TCP at [`stream`], which carries what a [`conversation`] says. Each is
//! judged by itself ([`exchange`], [`verdict`]); what may leave goes to whoever was asked, from a port and under an identifier
//! of our own, and its answer comes back in his name.
//! Before the app sees an answer to a name that a rule allows traffic to, its addresses are admitted ([`names`], kept by
//! [`keeper`] in the thread that owns the table). We keep no answers: every question is the pod's own, and retries are its
//! business.

mod conversation;
#[cfg(test)]
mod conversation_tests;
mod counters;
mod datagrams;
mod exchange;
#[cfg(test)]
mod hello_tests;
mod keeper;
pub mod limits;
mod names;
mod report;
mod room;
mod stream;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
mod verdict;

pub use conversation::{Conversation, Step};
pub use counters::{DNS_COUNTERS, DnsCounters};
pub use datagrams::answer as answer_datagram;
pub use exchange::{Asked, Came, Open, QuestionJudge, random_identifier};
pub use keeper::NameKeeper;
pub use names::{Held, Names};
pub use stream::serve as serve_stream;
pub use verdict::{Way, is_for_us};

use crate::drain::StageReceiver;
use crate::enforcement::{Answered, Enforcement};
use crate::intercept::{DatagramListener, Destinations, Sockets};
use crate::policy::CurrentReceiver;
use bulkhead_facts::Direction;
use std::sync::Arc;
use tokio::time::timeout;

/// What all questions share.
#[derive(Clone)]
pub struct Dns {
    /// Admits addresses.
    pub enforcement: Enforcement,
    /// Makes the sockets of both legs.
    pub sockets: Sockets,
    /// Decides.
    pub judge: QuestionJudge,
    /// Life of the process.
    pub stage: StageReceiver,
}

impl Dns {
    /// Serves captured datagrams until the drain begins.
    pub fn serve_datagrams(
        &self,
        listeners: Vec<DatagramListener>,
        destinations: Destinations,
        current: &CurrentReceiver,
    ) {
        let destinations = Arc::new(destinations);
        let (inbound, outbound) = (Arc::default(), Arc::default());
        for listener in listeners {
            let room = match listener.direction {
                Direction::Ingress => Arc::clone(&inbound),
                Direction::Egress => Arc::clone(&outbound),
            };
            let service = datagrams::Service {
                dns: self.clone(),
                listener: Arc::new(listener),
                destinations: destinations.clone(),
                room,
                policy: current.clone(),
            };
            tokio::spawn(service.serve());
        }
    }

    /// Has the addresses of a name admitted; false if they are not in time.
    async fn admit(&self, answered: Answered) -> bool {
        match timeout(limits::LEARNING_TIMEOUT, self.enforcement.learn(answered)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the addresses of a name are not admitted");
                false
            }
            Err(_) => false,
        }
    }
}

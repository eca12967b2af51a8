//! One sidecar's stream: its program down, its flows up.
//!
//! One task owns the stream. It sends the newest program of its pod whenever that is not the one it sent last, one
//! at a time: a sidecar that is slow to answer gets, when it has answered, the newest and none in between.

use super::service::SidecarPort;
use crate::clock::now_ms;
use crate::flows::{self, Observer};
use crate::identity::PodIdentity;
use crate::limits::{HELLO_TIMEOUT, PROGRAM_ANSWER_TIMEOUT};
use crate::store::{Appended, Batch, StoreError};
use crate::world::World;
use bulkhead_api::rest::{Party, PartyKind};
use bulkhead_api::{ControllerMessage, FlowBatch, Hello, ProgramResult, SidecarMessage, v1};
use bulkhead_policies::program::Program;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

pub(super) struct Session {
    port: SidecarPort,
    pod: PodIdentity,
    /// When the certificate ends, and the stream with it.
    expires: Instant,
    outbound: mpsc::Sender<Result<v1::ToSidecar, Status>>,
    stream: u64,
    instance: String,
    /// Revision of the program that was sent last.
    sent_revision: u64,
    /// The program that was not answered yet.
    unanswered: Option<Unanswered>,
    nonce: u64,
    observer: Observer,
    /// Flow records for which the store had no room, to be told with the next batch that it takes.
    lost: u64,
}

struct Unanswered {
    nonce: u64,
    deadline: Instant,
}

enum Event {
    Message(Result<Option<v1::FromSidecar>, Status>),
    WorldChanged,
    ProgramOverdue,
    CertificateEnded,
    Drain,
}

impl Session {
    pub(super) fn new(
        port: SidecarPort,
        pod: PodIdentity,
        not_after_seconds: u64,
        outbound: mpsc::Sender<Result<v1::ToSidecar, Status>>,
    ) -> Self {
        let valid = Duration::from_secs(not_after_seconds.saturating_sub(now_ms() / 1000));
        // Until the inventory names the pod, reports name its UID.
        let party = Party {
            kind: PartyKind::Workload,
            namespace: Some(pod.namespace.clone()),
            name: pod.uid.clone(),
        };
        let observer = Observer { party, pod: pod.uid.clone() };
        Self {
            port,
            pod,
            expires: Instant::now() + valid,
            outbound,
            stream: 0,
            instance: String::new(),
            sent_revision: 0,
            unanswered: None,
            nonce: 0,
            observer,
            lost: 0,
        }
    }

    pub(super) async fn run(mut self, mut inbound: Streaming<v1::FromSidecar>) {
        let uid = self.pod.uid.clone();
        match self.talk(&mut inbound).await {
            Ok(()) => tracing::info!(uid, "sidecar detached"),
            Err(status) => {
                tracing::warn!(uid, reason = status.message(), "sidecar detached");
                // The sidecar may have gone already.
                let _ = self.outbound.try_send(Err(status));
            }
        }
        self.port.fleet.detach(&uid, self.stream, now_ms());
        self.port.metrics.attached(&self.port.fleet);
    }

    async fn talk(&mut self, inbound: &mut Streaming<v1::FromSidecar>) -> Result<(), Status> {
        let hello = hello(inbound).await?;
        let uid = self.pod.uid.clone();
        self.stream = self.port.fleet.attach(&uid, &hello, now_ms());
        self.port.metrics.attached(&self.port.fleet);
        self.instance = hello.instance;
        // Its program is sent whatever revision it has: one that was given before the state folder was restored from a
        // copy may be given anew, to other policies.
        tracing::info!(uid, version = hello.version, revision = hello.revision, "sidecar attached");
        self.send_program().await?;
        loop {
            match self.next_event(inbound).await {
                Event::Message(Ok(Some(message))) => self.take(message).await?,
                Event::Message(Ok(None)) | Event::Drain => return Ok(()),
                Event::Message(Err(status)) => return Err(status),
                Event::WorldChanged => self.send_program().await?,
                Event::ProgramOverdue => {
                    return Err(Status::deadline_exceeded("program was neither acknowledged nor refused"));
                }
                Event::CertificateEnded => return Err(Status::unauthenticated("certificate has ended")),
            }
            if !self.port.fleet.speaks(&uid, self.stream) {
                return Err(Status::aborted("a newer stream of this pod took over"));
            }
        }
    }

    async fn next_event(&mut self, inbound: &mut Streaming<v1::FromSidecar>) -> Event {
        let overdue = self.unanswered.as_ref().map_or(self.expires, |unanswered| unanswered.deadline);
        let waiting = self.unanswered.is_some();
        tokio::select! {
            message = inbound.message() => Event::Message(message),
            changed = self.port.world.changed(), if !waiting => match changed {
                Ok(()) => Event::WorldChanged,
                Err(_) => Event::Drain,
            },
            () = sleep_until(overdue), if waiting => Event::ProgramOverdue,
            () = sleep_until(self.expires) => Event::CertificateEnded,
            () = self.port.drain.begun() => Event::Drain,
        }
    }

    async fn take(&mut self, message: v1::FromSidecar) -> Result<(), Status> {
        let message =
            SidecarMessage::try_from(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (fleet, uid) = (&self.port.fleet, &self.pod.uid);
        match message {
            SidecarMessage::Hello(_) => Err(Status::invalid_argument("a second hello on one stream")),
            SidecarMessage::Result(result) => self.program_answered(&result).await,
            SidecarMessage::Report(report) => {
                fleet.reported(uid, self.stream, &report, now_ms());
                Ok(())
            }
            SidecarMessage::Flows(batch) => {
                fleet.heard(uid, self.stream, now_ms());
                self.store(batch).await
            }
        }
    }

    /// Sends the newest program unless it was sent or another one is unanswered.
    async fn send_program(&mut self) -> Result<(), Status> {
        let world = self.port.world.borrow_and_update().clone();
        self.look_at(&world)?;
        let Some(indexed) = world.pods.get(&self.pod.uid) else { return Ok(()) };
        if indexed.program.revision == self.sent_revision || self.unanswered.is_some() {
            return Ok(());
        }
        self.nonce += 1;
        let program = Program::clone(&indexed.program);
        self.sent_revision = program.revision;
        let message = ControllerMessage::Program { nonce: self.nonce, program: Box::new(program) };
        self.unanswered =
            Some(Unanswered { nonce: self.nonce, deadline: Instant::now() + PROGRAM_ANSWER_TIMEOUT });
        self.send(&message).await
    }

    async fn program_answered(&mut self, result: &ProgramResult) -> Result<(), Status> {
        self.port.fleet.program_answered(&self.pod.uid, self.stream, result, now_ms());
        self.port.metrics.program_answered(result.error.is_none());
        if let Some(error) = &result.error {
            tracing::error!(
                uid = self.pod.uid,
                revision = self.sent_revision,
                error,
                "sidecar refused its program"
            );
        }
        if self.unanswered.as_ref().is_some_and(|unanswered| unanswered.nonce == result.nonce) {
            self.unanswered = None;
            self.send_program().await?;
        }
        Ok(())
    }

    /// Stores a batch and acknowledges it after the commit. A store without room loses the batch, counts it and keeps
    /// the stream, on which policy comes. A store that fails ends the stream: the sidecar sends the batch again.
    async fn store(&mut self, batch: FlowBatch) -> Result<(), Status> {
        let FlowBatch { sequence, flows, dropped } = batch;
        let received_ms = now_ms();
        let addresses = self.port.world.borrow().addresses.clone();
        let edges = flows
            .iter()
            .map(|flow| flows::resolve(&addresses, &self.observer, flow, received_ms))
            .collect::<Vec<_>>();
        let count = edges.len();
        let batch = Batch {
            pod_uid: self.pod.uid.clone(),
            instance: self.instance.clone(),
            sequence,
            edges,
            dropped: dropped.saturating_add(self.lost),
            received_ms,
        };
        match taken(self.port.records.append(batch).await)? {
            Some(appended) => {
                // What came again was told of before; what was lost since is told next time.
                if appended == Appended::Stored {
                    self.lost = 0;
                }
                self.port.metrics.batch_taken(count, appended == Appended::Repeated);
            }
            None => {
                self.lost = self.lost.saturating_add(dropped).saturating_add(count as u64);
                self.port.metrics.batch_refused();
                tracing::error!(uid = self.pod.uid, records = count, "no room for flows: counted as dropped");
            }
        }
        self.send(&ControllerMessage::FlowAck { sequence }).await
    }

    /// Learns the pod's name, and that its certificate still says who it is.
    fn look_at(&mut self, world: &Arc<World>) -> Result<(), Status> {
        let Some((name, pod)) = world.pod(&self.pod.uid) else { return Ok(()) };
        if name.namespace != self.pod.namespace || pod.service_account != self.pod.service_account {
            return Err(Status::permission_denied(
                "certificate names another service account than the pod has",
            ));
        }
        self.observer = Observer { party: flows::workload(pod), pod: name.name.clone() };
        Ok(())
    }

    async fn send(&self, message: &ControllerMessage) -> Result<(), Status> {
        let sent = self.outbound.send(Ok(message.into())).await;
        sent.map_err(|_| Status::cancelled("the sidecar has gone"))
    }
}

/// What became of a batch; `None` if there was no room for it.
fn taken(stored: Result<Appended, StoreError>) -> Result<Option<Appended>, Status> {
    match stored {
        Ok(appended) => Ok(Some(appended)),
        Err(StoreError::Full { .. }) => Ok(None),
        Err(error) => Err(Status::unavailable(error.to_string())),
    }
}

async fn hello(inbound: &mut Streaming<v1::FromSidecar>) -> Result<Hello, Status> {
    let first = timeout(HELLO_TIMEOUT, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no hello in time"))??;
    let first = first.ok_or_else(|| Status::cancelled("the sidecar has gone"))?;
    match SidecarMessage::try_from(first) {
        Ok(SidecarMessage::Hello(hello)) => Ok(hello),
        Ok(SidecarMessage::Result(_) | SidecarMessage::Flows(_) | SidecarMessage::Report(_)) => {
            Err(Status::invalid_argument("the first message is not a hello"))
        }
        Err(error) => Err(Status::invalid_argument(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_without_room_keeps_the_stream_and_one_that_fails_ends_it() {
        assert!(matches!(taken(Ok(Appended::Stored)), Ok(Some(Appended::Stored))));
        assert!(matches!(taken(Err(StoreError::Full { what: "store flows" })), Ok(None)));
        assert!(taken(Err(StoreError::Closed)).is_err());
    }
}

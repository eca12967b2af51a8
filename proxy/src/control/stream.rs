//! One attached stream: programs come down, results, flows and reports go up.
//!
//! A loop waits on one enum of events. Programs are taken one after the other; each is acknowledged by its nonce, or
//! refused with the reason while the one before stays. Flows go up in numbered batches as the window allows.

use super::{Control, ControlError};
use crate::clock;
use crate::drain::Stage;
use crate::enforcement::EnforcementError;
use crate::limits::CONTROL_MESSAGES_MAX;
use bulkhead_api::limits::{ERROR_BYTES_MAX, MESSAGE_TO_SIDECAR_BYTES_MAX};
use bulkhead_api::v1::sidecars_client::SidecarsClient;
use bulkhead_api::v1::to_sidecar;
use bulkhead_api::{Hello, InvalidMessage, ProgramResult, SidecarMessage, SidecarReport, v1};
use bulkhead_policies::decide::{InvalidProgram, Judge};
use bulkhead_policies::program::Program;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

const FLOW_INTERVAL: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What can happen while attached.
enum Event {
    /// The controller said something.
    Message(Box<v1::ToSidecar>),
    /// Time to look for flows.
    FlowsDue,
    /// Time to say how we fare.
    ReportDue,
    /// Time for a new certificate.
    RenewalDue,
    /// The process ends: the last flows go now.
    Ending,
}

/// Why a program was not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the update holds no program")]
    Missing,
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    #[error(transparent)]
    Program(#[from] InvalidProgram),
    #[error(transparent)]
    Enforcement(#[from] EnforcementError),
}

impl Control {
    /// Attaches and stays so. `Ok` at the end of the process or when a new certificate is due.
    pub(super) async fn stay_attached(
        &mut self,
        channel: Channel,
        instance: &str,
        renewal_due_ms: u64,
    ) -> Result<(), ControlError> {
        let (up, messages) = mpsc::channel(CONTROL_MESSAGES_MAX);
        send(&up, SidecarMessage::Hello(self.hello(instance))).await?;
        let mut down = attach(channel, messages).await?;
        tracing::info!(controller = %self.transport.controller, "attached to the controller");
        self.metrics.controller_attached.set(1);
        self.recorder.rewind();
        let (mut flows, mut reports) = (ticks(FLOW_INTERVAL), ticks(REPORT_INTERVAL));
        let mut stage = self.stage.clone();
        loop {
            let event = tokio::select! {
                message = down.message() => Event::Message(Box::new(received(message)?)),
                _ = flows.tick() => Event::FlowsDue,
                _ = reports.tick() => match clock::unix_ms() >= renewal_due_ms {
                    true => Event::RenewalDue,
                    false => Event::ReportDue,
                },
                _ = stage.wait_for(|stage| *stage == Stage::Ending) => Event::Ending,
            };
            match event {
                Event::Message(message) => self.hear(*message, &up).await?,
                Event::FlowsDue => self.send_flows(&up).await?,
                Event::ReportDue => self.report(&up).await?,
                Event::RenewalDue => return Ok(()),
                Event::Ending => return self.say_farewell(down, &up).await,
            }
        }
    }

    fn hello(&self, instance: &str) -> Hello {
        Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.enforcement.revision(),
            capability: self.posture.capability(),
            instance: instance.to_owned(),
        }
    }

    async fn hear(
        &mut self,
        message: v1::ToSidecar,
        up: &mpsc::Sender<v1::FromSidecar>,
    ) -> Result<(), ControlError> {
        match message.message.ok_or(InvalidMessage::Missing("to_sidecar.message"))? {
            to_sidecar::Message::Program(update) => {
                let nonce = update.nonce;
                let error = self.take(update.program).await.err().map(refusal_text);
                let revision = self.enforcement.revision();
                send(up, SidecarMessage::Result(ProgramResult { nonce, revision, error })).await
            }
            to_sidecar::Message::FlowAck(ack) => {
                self.recorder.acknowledge(ack.sequence);
                self.send_flows(up).await
            }
        }
    }

    /// Enforces a program, then keeps it on disk.
    async fn take(&mut self, program: Option<v1::Program>) -> Result<(), Refusal> {
        let started = Instant::now();
        let taken = self.enforce(program).await;
        match &taken {
            Ok(()) => {
                self.metrics.programs_applied.inc();
                self.metrics.program_apply_seconds.observe(started.elapsed().as_secs_f64());
            }
            Err(error) => {
                self.metrics.programs_refused.inc();
                tracing::error!(%error, "program refused: the last good one stays");
            }
        }
        taken
    }

    async fn enforce(&mut self, program: Option<v1::Program>) -> Result<(), Refusal> {
        let mut program = Program::try_from(program.ok_or(Refusal::Missing)?)?;
        if let Some(current) = self.enforcement.current() {
            // Numbers that stay keep what hangs on them in the kernel.
            program = program.numbered_like(current.judge.program());
            if *current.judge.program() == program {
                return Ok(());
            }
        }
        let judge = Arc::new(Judge::new(program)?);
        self.enforcement.apply(judge.clone()).await?;
        if let Err(error) = self.last_good.write(judge.program()) {
            tracing::error!(%error, "program in force, but not kept for a restart");
        }
        Ok(())
    }

    async fn send_flows(&self, up: &mpsc::Sender<v1::FromSidecar>) -> Result<(), ControlError> {
        self.recorder.make_batch();
        while up.capacity() > 1 {
            let Some(batch) = self.recorder.next_batch() else { break };
            send(up, SidecarMessage::Flows(batch)).await?;
        }
        Ok(())
    }

    async fn report(&self, up: &mpsc::Sender<v1::FromSidecar>) -> Result<(), ControlError> {
        let report = SidecarReport {
            revision: self.enforcement.revision(),
            capability: self.posture.capability(),
            connections_open: u64::try_from(self.metrics.connections_open.get()).unwrap_or(0),
            tampering: self.metrics.tampering.get(),
            weaknesses: self.posture.weaknesses(),
        };
        send(up, SidecarMessage::Report(report)).await
    }

    /// Sends what there is and waits for its acknowledgement; the caller bounds the time.
    async fn say_farewell(
        &mut self,
        mut down: Streaming<v1::ToSidecar>,
        up: &mpsc::Sender<v1::FromSidecar>,
    ) -> Result<(), ControlError> {
        self.send_flows(up).await?;
        while self.recorder.has_pending() {
            let message = received(down.message().await)?;
            if let Some(to_sidecar::Message::FlowAck(ack)) = message.message {
                self.recorder.acknowledge(ack.sequence);
                self.send_flows(up).await?;
            }
        }
        Ok(())
    }
}

async fn attach(
    channel: Channel,
    messages: mpsc::Receiver<v1::FromSidecar>,
) -> Result<Streaming<v1::ToSidecar>, ControlError> {
    let mut client = SidecarsClient::new(channel).max_decoding_message_size(MESSAGE_TO_SIDECAR_BYTES_MAX);
    let answer = timeout(ANSWER_TIMEOUT, client.attach(ReceiverStream::new(messages))).await;
    let answer = answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
    answer.map(tonic::Response::into_inner).map_err(refused)
}

fn received(message: Result<Option<v1::ToSidecar>, tonic::Status>) -> Result<v1::ToSidecar, ControlError> {
    message.map_err(refused)?.ok_or(ControlError::Ended)
}

async fn send(up: &mpsc::Sender<v1::FromSidecar>, message: SidecarMessage) -> Result<(), ControlError> {
    match timeout(ANSWER_TIMEOUT, up.send((&message).into())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(ControlError::Ended),
        Err(_) => Err(ControlError::Stalled(ANSWER_TIMEOUT)),
    }
}

fn refused(status: tonic::Status) -> ControlError {
    ControlError::Refused { call: "Attach", status: Box::new(status) }
}

fn refusal_text(refusal: Refusal) -> String {
    refusal.to_string().chars().take(ERROR_BYTES_MAX / 4).collect()
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

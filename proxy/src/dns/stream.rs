//! Questions by TCP: any number on one connection, answered in any order (RFC 7766).
//!
//! Every message is judged by itself and by the program in force when it comes. Where nothing can be denied, bytes that are
//! no questions make the connection a tunnel; elsewhere they end it.

use super::Dns;
use super::exchange::{Asked, Came, Open};
use super::limits::{QUESTION_BYTES_MAX, STREAM_IDLE_TIMEOUT, STREAM_QUESTIONS_MAX};
use super::verdict::{Verdict, Way, verdict};
use crate::drain::Stage;
use crate::policy::{Current, CurrentReceiver};
use crate::session::limits::DIAL_TIMEOUT;
use crate::session::{Dial, Ends};
use bulkhead_facts::{Direction, L4Protocol};
use bulkhead_inspect::dns::{Answer, Frame, Query, QueryFault, frame};
use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::mem::take;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes read at once.
const READ_BYTES: usize = 4 * 1024;

/// Serves one captured connection to its end.
pub async fn serve<D: Dial>(
    dns: &Dns,
    direction: Direction,
    mut client: TcpStream,
    ends: Ends,
    mut policy: CurrentReceiver,
    dial: &D,
) {
    let (peer, local) = match direction {
        Direction::Ingress => (ends.client, ends.destination),
        Direction::Egress => (ends.destination, ends.client),
    };
    let (peer, local) = (peer.ip(), local.ip());
    let way = Way { direction, peer, local, protocol: L4Protocol::TCP, port: ends.destination.port() };
    policy.borrow_and_update();
    let Ok(Ok(mut server)) = timeout(DIAL_TIMEOUT, dial.dial(ends)).await else {
        return reset(&client);
    };
    let mut conversation = Conversation {
        dns,
        way,
        policy,
        open: HashMap::new(),
        from_client: Vec::new(),
        from_server: Vec::new(),
        client_ended: false,
    };
    let mut end = conversation.run(&mut client, &mut server).await;
    if let Ok(End::Tunnel) = end {
        end = conversation.tunnel(&mut client, &mut server).await;
    }
    match end {
        Ok(End::Closed | End::Tunnel) => {
            let _ = client.shutdown().await;
        }
        Ok(End::Reset) | Err(_) => {
            reset(&client);
            reset(&server);
        }
    }
}

fn reset(stream: &TcpStream) {
    // Without the option the end is orderly, which is the worst that can happen.
    let _ = stream.set_zero_linger();
}

/// How a conversation ends.
enum End {
    Closed,
    Reset,
    /// It is none of the name system, and may be what it wants.
    Tunnel,
}

struct Conversation<'d> {
    dns: &'d Dns,
    way: Way,
    policy: CurrentReceiver,
    /// By the identifier on the way to the name server.
    open: HashMap<u16, Box<Open>>,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    client_ended: bool,
}

/// What a conversation waits for.
enum Event {
    Client(usize),
    Server(usize),
    Policy,
    Drain,
    Idle,
}

impl Conversation<'_> {
    async fn run(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<End> {
        loop {
            match self.next(client, server).await? {
                Event::Client(0) => {
                    self.client_ended = true;
                    server.shutdown().await?;
                }
                Event::Client(_) => {}
                Event::Server(0) => return Ok(End::Closed),
                Event::Server(_) => {
                    if let Some(end) = self.answers(client).await? {
                        return Ok(end);
                    }
                }
                Event::Policy if self.is_over() => return Ok(End::Reset),
                Event::Policy => {}
                Event::Drain if self.open.is_empty() => return Ok(End::Closed),
                Event::Drain => {}
                Event::Idle => return Ok(End::Closed),
            }
            if let Some(end) = self.questions(client, server).await? {
                return Ok(end);
            }
        }
    }

    async fn next(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<Event> {
        let takes = !self.client_ended && self.has_room();
        let mut stage = self.dns.stage.clone();
        let is_draining = *stage.borrow() != Stage::Serving;
        if is_draining && self.open.is_empty() {
            return Ok(Event::Drain);
        }
        let waited = timeout(STREAM_IDLE_TIMEOUT, async {
            tokio::select! {
                read = read(client, &mut self.from_client), if takes => read.map(Event::Client),
                read = read(server, &mut self.from_server) => read.map(Event::Server),
                Ok(()) = self.policy.changed() => Ok(Event::Policy),
                _ = stage.wait_for(|stage| *stage != Stage::Serving), if !is_draining => Ok(Event::Drain),
            }
        });
        waited.await.unwrap_or(Ok(Event::Idle))
    }

    fn has_room(&self) -> bool {
        self.open.len() < STREAM_QUESTIONS_MAX
    }

    /// True if nothing at all may be asked here any more.
    fn is_over(&mut self) -> bool {
        let current = self.policy.borrow_and_update().clone();
        let nothing = Err(QueryFault::NoQuestion);
        let settled = !super::is_for_us(&current, self.way.direction, self.way.peer, self.way.port);
        settled && matches!(verdict(&current, self.way, nothing), Verdict::Refuse(_))
    }

    /// Takes what questions are complete.
    async fn questions(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<Option<End>> {
        while self.has_room() {
            let (message, used) = match frame(&self.from_client) {
                Frame::Message { message, used } => (message.to_vec(), used),
                Frame::NeedMore if self.may_be_question() => return Ok(None),
                Frame::NeedMore | Frame::TooShort => return Ok(Some(self.no_question())),
            };
            let current = self.policy.borrow().clone();
            match self.dns.ask(&current, self.way, &message) {
                Asked::Release { open, .. } if !open.is_readable() => return Ok(Some(End::Tunnel)),
                Asked::Release { mut message, mut open } => {
                    // An answer belongs to one question only.
                    while self.open.contains_key(&open.id) {
                        open.id = open.id.wrapping_add(1);
                    }
                    Answer::restore_id(&mut message, open.id);
                    self.open.insert(open.id, open);
                    send(server, &message).await?;
                }
                Asked::Refuse(refusal) => send(client, &refusal).await?,
                Asked::Drop => return Ok(Some(End::Reset)),
            }
            self.from_client.drain(..used);
        }
        Ok(None)
    }

    /// True while the first message may still become a question. None is as long as what other protocols begin with.
    fn may_be_question(&self) -> bool {
        let Some((length, message)) = self.from_client.split_first_chunk() else { return true };
        usize::from(u16::from_be_bytes(*length)) <= QUESTION_BYTES_MAX && Query::may_begin(message)
    }

    /// What begins like no question.
    fn no_question(&self) -> End {
        let current = self.policy.borrow().clone();
        match verdict(&current, self.way, Err(QueryFault::NoQuestion)) {
            Verdict::Release { .. } => End::Tunnel,
            Verdict::Refuse(_) | Verdict::SearchEnd(_) => {
                self.dns.ask(&current, self.way, &[]);
                End::Reset
            }
        }
    }

    /// Takes what answers are complete.
    async fn answers(&mut self, client: &mut TcpStream) -> io::Result<Option<End>> {
        loop {
            let (message, used) = match frame(&self.from_server) {
                Frame::Message { message, used } => (message.to_vec(), used),
                Frame::NeedMore if !self.open.is_empty() => return Ok(None),
                Frame::NeedMore if self.from_server.is_empty() => return Ok(None),
                // A server that speaks first, or in another way.
                Frame::NeedMore | Frame::TooShort => return Ok(Some(self.no_question())),
            };
            let id = message.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
            if let Some(open) = self.open.get(&id) {
                let lasts = open.is_transfer();
                if let Came::Pass(answer) = self.dns.answered(self.way, open, message).await {
                    send(client, &answer).await?;
                    if !lasts {
                        self.open.remove(&id);
                    }
                }
            }
            self.from_server.drain(..used);
        }
    }

    /// Passes what was read and everything that comes, as long as no program denies what is no question; then both ends
    /// are reset.
    async fn tunnel(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<End> {
        let (from_client, from_server) = (take(&mut self.from_client), take(&mut self.from_server));
        let carried = async {
            server.write_all(&from_client).await?;
            client.write_all(&from_server).await?;
            copy_bidirectional(client, server).await.map(|_| End::Closed)
        };
        tokio::select! {
            carried = carried => carried,
            () = self.denied() => Ok(End::Reset),
        }
    }

    /// Returns when a program denies what is no question.
    async fn denied(&mut self) {
        let way = self.way;
        let allows = |current: &Arc<Current>| {
            matches!(verdict(current, way, Err(QueryFault::NoQuestion)), Verdict::Release { .. })
        };
        // Without its sender no program comes any more.
        if self.policy.wait_for(|current| !allows(current)).await.is_err() {
            pending().await
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    buffer.reserve(READ_BYTES);
    stream.read_buf(buffer).await
}

/// An end that takes nothing for so long holds the conversation no longer: no program would be heard meanwhile.
async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).unwrap_or(0);
    let framed = [&length.to_be_bytes()[..], message].concat();
    timeout(STREAM_IDLE_TIMEOUT, stream.write_all(&framed)).await?
}

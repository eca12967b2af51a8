//! One side of a connection: its socket, what was read from it, and how it ended.

use super::buffer::Buffer;
use crate::splice::Pipe;
use socket2::SockRef;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// One side.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) stream: TcpStream,
    /// Read from it, on the way to the other side.
    pub(super) inbound: Buffer,
    /// It sends nothing more.
    pub(super) ended: bool,
    /// We send it nothing more.
    pub(super) shut: bool,
    /// It takes nothing more.
    pub(super) broken: bool,
    /// Bytes read from it and sent to it.
    pub(super) passed: u64,
    /// Bytes read from it into the buffer.
    pub(super) received: u64,
    /// Something was sent to it.
    spoken: bool,
    /// What is sent to it leaves at once.
    prompt: bool,
    /// The last read filled the buffer: much is coming.
    bulk: bool,
    pipe: Option<Pipe>,
}

/// What a call of [`Leg::poll_splice`] did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spliced {
    /// Bytes taken from this side.
    pub(super) taken: u64,
    /// Bytes given to the other side.
    pub(super) given: u64,
}

impl Leg {
    pub(super) fn new(stream: TcpStream, buffer_bytes: usize) -> Self {
        Self {
            stream,
            inbound: Buffer::new(buffer_bytes),
            ended: false,
            shut: false,
            broken: false,
            passed: 0,
            received: 0,
            spoken: false,
            prompt: false,
            bulk: false,
            pipe: None,
        }
    }

    /// Reads once. True if something came, or the end.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if self.ended || self.inbound.is_full() {
            return Ok(false);
        }
        // A side with nothing to say needs no buffer.
        if self.stream.poll_read_ready(context)?.is_pending() {
            return Ok(false);
        }
        let space = self.inbound.space();
        let room = space.len();
        let mut read = ReadBuf::new(space);
        match Pin::new(&mut self.stream).poll_read(context, &mut read)? {
            Poll::Pending => Ok(false),
            Poll::Ready(()) => {
                let count = read.filled().len();
                self.ended = count == 0 && room > 0;
                self.bulk = count == room;
                self.inbound.filled(count);
                self.received += u64::try_from(count).unwrap_or_default();
                self.passed += u64::try_from(count).unwrap_or_default();
                Ok(true)
            }
        }
    }

    /// True if it holds nothing and has nothing to read; then it wakes the task when it has.
    pub(super) fn is_quiet(&mut self, context: &mut Context<'_>) -> bool {
        !self.ended
            && !self.broken
            && self.inbound.is_empty()
            && !self.holds_in_pipe()
            && self.stream.poll_read_ready(context).is_pending()
    }

    /// Without the option the last bytes of a message wait for an acknowledgement, but for those that are sent first: most
    /// short connections need no more. A socket that does not know the option still works.
    fn be_prompt(&mut self) {
        if self.spoken && !self.prompt {
            self.prompt = true;
            let _ = self.stream.set_nodelay(true);
        }
        self.spoken = true;
    }

    /// So many bytes of `from` were sent to this side.
    pub(super) fn sent(&mut self, from: &mut Buffer, count: usize) {
        from.sent(count);
        self.spoken |= count > 0;
        self.passed += u64::try_from(count).unwrap_or_default();
    }

    /// True if nothing has come that was not read: a socket that is closed over it would say so by a reset.
    pub(super) fn has_nothing_to_read(&self, context: &mut Context<'_>) -> bool {
        self.ended || self.stream.poll_read_ready(context).is_pending()
    }

    /// Sends what `from` holds and may leave; with the end of the stream where that `end_follows` at once. True if something was
    /// sent. A failure breaks this side.
    pub(super) fn poll_send(
        &mut self,
        from: &mut Buffer,
        gate: bool,
        end_follows: bool,
        context: &mut Context<'_>,
    ) -> bool {
        let mut moved = false;
        loop {
            let unsent = from.unsent(gate);
            if unsent.is_empty() {
                return moved;
            }
            if self.broken || self.shut {
                from.drop_unsent();
                return moved;
            }
            self.be_prompt();
            let written = match end_follows {
                true => self.poll_write_last(unsent, context),
                false => Pin::new(&mut self.stream).poll_write(context, unsent),
            };
            match written {
                Poll::Ready(Ok(count)) => {
                    self.sent(from, count);
                    moved = true;
                }
                Poll::Ready(Err(_)) => self.broken = true,
                Poll::Pending => return moved,
            }
        }
    }

    /// The kernel holds the last packet back until the end of the stream is said, for a fifth of a second at most.
    fn poll_write_last(&self, bytes: &[u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let send =
                || SockRef::from(&self.stream).send_with_flags(bytes, libc::MSG_NOSIGNAL | libc::MSG_MORE);
            match self.stream.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Sends some of `bytes`; `None` while nothing is taken. A failure breaks this side.
    pub(super) fn poll_send_bytes(&mut self, bytes: &[u8], context: &mut Context<'_>) -> Option<usize> {
        self.be_prompt();
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => None,
            Poll::Ready(Ok(count)) => Some(count),
            Poll::Ready(Err(_)) => {
                self.broken = true;
                Some(bytes.len())
            }
        }
    }

    /// True if bytes that may pass unseen should go through the kernel: many, nothing before them, and a pipe for
    /// them.
    pub(super) fn should_splice(&mut self, passable: u64) -> bool {
        let many = if passable == u64::MAX { self.bulk } else { passable >= super::limits::SPLICE_BYTES_MIN };
        self.holds_in_pipe() || (many && self.inbound.is_empty() && self.has_pipe())
    }

    fn has_pipe(&mut self) -> bool {
        if self.pipe.is_none() {
            self.pipe = Pipe::take();
        }
        self.pipe.is_some()
    }

    /// True while bytes of this side are between two calls of [`poll_splice`](Self::poll_splice).
    pub(super) fn holds_in_pipe(&self) -> bool {
        self.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0)
    }

    /// Moves up to `limit` bytes of this side to the other through the kernel.
    pub(super) fn poll_splice(
        &mut self,
        to: &mut Self,
        limit: u64,
        context: &mut Context<'_>,
    ) -> io::Result<Spliced> {
        let mut spliced = Spliced::default();
        let fills = !self.holds_in_pipe() && limit > 0 && !self.ended;
        if fills && let Poll::Ready(taken) = self.poll_fill_pipe(limit, context) {
            spliced.taken = taken?;
            self.ended = spliced.taken == 0;
        }
        if self.holds_in_pipe() {
            to.spoken = true;
            to.be_prompt();
            match self.poll_drain_pipe(to, context) {
                Poll::Pending => {}
                Poll::Ready(Ok(given)) => spliced.given = given,
                Poll::Ready(Err(_)) => {
                    to.broken = true;
                    self.pipe = None;
                }
            }
        }
        self.passed += spliced.taken;
        to.passed += spliced.given;
        Ok(spliced)
    }

    fn poll_fill_pipe(&mut self, limit: u64, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Pending };
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            let stream = &self.stream;
            match stream.try_io(Interest::READABLE, || pipe.fill(stream, limit)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                filled => return Poll::Ready(filled.map(|count| u64::try_from(count).unwrap_or_default())),
            }
        }
    }

    fn poll_drain_pipe(&mut self, to: &Self, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Pending };
        loop {
            ready!(to.stream.poll_write_ready(context))?;
            match to.stream.try_io(Interest::WRITABLE, || pipe.drain(&to.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                drained => return Poll::Ready(drained.map(|count| u64::try_from(count).unwrap_or_default())),
            }
        }
    }

    /// True if nothing of this side still has to be sent on.
    pub(super) fn is_flushed(&self, gate: bool) -> bool {
        self.inbound.unsent(gate).is_empty() && !self.holds_in_pipe()
    }

    /// Sends the end of the stream, once.
    pub(super) fn shut(&mut self, context: &mut Context<'_>) {
        if !std::mem::replace(&mut self.shut, true) {
            // A socket that cannot be shut down is closed already; reading says so.
            let _ = Pin::new(&mut self.stream).poll_shutdown(context);
        }
    }

    /// Gives back what an idle side does not need.
    pub(super) fn release(&mut self) {
        self.inbound.release();
        if !self.holds_in_pipe()
            && let Some(pipe) = self.pipe.take()
        {
            pipe.put();
        }
    }

    /// Makes the other end see a reset instead of an orderly end when this is dropped.
    pub(super) fn reset_on_drop(&self) {
        // Without the option the end is orderly, which is the worst that can happen.
        let _ = self.stream.set_zero_linger();
    }
}

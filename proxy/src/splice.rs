//! Bytes from one socket to another through a pipe, without a copy in user space (splice(2)).
//!
//! A pipe is filled only when empty: then `WouldBlock` from filling can only mean that the socket has nothing,
//! and no wake-up is lost. The unsafe code of the sessions is here, and nothing else is.
#![allow(unsafe_code)]

use crate::session::limits::{PIPE_BYTES, PIPES_POOLED_MAX};
use std::cell::RefCell;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe and how many bytes are in it.
#[derive(Debug)]
pub struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    held: usize,
}

impl Pipe {
    /// An empty pipe, from the thread's pool if there is one.
    ///
    /// # Errors
    ///
    /// If the kernel has no pipe for us.
    pub fn take() -> io::Result<Self> {
        if let Some(pipe) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (reader, writer) = io::pipe()?;
        let bytes = libc::c_int::try_from(PIPE_BYTES).unwrap_or(libc::c_int::MAX);
        // A smaller pipe works too, so a refusal (the user's share of pipe memory is used up) is no error.
        // SAFETY: an open descriptor and an integer argument, which F_SETPIPE_SZ takes.
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
        Ok(Self { reader, writer, held: 0 })
    }

    /// Gives an empty pipe back to the thread's pool; one with bytes in it is closed.
    pub fn put(self) {
        // A thread that ends has no pool left; the pipe is then closed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if self.held == 0 && pool.len() < PIPES_POOLED_MAX {
                pool.push(self);
            }
        });
    }

    /// Bytes in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves up to `limit` bytes from a socket into the pipe, which must be empty. 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket has nothing now; else what the socket says.
    pub fn fill(&mut self, socket: &impl AsFd, limit: u64) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "a pipe is filled only when empty");
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(PIPE_BYTES);
        let count = splice(socket.as_fd(), self.writer.as_fd(), limit)?;
        self.held += count;
        Ok(count)
    }

    /// Moves what the pipe holds to a socket; the count.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket takes nothing now; else what the socket says.
    pub fn drain(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let count = splice(self.reader.as_fd(), socket.as_fd(), self.held)?;
        self.held = self.held.saturating_sub(count);
        Ok(count)
    }
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: both descriptors are open for the call, and null offsets are what pipes and sockets need.
    let count = unsafe {
        libc::splice(
            from.as_raw_fd(),
            std::ptr::null_mut(),
            to.as_raw_fd(),
            std::ptr::null_mut(),
            limit,
            flags,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_pass_in_order_and_the_end_is_seen() {
        let (mut source, from) = UnixStream::pair().expect("a pair");
        let (to, mut sink) = UnixStream::pair().expect("a pair");
        source.write_all(b"through the kernel").expect("room");
        drop(source);
        let mut pipe = Pipe::take().expect("a pipe");
        assert_eq!(pipe.fill(&from, 7).expect("bytes"), 7);
        assert_eq!(pipe.drain(&to).expect("room"), 7);
        assert_eq!(pipe.fill(&from, u64::MAX).expect("bytes"), 11);
        assert_eq!(pipe.held(), 11);
        assert_eq!(pipe.drain(&to).expect("room"), 11);
        assert_eq!(pipe.fill(&from, u64::MAX).expect("the end"), 0);
        drop(to);
        let mut text = String::new();
        sink.read_to_string(&mut text).expect("text");
        assert_eq!(text, "through the kernel");
    }
}

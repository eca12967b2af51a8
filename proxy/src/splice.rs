//! Bytes from one socket to another through a pipe, without a copy in user space (splice(2)).
//!
//! A pipe is filled only when empty: then `WouldBlock` from filling can only mean that the socket has nothing,
//! and no wake-up is lost. Pipes in use are counted for the whole process: where there is none, bytes are copied.
//! The unsafe code of the sessions is here, and nothing else is.
#![allow(unsafe_code)]

use crate::session::limits::{PIPE_BYTES, PIPES_IN_USE_MAX, PIPES_POOLED_MAX};
use std::cell::RefCell;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static POOL: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

/// Pipes in use now, by all threads.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// A pipe and how many bytes are in it.
#[derive(Debug)]
pub struct Pipe {
    ends: Ends,
    held: usize,
    _use: Use,
}

#[derive(Debug)]
struct Ends {
    reader: PipeReader,
    writer: PipeWriter,
}

/// One of the pipes in use, until dropped.
#[derive(Debug)]
struct Use(());

impl Pipe {
    /// An empty pipe, from the thread's pool if there is one. `None` if too many are in use or the kernel has none
    /// for us (no descriptors left): the caller copies.
    pub fn take() -> Option<Self> {
        let in_use = Use::begin()?;
        let ends = match POOL.with_borrow_mut(Vec::pop) {
            Some(ends) => ends,
            None => Ends::open().ok()?,
        };
        Some(Self { ends, held: 0, _use: in_use })
    }

    /// Gives an empty pipe back to the thread's pool; one with bytes in it is closed.
    pub fn put(self) {
        // A thread that ends has no pool left; the pipe is then closed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if self.held == 0 && pool.len() < PIPES_POOLED_MAX {
                pool.push(self.ends);
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
        let count = splice(socket.as_fd(), self.ends.writer.as_fd(), limit)?;
        self.held += count;
        Ok(count)
    }

    /// Moves what the pipe holds to a socket; the count.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket takes nothing now; else what the socket says.
    pub fn drain(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let count = splice(self.ends.reader.as_fd(), socket.as_fd(), self.held)?;
        self.held = self.held.saturating_sub(count);
        Ok(count)
    }
}

impl Ends {
    fn open() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let bytes = libc::c_int::try_from(PIPE_BYTES).unwrap_or(libc::c_int::MAX);
        // A smaller pipe works too, so a refusal (the user's share of pipe memory is used up) is no error.
        // SAFETY: an open descriptor and an integer argument, which F_SETPIPE_SZ takes.
        unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
        Ok(Self { reader, writer })
    }
}

impl Use {
    fn begin() -> Option<Self> {
        let limit = in_use_max();
        IN_USE
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < limit).then_some(count + 1))
            .is_ok()
            .then(|| Self(()))
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        IN_USE.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(not(test))]
fn in_use_max() -> usize {
    PIPES_IN_USE_MAX
}

/// What the tests of this thread allow.
#[cfg(test)]
fn in_use_max() -> usize {
    tests::IN_USE_MAX.get()
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
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    thread_local! {
        /// Pipes that may be in use as this thread sees it.
        pub(crate) static IN_USE_MAX: Cell<usize> = const { Cell::new(PIPES_IN_USE_MAX) };
    }

    #[test]
    fn a_pipe_beyond_the_limit_is_not_given() {
        let one = Pipe::take().expect("a pipe");
        IN_USE_MAX.set(1);
        assert!(Pipe::take().is_none(), "at least one is in use");
        IN_USE_MAX.set(PIPES_IN_USE_MAX);
        one.put();
        assert!(Pipe::take().is_some());
    }

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

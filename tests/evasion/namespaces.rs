//! Network namespaces held by threads, so that a test needs no helper process and leaves nothing behind.
//!
//! A namespace lives as long as its [`Space`]; code runs in it on a thread of its own.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Space {
    file: File,
}

impl Space {
    /// A new and empty one.
    pub(crate) fn new() -> io::Result<Self> {
        let made = std::thread::spawn(|| {
            // SAFETY: takes a number; concerns this thread, which ends right after.
            check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().map_err(|_| io::Error::other("the thread of a namespace panicked"))??;
        Ok(Self { file })
    }

    /// Runs `work` in this namespace, on a thread of its own, to its end.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    Ok(work())
                })
                .join()
                .map_err(|_| io::Error::other("the work in a namespace panicked"))?
        })
    }

    /// Runs `work` in this namespace on a thread that nobody waits for.
    pub(crate) fn run_aside(&self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let space = Self { file: self.file.try_clone()? };
        std::thread::spawn(move || {
            if space.enter().is_ok() {
                work();
            }
        });
        Ok(())
    }

    /// The namespace's file in /proc, for programs that name one by path.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    fn enter(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open for as long as `self`; concerns the calling thread only.
        check(unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) })
    }
}

/// Whether this process may make network namespaces.
pub(crate) fn possible() -> bool {
    Space::new().is_ok()
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

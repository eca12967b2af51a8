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

    /// Runs `work` in this namespace on a thread that can be waited for.
    pub(crate) fn run_joinable(
        &self,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<std::thread::JoinHandle<()>> {
        let space = Self { file: self.file.try_clone()? };
        Ok(std::thread::spawn(move || {
            space.enter().expect("a namespace that exists can be entered");
            work();
        }))
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

/// Makes the calling thread, and what it starts, a sidecar: a user of its own with CAP_NET_ADMIN and CAP_NET_RAW. In
/// a user namespace that knows one user only it stays root. Gives the user that it is now.
pub(crate) fn become_sidecar(uid: u32) -> io::Result<u32> {
    become_user(uid, &[12, 13])
}

/// The same without any capability.
pub(crate) fn become_powerless_sidecar(uid: u32) -> io::Result<u32> {
    become_user(uid, &[])
}

fn become_user(uid: u32, kept: &[libc::c_ulong]) -> io::Result<u32> {
    let bits = kept.iter().fold(0u32, |bits, capability| bits | 1 << capability);
    // _LINUX_CAPABILITY_VERSION_3 and this thread; then effective, permitted, inheritable, in two words each.
    let header: [u32; 2] = [0x2008_0522, 0];
    let sets: [u32; 6] = [bits, bits, bits, 0, 0, 0];
    // SAFETY: numbers only, but for `capset`, whose pointers are to live arrays of the layout that version 3 prescribes.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        libc::syscall(libc::SYS_setresgid, uid, uid, uid);
        libc::syscall(libc::SYS_setresuid, uid, uid, uid);
        if libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        kept.iter().try_for_each(|capability| {
            check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, *capability, 0, 0))
        })?;
        Ok(libc::geteuid())
    }
}

/// Whether this process may make network namespaces.
pub(crate) fn possible() -> bool {
    Space::new().is_ok()
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

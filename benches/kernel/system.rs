//! System calls that the standard library lacks: namespaces, CPUs, CPU time, waiting for two sockets.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Moves the calling thread into a new network namespace.
pub(crate) fn enter_new_network() -> io::Result<()> {
    // SAFETY: no pointers; the result is checked.
    checked(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Moves the calling thread into the network namespace behind a file.
pub(crate) fn enter_network(namespace: &File) -> io::Result<()> {
    // SAFETY: no pointers, the descriptor is borrowed from a live file; the result is checked.
    checked(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Keeps the calling thread, and threads that it starts from now on, on one CPU.
pub(crate) fn stay_on(cpu: usize) -> io::Result<()> {
    stay_within(cpu..=cpu)
}

/// Lets the calling thread, and threads that it starts from now on, use every CPU.
pub(crate) fn stay_anywhere() -> io::Result<()> {
    stay_within(0..=last_cpu())
}

fn stay_within(cpus: std::ops::RangeInclusive<usize>) -> io::Result<()> {
    // SAFETY: all-zero is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        // SAFETY: `set` is live; a CPU beyond its end is ignored.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: pointer and length describe `set`.
    checked(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) })
}

/// The number of the last CPU of this machine.
pub(crate) fn last_cpu() -> usize {
    // SAFETY: the call has no preconditions.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count - 1).unwrap_or(0)
}

/// The calling thread's id.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: the call has no preconditions and cannot fail.
    unsafe { libc::gettid() }
}

/// True for the system's root user.
pub(crate) fn is_root() -> bool {
    // SAFETY: the call has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// CPU time that a thread of this process has had, the kernel's work on its behalf included.
pub(crate) fn cpu_time_of(thread: i32) -> io::Result<Duration> {
    // The clock of a thread, as the kernel numbers it (`CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED`).
    clock((!thread) << 3 | 4 | 2)
}

/// CPU time that all threads of this process have had, those that have ended included.
pub(crate) fn cpu_time_of_all() -> io::Result<Duration> {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is that of a live value.
    checked(unsafe { libc::clock_gettime(id, &raw mut time) })?;
    let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
    Ok(Duration::new(seconds, u32::try_from(time.tv_nsec).map_err(io::Error::other)?))
}

/// User and system time that the calling thread has had.
pub(crate) fn user_and_system_time() -> io::Result<(Duration, Duration)> {
    // SAFETY: all-zero is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is that of a live value.
    checked(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) })?;
    let duration = |time: libc::timeval| {
        let micros = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    Ok((duration(usage.ru_utime), duration(usage.ru_stime)))
}

/// Waits until one of two streams can be read; says which.
pub(crate) fn readable(streams: [&TcpStream; 2], wanted: [bool; 2]) -> io::Result<[bool; 2]> {
    let entry = |index: usize| libc::pollfd {
        fd: if wanted[index] { streams[index].as_raw_fd() } else { -1 },
        events: libc::POLLIN,
        revents: 0,
    };
    let mut entries = [entry(0), entry(1)];
    // SAFETY: pointer and length describe `entries`.
    checked(unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) })?;
    Ok(entries.map(|entry| entry.revents != 0))
}

/// A netlink socket for netfilter.
pub(crate) fn netfilter_socket() -> io::Result<File> {
    use std::os::fd::FromRawFd;
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked before use.
    let fd: RawFd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) };
    checked(fd)?;
    // SAFETY: the kernel just returned `fd`, nobody else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

//! System calls that the standard library does not offer, each behind a safe function.
//!
//! Namespaces, mounts, credentials, capabilities. Nothing here decides anything; [`crate::pod`], [`crate::enter`]
//! and [`crate::outer`] do. Errors say which call failed and on what.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Number of CAP_NET_RAW.
pub(crate) const CAP_NET_RAW: u8 = 13;

/// Number of CAP_NET_ADMIN.
pub(crate) const CAP_NET_ADMIN: u8 = 12;

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old one, with the process number of the new.
    Parent(libc::pid_t),
}

/// Moves this process (for PID namespaces: its children) into new namespaces, `CLONE_NEW…`.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes no pointer.
    check("unshare", unsafe { libc::unshare(flags) }).map(drop)
}

/// Enters the namespace that `file` refers to, or for a pidfd those of that process which `flags` name.
pub(crate) fn setns(file: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call; no pointer is passed.
    check("setns", unsafe { libc::setns(file.as_raw_fd(), flags) }).map(drop)
}

/// A descriptor of a process, which keeps meaning that process when its number is used again.
pub(crate) fn pidfd(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; the result is checked before use.
    let fd =
        check_long(&format!("pidfd_open of {pid}"), unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just handed us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process of a pidfd.
pub(crate) fn kill(process: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let null = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed: the kernel then fills in that of kill(2).
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, null, 0) };
    check_long("pidfd_send_signal", result).map(drop)
}

/// Makes a copy of this process. Only for processes with one thread: the lab's `lab-pod` and `lab-enter`.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: callers have a single thread, so no lock of another thread can stay taken in the child.
    match check("fork", unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Waits for a child (-1: any) and gives its number and exit code, 128 + signal if it was killed.
pub(crate) fn wait_for(pid: libc::pid_t) -> io::Result<(libc::pid_t, u8)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for the call.
        match check("waitpid", unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(pid) if libc::WIFEXITED(status) => {
                return Ok((pid, u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(255)));
            }
            Ok(pid) => return Ok((pid, 128 + u8::try_from(libc::WTERMSIG(status)).unwrap_or(127))),
        }
    }
}

/// mount(2). Empty strings mean "none".
pub(crate) fn mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: libc::c_ulong,
    options: &str,
) -> io::Result<()> {
    let (source, at, kind, options) = (text(source)?, text(target)?, text(kind)?, text(options)?);
    // SAFETY: four NUL-terminated strings that live over the call; the kernel only reads them.
    let result =
        unsafe { libc::mount(source.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    check(&format!("mount on {target}"), result).map(drop)
}

/// Sets or clears the read-only attribute of a mount, of all below it too if `recursive`.
pub(crate) fn set_read_only(target: &str, read_only: bool, recursive: bool) -> io::Result<()> {
    const READ_ONLY: u64 = 1;
    let mut attributes: [u64; 4] = [0; 4]; // attr_set, attr_clr, propagation, userns_fd
    attributes[usize::from(!read_only)] = READ_ONLY;
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    let path = text(target)?;
    // SAFETY: path is NUL-terminated; the attributes are the 32 bytes of `struct mount_attr`, as announced.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    check_long(&format!("mount_setattr of {target}"), result).map(drop)
}

/// Sets the host name of this UTS namespace.
pub(crate) fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe the same live string.
    check("sethostname", unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Gives up all supplementary groups.
pub(crate) fn drop_groups() -> io::Result<()> {
    // SAFETY: with a count of zero the pointer is not read.
    check("setgroups", unsafe { libc::setgroups(0, ptr::null()) }).map(drop)
}

/// Becomes this user and group, real, effective and saved. Stays dumpable, so that /proc/self is still ours.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: none of the three takes a pointer.
    unsafe {
        check("setresgid", libc::setresgid(gid, gid, gid))?;
        check("setresuid", libc::setresuid(uid, uid, uid))?;
        check("prctl PR_SET_DUMPABLE", libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0)).map(drop)
    }
}

/// The effective user.
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: cannot fail and takes nothing.
    unsafe { libc::geteuid() }
}

/// The effective group.
pub(crate) fn effective_gid() -> u32 {
    // SAFETY: cannot fail and takes nothing.
    unsafe { libc::getegid() }
}

/// Has this process killed when the thread that started it ends; `false` undoes it. Forgotten by the kernel
/// whenever credentials change, so it comes last.
pub(crate) fn die_with_parent(yes: bool) -> io::Result<()> {
    let signal = if yes { libc::SIGKILL } else { 0 };
    // SAFETY: takes no pointer.
    check("prctl PR_SET_PDEATHSIG", unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) }).map(drop)
}

/// Keeps the permitted capabilities over the next change of user.
pub(crate) fn keep_capabilities() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check("prctl PR_SET_KEEPCAPS", unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }).map(drop)
}

/// Keeps exactly these capabilities, in every set, and no way to gain more: bounding set and no_new_privs.
pub(crate) fn restrict_to(kept: &[u8]) -> io::Result<()> {
    for capability in (0..=63u8).filter(|c| !kept.contains(c)) {
        // Beyond the kernel's last capability the call fails with EINVAL, which ends the list.
        // SAFETY: takes no pointer.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        if result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
            break;
        }
    }
    set_capabilities(kept)?;
    // SAFETY: neither takes a pointer.
    unsafe {
        check(
            "prctl PR_CAP_AMBIENT",
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
        )?;
        for capability in kept {
            let raise = (libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(*capability));
            check("prctl PR_CAP_AMBIENT_RAISE", libc::prctl(libc::PR_CAP_AMBIENT, raise.0, raise.1, 0, 0))?;
        }
        check("prctl PR_SET_NO_NEW_PRIVS", libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)).map(drop)
    }
}

/// Waits until one of these signals comes; they must be blocked with [`block_signals`].
pub(crate) fn next_signal(signals: &[libc::c_int]) -> io::Result<libc::c_int> {
    let set = signal_set(signals);
    let mut signal = 0;
    // SAFETY: both pointers are valid for the call.
    match unsafe { libc::sigwait(&raw const set, &raw mut signal) } {
        0 => Ok(signal),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A descriptor that is readable while one of these signals waits; they must be blocked with [`block_signals`].
pub(crate) fn signal_file(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    let set = signal_set(signals);
    // SAFETY: the set is valid for the call.
    let fd = check("signalfd", unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) })?;
    // SAFETY: the kernel just handed us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until one of two descriptors can be read or is at its end, and says which can: (first, second).
pub(crate) fn wait_readable(first: BorrowedFd<'_>, second: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    let entry = |fd: BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries = [entry(first), entry(second)];
    loop {
        // SAFETY: the array has two entries and lives over the call.
        match check("poll", unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok((entries[0].revents != 0, entries[1].revents != 0)),
        }
    }
}

/// Makes these the signals that this thread blocks, so that they wait for [`next_signal`]. Children inherit it.
pub(crate) fn block_signals(signals: &[libc::c_int]) -> io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: the set is valid for the call; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Has these signals end the process with this exit code until [`stop_ending_on_signals`]: the first process of a
/// PID namespace otherwise never notices them.
pub(crate) fn end_on_signals(signals: &[libc::c_int]) -> io::Result<()> {
    ENDING.store(true, Ordering::SeqCst);
    for signal in signals {
        // SAFETY: all zero is a valid sigaction: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: `end` does only what a signal handler may; the old action is not asked for.
        check("sigaction", unsafe { libc::sigaction(*signal, &raw const action, ptr::null_mut()) })?;
    }
    Ok(())
}

/// From now on others handle them; whoever takes over may still call our handler, which then does nothing.
pub(crate) fn stop_ending_on_signals() {
    ENDING.store(false, Ordering::SeqCst);
}

static ENDING: AtomicBool = AtomicBool::new(false);

/// Exit code after Ctrl-C, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

extern "C" fn end(_: libc::c_int) {
    if ENDING.load(Ordering::SeqCst) {
        // SAFETY: async-signal-safe, unlike exit(3).
        unsafe { libc::_exit(INTERRUPTED.into()) }
    }
}

/// Lets children inherit a descriptor, or not.
pub(crate) fn inherit(file: BorrowedFd<'_>, yes: bool) -> io::Result<()> {
    let flags = if yes { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: takes no pointer; the descriptor is borrowed for the call.
    check("fcntl F_SETFD", unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, flags) }).map(drop)
}

/// Takes an exclusive lock that lasts until the last copy of the descriptor is closed. `false`: somebody has it.
pub(crate) fn try_lock(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: takes no pointer; the descriptor is borrowed for the call.
    match check("flock", unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes over a descriptor that our parent left open for us.
pub(crate) fn inherited(fd: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; tells only whether the descriptor is open.
    check(&format!("descriptor {fd}"), unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: open, and by the contract of the caller's command line ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Becomes the leader of a session of its own, away from the terminal.
pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: takes nothing.
    check("setsid", unsafe { libc::setsid() }).map(drop)
}

/// Sends standard output and error to nowhere from now on.
pub(crate) fn silence() -> io::Result<()> {
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    for stream in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: takes no pointer; the standard streams stay open, with another file behind them.
        check("dup2", unsafe { libc::dup2(nowhere.as_raw_fd(), stream) })?;
    }
    Ok(())
}

fn set_capabilities(kept: &[u8]) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    // Two halves of effective, permitted, inheritable.
    let mut sets = [[0u32; 3]; 2];
    for capability in kept {
        sets[usize::from(capability / 32)].iter_mut().for_each(|set| *set |= 1 << (capability % 32));
    }
    // SAFETY: header and sets have the layout of version 3 of capset(2) and live over the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    check_long("capset", result).map(drop)
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: all zero is a valid sigset_t, and the calls only write into it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        signals.iter().for_each(|signal| {
            libc::sigaddset(&raw mut set, *signal);
        });
        set
    }
}

fn text(value: &str) -> io::Result<CString> {
    CString::new(value)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{value}` holds a NUL")))
}

fn check(call: &str, result: libc::c_int) -> io::Result<libc::c_int> {
    check_long(call, result.into())?;
    Ok(result)
}

fn check_long(call: &str, result: libc::c_long) -> io::Result<libc::c_long> {
    if result >= 0 {
        return Ok(result);
    }
    let error = io::Error::last_os_error();
    Err(io::Error::new(error.kind(), Failed { call: call.to_owned(), error }))
}

/// A call that failed: keeps the number of the error and says which call it was.
#[derive(Debug)]
struct Failed {
    call: String,
    error: io::Error,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} failed: {}", self.call, self.error)
    }
}

impl std::error::Error for Failed {}

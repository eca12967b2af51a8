//! Holds the AF_XDP places of every device, so that no program sends frames through them.
//!
//! An AF_XDP socket sends past every hook of the kernel's firewall, the guard of frames included, and needs CAP_NET_RAW
//! only. But a queue of a device takes one such socket, and a second is refused (`EBUSY`). So we take each queue with a
//! socket that never sends or receives. They are ours as long as this process lives: while the sidecar is dead, an app
//! that holds CAP_NET_RAW can send so. The remedy for that is not to grant CAP_NET_RAW.

#![allow(unsafe_code)]

use super::limits::DEVICE_QUEUES_MAX;
use bulkhead_netfilter::route::Device;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// The least memory that the kernel takes for such a socket: one page.
const MEMORY_BYTES: usize = 4096;

/// Sockets that hold queues.
#[derive(Debug, Default)]
pub(super) struct Queues {
    held: BTreeMap<u32, Held>,
    lacking: Option<String>,
}

#[derive(Debug, Default)]
struct Held {
    sockets: Vec<OwnedFd>,
    complete: bool,
}

impl Queues {
    /// Takes what is not held yet, and lets go of devices that are gone. For every second: a device that was down, and a
    /// queue whose holder has just ended, are taken by a later call.
    pub(super) fn hold(&mut self, devices: &[Device]) {
        self.held.retain(|index, _| devices.iter().any(|device| device.index == *index));
        self.lacking = None;
        for device in devices {
            let held = self.held.entry(device.index).or_default();
            if held.complete {
                continue;
            }
            if let Err(error) = held.take(device.index) {
                let (queue, name) = (held.sockets.len(), &device.name);
                self.lacking = Some(format!("queue {queue} of device `{name}`: {error}"));
            }
        }
    }

    /// The last queue that could not be taken and why.
    pub(super) fn lacking(&self) -> Option<&str> {
        self.lacking.as_deref()
    }
}

impl Held {
    /// Takes one queue after the other until there is none.
    fn take(&mut self, device: u32) -> io::Result<()> {
        while self.sockets.len() < DEVICE_QUEUES_MAX {
            let queue = u32::try_from(self.sockets.len()).map_err(io::Error::other)?;
            match hold(device, queue) {
                Ok(socket) => self.sockets.push(socket),
                Err(error) => match error.raw_os_error() {
                    // No further queue, or no such sockets in this kernel: nothing is left to be taken.
                    Some(libc::EINVAL | libc::EAFNOSUPPORT) => break,
                    _ => return Err(error),
                },
            }
        }
        self.complete = true;
        Ok(())
    }
}

/// A socket that has a queue and does nothing with it.
fn hold(device: u32, queue: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    register_memory(&socket)?;
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
        set(&socket, ring, &1u32)?;
    }
    let address = libc::sockaddr_xdp {
        sxdp_family: u16::try_from(libc::AF_XDP).unwrap_or(44),
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: device,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: pointer and length are those of a live value; the kernel only reads it.
    let bound = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length::<libc::sockaddr_xdp>())
    };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// Gives the socket a page that it keeps although we let go of it.
fn register_memory(socket: &OwnedFd) -> io::Result<()> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: no address is asked for, so no memory of ours is replaced.
    let page = unsafe { libc::mmap(ptr::null_mut(), MEMORY_BYTES, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let registration = libc::xdp_umem_reg {
        addr: page as u64,
        len: MEMORY_BYTES as u64,
        chunk_size: 4096,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    let registered = set(socket, libc::XDP_UMEM_REG, &registration);
    // SAFETY: the range was mapped above and is used by nobody else; the kernel holds the page itself.
    unsafe { libc::munmap(page, MEMORY_BYTES) };
    registered
}

fn set<T>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    let from = ptr::from_ref(value).cast();
    // SAFETY: pointer and length are those of a live value; the kernel only reads it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, from, length::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn length<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

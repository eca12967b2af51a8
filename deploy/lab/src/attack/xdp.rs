//! One frame sent by an AF_XDP socket: past the network stack, its queues and every hook of netfilter.
//!
//! It needs CAP_NET_RAW only and no program in the kernel: a ring of one descriptor over one page of memory (see
//! `Documentation/networking/af_xdp.rst` of Linux).

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, c_void};

const PAGE_BYTES: usize = 4096;
/// Entries of each ring; the kernel wants a power of two.
const RING_ENTRIES: u32 = 4;

/// Sends a frame, link header included, on the first queue of an interface.
///
/// # Errors
/// `Unsupported` where the kernel has no such sockets, else what the kernel said.
pub(super) fn send(interface: u32, frame: &[u8]) -> io::Result<()> {
    if frame.len() > PAGE_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let socket = open()?;
    // Unaligned frames are no concern: the frame lies at the beginning of the page.
    let memory = Mapping::anonymous(PAGE_BYTES)?;
    let registration = libc::xdp_umem_reg {
        addr: memory.start as u64,
        len: PAGE_BYTES as u64,
        chunk_size: 4096,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set(&socket, libc::XDP_UMEM_REG, &registration)?;
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
        set(&socket, ring, &RING_ENTRIES)?;
    }
    let offsets = offsets(&socket)?.tx;
    let (producer, descriptors) = (offset(offsets.producer)?, offset(offsets.desc)?);
    let descriptor = libc::xdp_desc { addr: 0, len: u32::try_from(frame.len()).unwrap_or(0), options: 0 };
    let ring = Mapping::of_ring(&socket, descriptors + RING_ENTRIES as usize * size_of::<libc::xdp_desc>())?;
    bind(&socket, interface)?;
    // SAFETY: the page is at least as long as the frame; the ring's mapping covers its producer and its descriptors, at
    // offsets that the kernel gave and that it aligns for these types; nobody else has either mapping.
    unsafe {
        ptr::copy_nonoverlapping(frame.as_ptr(), memory.start.cast(), frame.len());
        ring.start.add(descriptors).cast::<libc::xdp_desc>().write(descriptor);
        (*ring.start.add(producer).cast::<AtomicU32>()).store(1, Ordering::Release);
    }
    // SAFETY: sends no bytes of its own, so the pointers are not read: it asks the kernel to look at the ring.
    let asked =
        unsafe { libc::sendto(socket.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    check(c_int::from(asked.is_negative()).wrapping_neg())
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    check(socket)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn set<T>(socket: &OwnedFd, name: c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: pointer and length are those of a live value; the kernel only reads it.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, ptr::from_ref(value).cast(), length)
    })
}

fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: the type holds numbers only, for which zeros are valid.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    let mut length =
        libc::socklen_t::try_from(size_of::<libc::xdp_mmap_offsets>()).map_err(io::Error::other)?;
    let to = (&raw mut offsets).cast();
    // SAFETY: the kernel writes at most `length` bytes, the size of the live value.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, to, &raw mut length)
    })?;
    Ok(offsets)
}

fn bind(socket: &OwnedFd, interface: u32) -> io::Result<()> {
    let address = libc::sockaddr_xdp {
        sxdp_family: u16::try_from(libc::AF_XDP).unwrap_or(44),
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: interface,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_xdp>()).map_err(io::Error::other)?;
    // SAFETY: pointer and length are those of a live value; the kernel only reads it.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

fn offset(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

/// Memory that is unmapped at the end.
struct Mapping {
    start: *mut u8,
    bytes: usize,
}

impl Mapping {
    fn anonymous(bytes: usize) -> io::Result<Self> {
        Self::new(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    fn of_ring(socket: &OwnedFd, bytes: usize) -> io::Result<Self> {
        Self::new(bytes, libc::MAP_SHARED | libc::MAP_POPULATE, socket.as_raw_fd(), libc::XDP_PGOFF_TX_RING)
    }

    fn new(bytes: usize, flags: c_int, file: c_int, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no address is asked for, so no memory of ours is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, file, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and is not used after this.
        unsafe { libc::munmap(self.start.cast::<c_void>(), self.bytes) };
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(error),
    }
}

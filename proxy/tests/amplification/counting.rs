//! An allocator that knows how many bytes are in use by the threads that ask for it.
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]
#![allow(dead_code, reason = "whoever counts uses a part")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes in use by some threads, and threads that have to be at rest before the count is worth reading.
pub(super) struct Count {
    held: AtomicUsize,
    watched: Mutex<Vec<PathBuf>>,
}

/// Bytes in use by the threads that are counted together.
pub(super) fn held() -> usize {
    ALL.held()
}

/// From here on this thread is counted with all others.
pub(super) fn count_this_thread() {
    ALL.count_this_thread();
}

impl Count {
    pub(super) const fn new() -> Self {
        Self { held: AtomicUsize::new(0), watched: Mutex::new(Vec::new()) }
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// From here on what this thread takes and gives back is counted here.
    pub(super) fn count_this_thread(&'static self) {
        COUNT.set(Some(self));
    }

    /// This thread has to be at rest.
    pub(super) fn watch_this_thread(&self) {
        let thread = fs::read_link("/proc/thread-self").expect("a thread");
        let status = PathBuf::from("/proc").join(thread).join("stat");
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push(status);
    }

    /// True if every watched thread waits for something.
    pub(super) fn is_at_rest(&self) -> bool {
        let waits = |path: &PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            // The state stands behind the name.
            text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
        };
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).iter().all(waits)
    }
}

struct Counting;

static ALL: Count = Count::new();

thread_local! {
    static COUNT: Cell<Option<&'static Count>> = const { Cell::new(None) };
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(count) = COUNT.get() {
            count.held.fetch_add(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(count) = COUNT.get() {
            count.held.fetch_sub(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

//! An ordinary exchange on a connection that is open allocates nothing.
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use bulkhead_inspect::{Conversation, Side, Step};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// The only test of this file: the count is the whole process's.
#[test]
fn an_exchange_on_an_open_connection_allocates_nothing() {
    let mut conversation = Conversation::default();
    exchange(&mut conversation);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..100 {
        exchange(&mut conversation);
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}

fn exchange(conversation: &mut Conversation) {
    let request = b"POST /api/v1/orders/1?x=y HTTP/1.1\r\nHost: orders.shop:8080\r\nContent-Length: 5\r\nA: b\r\n\r\nhello";
    let mut rest = request.as_slice();
    while !rest.is_empty() {
        match conversation.client(rest) {
            Step::Ask(question) => {
                let http = |request: &bulkhead_facts::Request<'_>| {
                    matches!(request, bulkhead_facts::Request::Http(_))
                };
                assert!(question.with_request(http));
                conversation.allow();
            }
            Step::Forward(count) => rest = &rest[count..],
            other => panic!("{other:?}"),
        }
    }
    let mut rest = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".as_slice();
    while !rest.is_empty() {
        match conversation.server(rest) {
            Step::Forward(count) => rest = &rest[count..],
            other => panic!("{other:?}"),
        }
    }
    assert!(conversation.take_progress().completed);
    assert_eq!(conversation.passable(Side::Server), 0);
}

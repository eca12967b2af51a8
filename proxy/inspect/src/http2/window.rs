//! Flow control of the connection towards the client, as far as our own bodies take part in it (RFC 9113 section 5.2).
//!
//! The server does not know of a body that we wrote. What the client gives back for it is therefore kept from the server;
//! and until it has been given back, a frame of the server that the client's window has no room for waits.

/// The client's window for the whole connection.
#[derive(Debug)]
pub(super) struct Window {
    /// What the client takes before it gives more.
    left: i64,
    /// Bytes of our own that the client has not given back.
    debt: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { left: 65_535, debt: 0 }
    }
}

impl Window {
    /// Bytes that a body of our own may have, on a stream whose window is so large.
    pub(super) fn room(&self, stream_window: u32) -> u32 {
        u32::try_from(self.left.max(0)).unwrap_or(u32::MAX).min(stream_window)
    }

    /// A body of our own of so many bytes, at most [`room`](Self::room), is on its way.
    pub(super) fn injected(&mut self, count: u32) {
        self.left -= i64::from(count);
        self.debt = self.debt.saturating_add(count);
    }

    /// The client gives so much; the part of it that the server may know of.
    pub(super) fn given(&mut self, count: u32) -> u32 {
        self.left += i64::from(count);
        let kept = self.debt.min(count);
        self.debt -= kept;
        count - kept
    }

    /// True if a frame of the server has to wait, since our own bodies took its room.
    pub(super) fn must_wait(&self, payload: u32) -> bool {
        self.debt > 0 && i64::from(payload) > self.left
    }

    /// A frame of the server with so many bytes passes.
    pub(super) fn passed(&mut self, payload: u32) {
        self.left -= i64::from(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_never_uses_what_our_own_bodies_took() {
        let mut window = Window::default();
        assert_eq!(window.room(100), 100);
        window.injected(100);
        // The server believes in 65,535 bytes, the client has 65,435.
        window.passed(60_000);
        assert!(window.must_wait(5_535) && !window.must_wait(5_435));
        assert_eq!(window.given(60), 0, "all of it pays for our body");
        assert_eq!(window.given(1_000), 960);
        assert!(!window.must_wait(6_400), "paid: the two agree again, and the server keeps to its own view");
        assert_eq!(window.room(u32::MAX), 6_495);
    }

    #[test]
    fn there_is_no_room_in_an_empty_window() {
        let mut window = Window::default();
        window.passed(65_535);
        assert_eq!(window.room(10), 0);
        assert_eq!(window.given(7), 7);
        assert_eq!(window.room(10), 7);
    }
}

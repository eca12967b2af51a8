//! Room for questions by UDP that wait for their answer.
//!
//! Each direction has its own, so that nobody who asks the workload keeps it from asking; and of those who ask the workload
//! each has a share, so that none keeps the others from asking.

use super::limits::{QUESTIONS_OPEN_MAX, QUESTIONS_PER_PEER_MAX};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The room of one direction.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    all: usize,
    peers: HashMap<IpAddr, usize>,
}

/// A place for one question, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    peer: Option<IpAddr>,
}

impl Room {
    /// A place, if there is one. `None` is a peer that is not counted.
    pub(super) fn take(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Place> {
        let mut held = self.held();
        let of_peer = peer.and_then(|peer| held.peers.get(&peer)).copied().unwrap_or_default();
        if held.all >= QUESTIONS_OPEN_MAX || of_peer >= QUESTIONS_PER_PEER_MAX {
            return None;
        }
        held.all += 1;
        if let Some(peer) = peer {
            held.peers.insert(peer, of_peer + 1);
        }
        Some(Place { room: Arc::clone(self), peer })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.room.held();
        held.all -= 1;
        let Some(peer) = self.peer else { return };
        match held.peers.get_mut(&peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.peers.remove(&peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_has_a_share_and_what_is_left_goes_to_others() {
        let room = Arc::new(Room::default());
        let peer = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let mut places: Vec<Place> = std::iter::from_fn(|| room.take(peer(1))).collect();
        assert_eq!(places.len(), QUESTIONS_PER_PEER_MAX);
        assert!(room.take(peer(2)).is_some());
        places.pop();
        assert!(room.take(peer(1)).is_some(), "an answer makes room");
        drop(places);
        assert!(room.held().peers.is_empty(), "nobody is remembered who waits for nothing");
        let all: Vec<Place> = std::iter::from_fn(|| room.take(None)).collect();
        assert_eq!(all.len(), QUESTIONS_OPEN_MAX);
        assert!(room.take(peer(2)).is_none());
    }
}

//! The fleet: what each sidecar last said of itself.

use crate::limits::SIDECARS_REMEMBERED_MAX;
use bulkhead_api::{Capability, Hello, ProgramResult, SidecarReport, Weakness};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All sidecars that were heard of since the controller started, by the UID of their pod.
#[derive(Debug, Default)]
pub struct Fleet {
    sidecars: Mutex<BTreeMap<String, Sidecar>>,
}

/// What a sidecar last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Which of the streams of this pod speaks: a newer one takes over.
    pub stream: u64,
    /// True while that stream is open.
    pub attached: bool,
    /// Version.
    pub version: String,
    /// What it can promise.
    pub capability: Capability,
    /// What weakens that promise, as far as it has said so.
    pub weaknesses: BTreeSet<Weakness>,
    /// Revision that it enforces, 0 for none.
    pub revision: u64,
    /// Why it refused the last program.
    pub error: Option<String>,
    /// When it was last heard of.
    pub last_seen_ms: u64,
    /// Connections that it carries.
    pub connections_open: u64,
    /// Times that somebody else changed its kernel table.
    pub tampering: u64,
}

impl Fleet {
    /// A new stream of a pod takes over; returns its number.
    pub fn attach(&self, uid: &str, hello: &Hello, now_ms: u64) -> u64 {
        let mut sidecars = self.lock();
        if sidecars.len() >= SIDECARS_REMEMBERED_MAX && !sidecars.contains_key(uid) {
            forget_longest_gone(&mut sidecars);
        }
        let before = sidecars.get(uid);
        let stream = before.map_or(1, |sidecar| sidecar.stream + 1);
        let sidecar = Sidecar {
            stream,
            attached: true,
            version: hello.version.clone(),
            capability: hello.capability,
            weaknesses: BTreeSet::new(),
            revision: hello.revision,
            error: None,
            last_seen_ms: now_ms,
            connections_open: 0,
            tampering: before.map_or(0, |sidecar| sidecar.tampering),
        };
        sidecars.insert(uid.to_owned(), sidecar);
        stream
    }

    /// True while no newer stream of the pod took over.
    pub fn speaks(&self, uid: &str, stream: u64) -> bool {
        self.lock().get(uid).is_some_and(|sidecar| sidecar.stream == stream)
    }

    /// The stream ended.
    pub fn detach(&self, uid: &str, stream: u64, now_ms: u64) {
        self.change(uid, stream, now_ms, |sidecar| {
            sidecar.attached = false;
            sidecar.connections_open = 0;
        });
    }

    /// A program was acknowledged or refused.
    pub fn program_answered(&self, uid: &str, stream: u64, result: &ProgramResult, now_ms: u64) {
        self.change(uid, stream, now_ms, |sidecar| {
            sidecar.revision = result.revision;
            sidecar.error.clone_from(&result.error);
        });
    }

    /// The sidecar said how it fares.
    pub fn reported(&self, uid: &str, stream: u64, report: &SidecarReport, now_ms: u64) {
        self.change(uid, stream, now_ms, |sidecar| {
            sidecar.revision = report.revision;
            sidecar.capability = report.capability;
            sidecar.weaknesses.clone_from(&report.weaknesses);
            sidecar.connections_open = report.connections_open;
            sidecar.tampering = sidecar.tampering.max(report.tampering);
        });
    }

    /// Something else came in.
    pub fn heard(&self, uid: &str, stream: u64, now_ms: u64) {
        self.change(uid, stream, now_ms, |_| {});
    }

    /// A copy of what is known, by UID.
    pub fn sidecars(&self) -> BTreeMap<String, Sidecar> {
        self.lock().clone()
    }

    /// How many have a stream that is open.
    pub fn attached(&self) -> usize {
        self.lock().values().filter(|sidecar| sidecar.attached).count()
    }

    fn change(&self, uid: &str, stream: u64, now_ms: u64, change: impl FnOnce(&mut Sidecar)) {
        let mut sidecars = self.lock();
        let Some(sidecar) = sidecars.get_mut(uid).filter(|sidecar| sidecar.stream == stream) else { return };
        sidecar.last_seen_ms = now_ms;
        change(sidecar);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Sidecar>> {
        // Every change is complete before the lock is given back, so a panic elsewhere leaves nothing half-done.
        self.sidecars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_longest_gone(sidecars: &mut BTreeMap<String, Sidecar>) {
    let gone = sidecars.iter().filter(|(_, sidecar)| !sidecar.attached);
    if let Some(uid) = gone.min_by_key(|(_, sidecar)| sidecar.last_seen_ms).map(|(uid, _)| uid.clone()) {
        sidecars.remove(&uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_old_stream_does_not_detach_the_sidecar_that_came_back() {
        let fleet = Fleet::default();
        let old = fleet.attach("uid", &hello(1), 1);
        let new = fleet.attach("uid", &hello(2), 2);
        fleet.detach("uid", old, 3);
        assert!(!fleet.speaks("uid", old));
        assert!(fleet.speaks("uid", new));
        assert!(fleet.sidecars()["uid"].attached);
        fleet.detach("uid", new, 4);
        assert!(!fleet.sidecars()["uid"].attached);
    }

    #[test]
    fn a_refused_program_leaves_the_revision_that_is_enforced() {
        let fleet = Fleet::default();
        let stream = fleet.attach("uid", &hello(6), 1);
        let refused = ProgramResult { nonce: 1, revision: 6, error: Some("too large".into()) };
        fleet.program_answered("uid", stream, &refused, 2);
        let sidecar = &fleet.sidecars()["uid"];
        assert_eq!((sidecar.revision, sidecar.error.as_deref()), (6, Some("too large")));
    }

    #[test]
    fn what_a_sidecar_can_promise_is_what_it_reported_last() {
        let fleet = Fleet::default();
        let stream = fleet.attach("uid", &hello(1), 1);
        let mut report = SidecarReport {
            revision: 1,
            capability: Capability::Advisory,
            connections_open: 0,
            tampering: 0,
            weaknesses: [Weakness::FailOpen].into(),
        };
        let said = || {
            let sidecar = fleet.sidecars()["uid"].clone();
            (sidecar.capability, sidecar.weaknesses)
        };
        fleet.reported("uid", stream, &report, 2);
        assert_eq!(said(), (Capability::Advisory, [Weakness::FailOpen].into()));
        report.weaknesses.clear();
        fleet.reported("uid", stream, &report, 3);
        assert_eq!(said(), (Capability::Advisory, BTreeSet::new()));
    }

    fn hello(revision: u64) -> Hello {
        Hello { version: "0.1.0".into(), revision, capability: Capability::Enforced, instance: "run".into() }
    }
}

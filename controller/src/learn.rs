//! Learning.
use crate::flows::SeenEdge;
use crate::world::World;
use bulkhead_api::rest::Proposal;

/// Why nothing is proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// No such collection.
    #[error("there is no collection `{0}`")]
    NoCollection(String),
    /// No flows.
    #[error("nothing was seen of collection `{0}`: let its workloads run under `observe` first")]
    NothingSeen(String),
}

/// Temp.
pub fn propose(collection: &str, _: &[SeenEdge], _: &World, _: u64) -> Result<Proposal, LearnError> {
    Err(LearnError::NoCollection(collection.into()))
}

//! Reports read much: one is made at a time, a few wait, more are sent away.

use super::ApiError;
use crate::limits::REPORTS_WAITING_MAX;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who makes a report next.
#[derive(Clone, Debug)]
pub struct Turns {
    /// For the one who has the turn and those who wait.
    places: Arc<Semaphore>,
    turn: Arc<Semaphore>,
}

/// Leave to make a report, for as long as it is held.
#[derive(Debug)]
pub(super) struct Turn {
    _turn: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(1 + REPORTS_WAITING_MAX)), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Turns {
    /// Waits for the turn; refused at once if too many wait already.
    pub(super) async fn take(&self) -> Result<Turn, ApiError> {
        let busy = |_| ApiError::Busy("too many reports are asked for at the same time".to_owned());
        let place = self.places.clone().try_acquire_owned().map_err(busy)?;
        let turn = self.turn.clone().acquire_owned().await;
        let turn = turn.map_err(|closed| ApiError::Internal(closed.to_string()))?;
        Ok(Turn { _turn: turn, _place: place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{StatusCode, header};
    use axum::response::IntoResponse;

    #[tokio::test]
    async fn one_report_is_made_a_few_wait_and_more_are_told_when_to_come_again() {
        let turns = Turns::default();
        let first = turns.take().await.expect("nobody is there");
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..REPORTS_WAITING_MAX {
            let turns = turns.clone();
            waiting.spawn(async move { turns.take().await.is_ok() });
        }
        while turns.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(turns.turn.available_permits(), 0, "one at a time");
        let refused = turns.take().await.expect_err("full").into_response();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.headers().contains_key(header::RETRY_AFTER));
        drop(first);
        assert_eq!(waiting.join_all().await, [true; REPORTS_WAITING_MAX]);
        assert!(turns.take().await.is_ok());
    }
}

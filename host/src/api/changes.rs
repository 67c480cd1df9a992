//! Owns that a change which was asked for is carried through: a server drops the work on a request in the middle when its
//! client hangs up, and what was stored would then not be in force. Never knows what is changed.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{Response, request::Parts},
    middleware::Next,
    response::IntoResponse,
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Api, error::Error};
use crate::limits;

/// The changes that are under way.
pub(crate) struct Changes {
    places: Arc<Semaphore>,
    /// What the host waits for when it stops.
    tasks: TaskTracker,
}

/// Says when the client has hung up, to a handler that only waits on its behalf.
#[derive(Clone, Default)]
pub(crate) struct ClientGone(CancellationToken);

impl ClientGone {
    pub(crate) async fn wait(&self) {
        self.0.cancelled().await;
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientGone {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Answers a request that changes something from a task of its own.
pub(super) async fn carry_through(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response<Body> {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let gone = ClientGone::default();
    request.extensions_mut().insert(gone.clone());
    let _told_when_dropped = gone.0.drop_guard();
    api.changes.carry_through(next.run(request)).await
}

impl Changes {
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { places: Arc::new(Semaphore::new(limits::CHANGES_MAX)), tasks }
    }

    /// Does it to its end, though this future be dropped.
    async fn carry_through(&self, change: impl Future<Output = Response<Body>> + Send + 'static) -> Response<Body> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Error::TooManyChanges.into_response();
        };
        let change = async move {
            let _place = place;
            change.await
        };
        match self.tasks.spawn(change).await {
            Ok(response) => response,
            // It panicked, of which the host's log tells; a task is cancelled only with the whole runtime.
            Err(_) => Error::BrokeOff.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    fn changes() -> Changes {
        Changes::new(TaskTracker::new())
    }

    #[tokio::test]
    async fn a_change_is_done_though_nobody_waits_for_it_any_more() {
        let (changes, done) = (changes(), CancellationToken::new());
        let (go_on, is_done) = (CancellationToken::new(), done.clone());
        let held = go_on.clone();
        let mut change = Box::pin(changes.carry_through(async move {
            held.cancelled().await;
            is_done.cancel();
            Response::default()
        }));
        assert!(futures::poll!(&mut change).is_pending());
        drop(change);
        go_on.cancel();
        done.cancelled().await;
        changes.tasks.close();
        changes.tasks.wait().await;
        assert_eq!(changes.places.available_permits(), limits::CHANGES_MAX);
    }

    #[tokio::test]
    async fn a_change_that_panics_is_answered() {
        let response = changes().carry_through(async { panic!("as it is meant to") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn more_changes_than_there_may_be_are_refused() {
        let changes = changes();
        let _all = changes.places.try_acquire_many(limits::CHANGES_MAX as u32).expect("there are so many");
        let response = changes.carry_through(async { Response::default() }).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
    }
}

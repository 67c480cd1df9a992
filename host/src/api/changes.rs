//! Runs mutating requests to completion even if the client disconnects: the server drops a
//! handler's future at a disconnect, which could leave a stored change unapplied. Never inspects
//! the change.

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

use super::error::Error;
use crate::api::limits;

/// The mutations in progress. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Changes {
    permits: Arc<Semaphore>,
    /// The tasks that a stopping host waits for.
    tasks: TaskTracker,
}

/// Notifies a handler that waits only for its client when the client disconnects.
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

/// Runs a mutating request in its own task.
pub(super) async fn run_to_completion(
    State(changes): State<Changes>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let gone = ClientGone::default();
    request.extensions_mut().insert(gone.clone());
    let _cancelled_on_drop = gone.0.drop_guard();
    changes.run_to_completion(next.run(request)).await
}

impl Changes {
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { permits: Arc::new(Semaphore::new(limits::CHANGES_MAX)), tasks }
    }

    /// Runs `change` to completion even if this future is dropped.
    async fn run_to_completion(&self, change: impl Future<Output = Response<Body>> + Send + 'static) -> Response<Body> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Error::TooManyChanges.into_response();
        };
        let change = async move {
            let _permit = permit;
            change.await
        };
        match self.tasks.spawn(change).await {
            Ok(response) => response,
            // The task panicked, which the host's log shows: only a shutdown of the runtime cancels
            // a task.
            Err(_) => Error::Panicked.into_response(),
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
    async fn a_change_completes_after_its_client_has_disconnected() {
        let (changes, done) = (changes(), CancellationToken::new());
        let (resume, is_done) = (CancellationToken::new(), done.clone());
        let resumed = resume.clone();
        let mut change = Box::pin(changes.run_to_completion(async move {
            resumed.cancelled().await;
            is_done.cancel();
            Response::default()
        }));
        assert!(futures::poll!(&mut change).is_pending());
        drop(change);
        resume.cancel();
        done.cancelled().await;
        changes.tasks.close();
        changes.tasks.wait().await;
        assert_eq!(changes.permits.available_permits(), limits::CHANGES_MAX);
    }

    #[tokio::test]
    async fn a_change_that_panics_is_answered() {
        let response = changes().run_to_completion(async { panic!("intended") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn changes_beyond_the_limit_are_refused() {
        let changes = changes();
        let _all = changes.permits.try_acquire_many(limits::CHANGES_MAX as u32).expect("all permits are free");
        let response = changes.run_to_completion(async { Response::default() }).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
    }
}

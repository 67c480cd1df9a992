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
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{caller::Caller, error::Error};
use crate::{
    api::limits,
    http::{byte_budget::Exceeded, shares::Shares},
};

/// The mutations in progress. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Changes {
    permits: Arc<Shares>,
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
    let caller = Caller::of(request.extensions());
    changes.run_to_completion(&caller, next.run(request)).await
}

impl Changes {
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { permits: Shares::new(limits::CHANGES_MAX, limits::CHANGES_PER_TOKEN), tasks }
    }

    /// Runs `change` to completion even if this future is dropped.
    async fn run_to_completion(
        &self,
        Caller(token): &Caller,
        change: impl Future<Output = Response<Body>> + Send + 'static,
    ) -> Response<Body> {
        let permit = match self.permits.permit(token) {
            Ok(permit) => permit,
            Err(Exceeded::Own) => return Error::TooManyChangesOfToken { token: token.clone() }.into_response(),
            Err(Exceeded::Shared) => return Error::TooManyChanges.into_response(),
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

    fn caller(name: &str) -> Caller {
        Caller(name.to_owned())
    }

    fn changes() -> Changes {
        Changes::new(TaskTracker::new())
    }

    #[tokio::test]
    async fn a_change_completes_after_its_client_has_disconnected() {
        let (changes, done) = (changes(), CancellationToken::new());
        let (resume, is_done) = (CancellationToken::new(), done.clone());
        let resumed = resume.clone();
        let ann = caller("ann");
        let mut change = Box::pin(changes.run_to_completion(&ann, async move {
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
        assert!(changes.permits.up_to("ann", limits::CHANGES_PER_TOKEN).is_ok());
    }

    #[tokio::test]
    async fn a_change_that_panics_is_answered() {
        let response = changes().run_to_completion(&caller("ann"), async { panic!("intended") }).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn changes_beyond_the_limit_are_refused() {
        let changes = changes();
        let mut ann = changes.permits.up_to("ann", 0).expect("there is room");
        ann.grow_to(limits::CHANGES_PER_TOKEN).expect("all permits are free");
        let mut bob = changes.permits.up_to("bob", 0).expect("there is room");
        for (token, status) in [("ann", StatusCode::TOO_MANY_REQUESTS), ("eve", StatusCode::SERVICE_UNAVAILABLE)] {
            let response = changes.run_to_completion(&caller(token), async { Response::default() }).await;
            assert_eq!(response.status(), status, "{token}");
            assert!(response.headers().contains_key("retry-after"), "{token}");
            bob.grow_to(limits::CHANGES_PER_TOKEN).expect("the other half is free");
        }
    }
}

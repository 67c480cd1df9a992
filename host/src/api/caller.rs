//! The caller of a request. Never authorises it.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{Extensions, request::Parts},
};

/// The caller: the name of the token. The app's activity records it as the actor of a change.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) String);

impl Caller {
    /// Returns the caller of a request. Only routes without a token have none, and they change
    /// nothing.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(|| Self("nobody".to_owned()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

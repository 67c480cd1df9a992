//! The caller of a request, and its address. Never authorises it.

use std::{convert::Infallible, net::IpAddr};

use axum::{
    extract::FromRequestParts,
    http::{Extensions, HeaderMap, request::Parts},
};

use crate::ingress::{self, TrustedProxies};

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

/// The other end of the connection of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// The address of a request's client, which may be behind a trusted proxy. None if it is unknown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) Option<IpAddr>);

impl ClientAddress {
    pub(crate) fn of(extensions: &Extensions, headers: &HeaderMap, proxies: &TrustedProxies) -> Self {
        let peer = extensions.get::<PeerAddress>();
        Self(peer.map(|PeerAddress(peer)| ingress::client_address(headers, *peer, proxies)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().copied().unwrap_or(Self(None)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}

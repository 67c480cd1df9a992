//! The middleware of every API request: assigns its id, identifies the caller, and writes the body
//! of a problem. Never handles a route.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{Extensions, HeaderValue, Response, StatusCode, header, request::Parts, uri::Authority},
    middleware::Next,
    response::IntoResponse,
};
use isopod_policy::RequestId;
use jiff::Timestamp;

pub(crate) use super::caller::Caller;
use super::{
    Api, auth, browser::RequestAuthority, caller::ClientAddress, error::Error, refused_calls::RefusedCall, route_roles,
    session,
};
use crate::{
    http::problem::Problem,
    http::response_rules::{self, REQUEST_ID},
    ingress,
};

/// Assigns the request its id. Adds the id to the response and, for a problem, its body.
pub(crate) async fn identify(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response<Body> {
    let id = new_request_id();
    let started = std::time::Instant::now();
    let (method, version, path) = (request.method().clone(), request.version(), request.uri().path().to_owned());
    request.extensions_mut().insert(RequestIdText(id.clone()));
    let mut response = match ingress::checked(&request, Some(&Authority::from_static("localhost"))) {
        Ok(authority) => {
            request.extensions_mut().insert(RequestAuthority(authority));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        describe(&mut response, &problem, &id);
        // A response without a problem, such as that of an uptime monitor, names no request.
        if problem.status.is_server_error() {
            api.failures.record(&method, &path, &problem, &id);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let response = response_rules::apply(&method, version, response).0.map(Body::new);
    let status = response.status();
    api.metrics.api_request(status);
    let duration_ms = started.elapsed().as_millis();
    tracing::debug!(%method, %path, %status, request_id = %id, duration_ms, "answered");
    response
}

pub(crate) fn new_request_id() -> String {
    RequestId::from_random(rand::random()).to_string()
}

/// The id of the request, for handlers that pass the id to an app.
#[derive(Clone)]
pub(crate) struct RequestIdText(pub(crate) String);

/// The caller of an event stream or the sender of a body: both end with their token.
#[derive(Clone)]
pub(crate) struct Subscriber(pub(crate) auth::Authorised);

impl Subscriber {
    pub(crate) fn of(extensions: &Extensions) -> Result<Self, Error> {
        extensions.get::<Self>().cloned().ok_or(Error::Auth(auth::Refused::NoToken))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Subscriber {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Self::of(&parts.extensions)
    }
}

/// Refuses requests that their token doesn't authorise. Counts refused requests for the audit trail
/// if their token is known.
pub(crate) async fn authorise(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let need = route_roles::needed(&method, &path).for_kind(&method, |app| api.is_plugin(app));
    match session::authorization(&api.admin_names, &request) {
        Ok(authorization) => {
            let authorization = authorization.map(|value| (header::AUTHORIZATION, value));
            request.headers_mut().extend(authorization);
        }
        Err(refused) => return Error::from(refused).into_response(),
    }
    let address = ClientAddress::of(request.extensions(), request.headers(), &api.trusted_proxies);
    let checked = api.tokens.check(request.headers(), &need, &|app| api.app_id(app), Timestamp::now());
    let (token, response) = match checked {
        Ok(authorised) => {
            let name = authorised.as_ref().map(|token| token.name.clone()).unwrap_or_default();
            let extensions = request.extensions_mut();
            extensions.insert(Caller(name.clone()));
            extensions.insert(address);
            authorised.into_iter().for_each(|token| drop(extensions.insert(Subscriber(token))));
            (Some(name), next.run(request).await)
        }
        Err(refused) => (refused.token().map(str::to_owned), Error::from(refused).into_response()),
    };
    let problem = response.extensions().get::<Problem>().filter(|problem| is_refusal(problem));
    if let Some((token, problem)) = token.as_deref().filter(|token| !token.is_empty()).zip(problem) {
        let call = RefusedCall { token, code: problem.code, method: &method, path: &path, from: address.0 };
        api.refused_calls.record(&call, Timestamp::now());
    }
    response
}

/// Returns whether a problem refuses a request for lack of permission, or a change beyond a
/// ceiling.
fn is_refusal(problem: &Problem) -> bool {
    matches!(problem.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) || problem.code == "grant-not-allowed"
}

fn describe(response: &mut Response<Body>, problem: &Problem, request_id: &str) {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    *response.body_mut() = Body::from(problem.json(request_id).to_string());
}

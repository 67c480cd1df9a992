//! Owns the routes of a browser's session: sign-in, its token, and sign-out. Never stores a
//! session.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::AppendHeaders,
};
use isopod_policy::{AppName, Role, Scope};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Api, auth,
    browser::{self, RequestAuthority},
    caller::PeerAddress,
    edge::Subscriber,
    error::Error,
    session,
};
use crate::ingress;

/// The token of a session, without its secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionView {
    /// The name of the token.
    name: String,
    role: Role,
    /// The apps in the token's scope; null if it is for all apps.
    apps: Option<Vec<AppName>>,
    /// When the token expires; null if never.
    expires_at: Option<Timestamp>,
}

/// A new session.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct NewSession {
    #[serde(flatten)]
    session: SessionView,
    /// The key, which the header `x-isopod-session` of each request must have beside the cookie.
    key: String,
}

impl SessionView {
    fn of(Subscriber(token): Subscriber) -> Self {
        let apps = match &token.row.scope {
            Scope::All => None,
            Scope::Apps(apps) => Some(apps.clone()),
        };
        Self { role: token.row.role, apps, expires_at: token.row.expires_at, name: token.name }
    }
}

type WithCookie<T> = (StatusCode, AppendHeaders<[(HeaderName, HeaderValue); 1]>, T);

#[utoipa::path(
    post,
    path = "/v1/session",
    operation_id = "create_session",
    summary = "Signs a browser in: sets the cookie of a new session, and returns the session's key",
    responses(
        (status = 201, description = "The session's key; `set-cookie` contains the cookie", body = NewSession),
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    token: Subscriber,
    Extension(RequestAuthority(authority)): Extension<RequestAuthority>,
    peer: Option<Extension<PeerAddress>>,
    headers: HeaderMap,
) -> Result<WithCookie<axum::Json<NewSession>>, Error> {
    api.admin_names.ensure(Some(&authority))?;
    browser::ensure_same_origin(&headers, Some(&authority))?;
    let secret = auth::bearer(&headers)?;
    let (masked, key) = session::split(secret.as_bytes());
    let is_https =
        peer.is_some_and(|Extension(PeerAddress(peer))| ingress::is_https(&headers, peer, &api.trusted_proxies));
    let secure = if is_https { "; Secure" } else { "" };
    let cookie = format!("{}={masked}; {ATTRIBUTES}{secure}", session::cookie_name(Some(&authority)));
    Ok(with_cookie(StatusCode::CREATED, &cookie, axum::Json(NewSession { session: SessionView::of(token), key })))
}

#[utoipa::path(
    get,
    path = "/v1/session",
    operation_id = "show_session",
    summary = "Shows the token of the request, without its secret",
    responses(
        (status = 200, description = "The token", body = SessionView),
    )
)]
pub(super) async fn show(token: Subscriber) -> axum::Json<SessionView> {
    axum::Json(SessionView::of(token))
}

#[utoipa::path(
    delete,
    path = "/v1/session",
    operation_id = "delete_session",
    summary = "Signs a browser out: removes the session's cookie",
    responses(
        (status = 204, description = "The cookie is removed"),
    )
)]
pub(super) async fn delete(Extension(RequestAuthority(authority)): Extension<RequestAuthority>) -> WithCookie<()> {
    let cookie = format!("{}=; {ATTRIBUTES}; Max-Age=0", session::cookie_name(Some(&authority)));
    with_cookie(StatusCode::NO_CONTENT, &cookie, ())
}

const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Strict";

fn with_cookie<T>(status: StatusCode, cookie: &str, body: T) -> WithCookie<T> {
    // Only characters of Base64, names and digits.
    let cookie = HeaderValue::from_str(cookie).unwrap_or(HeaderValue::from_static(""));
    (status, AppendHeaders([(header::SET_COOKIE, cookie)]), body)
}

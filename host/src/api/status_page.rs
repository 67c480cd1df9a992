//! Owns the routes of the public status: a page, and a URL per app for uptime monitors. They need
//! no token, so they show only the names of the apps that the operator selected, and whether each
//! is up.

use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
};
use isopod_policy::AppName;
use serde::Serialize;

use super::{
    Api, error::Error, openapi::ProblemDetails, path::AppPath, public_status::content_policy, request::Path,
    status::word,
};
use crate::control::AppRecord;

static CONTENT_POLICY: LazyLock<String> = LazyLock::new(content_policy);

/// The public status of an app.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct PublicStatus {
    app: AppName,
    /// `up` or `down`.
    status: &'static str,
}

/// Returns whether an app takes traffic and its database can be used.
fn is_up(api: &Api, app: &AppRecord) -> bool {
    app.traffic.is_up() && api.store.app_data_error(&app.name).is_none()
}

/// Shows the status of the selected apps to everyone.
#[utoipa::path(
    get,
    path = "/status",
    operation_id = "show_status_page",
    summary = "Shows the public status page; needs no token",
    responses(
        (status = 200, description = "An HTML page", content((String = "text/html"))),
        (
            status = 404,
            description = "The host's settings select no app",
            body = ProblemDetails, content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn page(State(api): State<Arc<Api>>, method: Method, uri: Uri) -> Result<Response, Error> {
    if !api.status_page.is_enabled() {
        return Err(unknown(&method, &uri));
    }
    let page = api.status_page.page(Instant::now(), || {
        let all = api.control.apps.with_plugins();
        let apps = all.iter().filter(|app| api.status_page.is_public(app));
        apps.map(|app| (app.name.to_string(), is_up(&api, app))).collect()
    });
    let mut response = Html(page).into_response();
    let fields = [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    response.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    Ok(response)
}

/// Shows whether a selected app is up.
#[utoipa::path(
    get,
    path = "/status/{app}",
    operation_id = "show_public_app_status",
    summary = "Shows whether an app of the status page is up; needs no token",
    params(AppPath),
    responses(
        (status = 200, description = "The app takes traffic", body = PublicStatus),
        (
            status = 404,
            description = "The host's settings don't select the app, or it does not exist",
            body = ProblemDetails, content_type = "application/problem+json"
        ),
        (status = 503, description = "The app takes no traffic, or its database can't be used", body = PublicStatus),
    )
)]
pub(super) async fn app(
    State(api): State<Arc<Api>>,
    method: Method,
    uri: Uri,
    Path(app): Path<String>,
) -> Result<Response, Error> {
    let found = app.parse::<AppName>().ok().and_then(|name| api.control.apps.app(&name).ok());
    // The same response for all others, so that it doesn't show which apps exist.
    let record = found.filter(|record| api.status_page.is_public(record)).ok_or_else(|| unknown(&method, &uri))?;
    let up = is_up(&api, &record);
    let status = if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = axum::Json(PublicStatus { app: record.name.clone(), status: word(up) });
    Ok((status, [(header::CACHE_CONTROL, "no-store")], body).into_response())
}

fn unknown(method: &Method, uri: &Uri) -> Error {
    Error::UnknownRoute { method: method.to_string(), path: uri.path().to_owned() }
}

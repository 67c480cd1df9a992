//! Owns the routes by which a developer's machine reports a failed build of the newest code, so
//! that browsers show the error. Never builds anything.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
};

use super::{
    Api,
    body::collect,
    edge::Subscriber,
    error::Error,
    path::AppPath,
    request::{BadRequest, Path, app_name, media_type},
};
use crate::api::limits;

#[utoipa::path(
    put,
    path = "/v1/apps/{app}/build-error",
    operation_id = "set_build_error",
    summary = "Reports that the newest code of a dev app cannot be built",
    params(AppPath),
    request_body(content((String = "text/plain"))),
    responses(
        (status = 204, description = "The error is shown to browsers"),
    )
)]
pub(super) async fn set(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    request: Request,
) -> Result<StatusCode, Error> {
    let app = app_name(&app)?;
    api.control.apps.app(&app)?;
    let media_type = media_type(request.headers());
    if media_type.as_deref() != Some("text/plain") {
        let got = media_type.unwrap_or_else(|| "missing".to_owned());
        return Err(BadRequest::ContentType { got, wanted: "text/plain" }.into());
    }
    let bytes = collect(&api.bodies, &token, request.into_body(), limits::JSON_BODY_BYTES).await?;
    let mut text = String::from_utf8(bytes.into()).map_err(|_| BadRequest::Text)?;
    text.truncate(text.floor_char_boundary(limits::BUILD_ERROR_BYTES));
    api.control.apps.set_build_error(&app, Some(text)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/build-error",
    operation_id = "clear_build_error",
    summary = "Reports that a dev app can be built again",
    params(AppPath),
    responses(
        (status = 204, description = "The error is cleared"),
    )
)]
pub(super) async fn clear(State(api): State<Arc<Api>>, Path(app): Path<String>) -> Result<StatusCode, Error> {
    api.control.apps.set_build_error(&app_name(&app)?, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Owns the routes of an app's config vars and grants. Never returns the value of a secret.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use isopod_policy::{ConfigChange, EffectiveVar, Grants, RedactedValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Api,
    edge::Subscriber,
    error::Error,
    openapi::{ConfigPatch, GrantsPatch},
    path::AppPath,
    request::{Json, List, Params, Path, app_name},
};
use crate::control::{AppRecord, Change};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConfigParams {
    /// Also lists the manifest's config vars, each with its source.
    #[serde(default)]
    effective: bool,
}

/// The config vars of an app.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = Config)]
pub(super) enum ShownConfig {
    /// The vars that are set at the host, by name.
    Own(BTreeMap<String, RedactedValue>),
    /// All vars that guests receive.
    Effective(List<EffectiveVar>),
}

/// Returns the config vars that were set through the API; with `effective` all that guests receive.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/config",
    operation_id = "show_config",
    summary = "Shows the config vars of an app, without its secrets",
    params(AppPath, ConfigParams),
    responses(
        (status = 200, description = "Config vars by name; with `?effective=true` a list of all", body = ShownConfig),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(params): Params<ConfigParams>,
) -> Result<axum::Json<ShownConfig>, Error> {
    let app = app_name(&app)?;
    if params.effective {
        let items = api.control.queries.effective_config(&app).await?;
        return Ok(axum::Json(ShownConfig::Effective(List { items, next: None })));
    }
    let record = api.control.apps.app(&app)?;
    Ok(axum::Json(ShownConfig::Own(redacted(&record))))
}

#[utoipa::path(
    patch,
    path = "/v1/apps/{app}/config",
    operation_id = "change_config",
    summary = "Sets config vars; null removes a config var",
    params(AppPath),
    request_body(content((ConfigPatch = "application/json"), (ConfigPatch = "application/merge-patch+json"))),
    responses(
        (status = 200, description = "Config vars by name", body = BTreeMap<String, RedactedValue>),
    )
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    Json(change): Json<ConfigChange>,
) -> Result<axum::Json<BTreeMap<String, RedactedValue>>, Error> {
    let record = api.control.settings.change(&app_name(&app)?, Change::Config(change), &token.requester()).await?;
    Ok(axum::Json(redacted(&record)))
}

fn redacted(record: &AppRecord) -> BTreeMap<String, RedactedValue> {
    record.fields().config.redacted()
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/grants",
    operation_id = "show_grants",
    summary = "Shows the grants of an app",
    params(AppPath),
    responses(
        (status = 200, description = "The grants", body = Grants),
    )
)]
pub(super) async fn grants(State(api): State<Arc<Api>>, Path(app): Path<String>) -> Result<axum::Json<Grants>, Error> {
    Ok(axum::Json(api.control.queries.grants(&app_name(&app)?).await?))
}

#[utoipa::path(
    patch,
    path = "/v1/apps/{app}/grants",
    operation_id = "change_grants",
    summary = "Changes the grants of an app, as a JSON merge patch",
    params(AppPath),
    request_body(content((GrantsPatch = "application/json"), (GrantsPatch = "application/merge-patch+json"))),
    responses(
        (status = 200, description = "The grants", body = Grants),
    )
)]
pub(super) async fn change_grants(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    Json(patch): Json<Value>,
) -> Result<axum::Json<Grants>, Error> {
    let app = app_name(&app)?;
    api.control.settings.change(&app, Change::Grants(patch), &token.requester()).await?;
    Ok(axum::Json(api.control.queries.grants(&app).await?))
}

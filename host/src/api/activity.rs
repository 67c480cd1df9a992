//! Owns the route of an app's activity: what happened to it, and why.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::{
    Api,
    error::Error,
    request::{PageParams, Params, app_name},
};

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<Value>, Error> {
    let app = app_name(&app)?;
    api.deployer.app(&app)?;
    let found = api.store.activity(&app, page.cursor.as_deref(), page.limit()?).await?;
    let items: Vec<Value> = found
        .items
        .iter()
        .map(|row| json!({ "time": row.at, "app": row.app, "kind": row.kind, "cause": row.cause, "by": row.by }))
        .collect();
    Ok(axum::Json(json!({ "items": items, "next": found.next })))
}

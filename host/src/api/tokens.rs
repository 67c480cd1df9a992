//! Owns the routes of tokens: make, list, delete. A token itself is shown once, when it is made.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use isopod_policy::{AppName, Role, Scope};
use isopod_store::{Control, Token};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, auth,
    error::Error,
    request::{List, Object, Path},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    name: String,
    role: Role,
    /// The apps that it is for; without them, all.
    #[serde(default)]
    apps: Option<Vec<AppName>>,
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Object(new): Object<NewToken>,
) -> Result<(StatusCode, axum::Json<Value>), Error> {
    // Token names follow the rules of app names: they are typed in the same places.
    let name: AppName = new.name.parse().map_err(Error::BadName)?;
    let token = auth::new_token();
    let row = Token {
        hash: auth::hash(&token),
        name: name.to_string(),
        role: new.role,
        scope: new.apps.map_or(Scope::All, Scope::Apps),
        app_ids: Vec::new(),
        created_at: Timestamp::now(),
    };
    let row = api.store.insert_token(row).await?;
    let mut body = view(&row);
    body["token"] = token.into();
    api.tokens.insert(row, &|app| api.app_id(app));
    Ok((StatusCode::CREATED, axum::Json(body)))
}

pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<axum::Json<List<Value>>, Error> {
    let rows = api.store.tokens().await?;
    let items: Vec<Value> = rows.iter().map(view).collect();
    Ok(axum::Json(List { items, next: None }))
}

pub(super) async fn delete(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<StatusCode, Error> {
    if name == super::admin_token::NAME {
        return Err(Error::AdminToken);
    }
    api.store.delete_token(&name).await?;
    api.tokens.remove(&name);
    Ok(StatusCode::NO_CONTENT)
}

fn view(row: &Token) -> Value {
    let apps = match &row.scope {
        Scope::All => Value::Null,
        Scope::Apps(apps) => json!(apps),
    };
    json!({ "name": row.name, "role": row.role, "apps": apps, "created_at": row.created_at })
}

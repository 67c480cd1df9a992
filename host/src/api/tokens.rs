//! Owns the routes of tokens: create, list, delete. Never shows a token's secret after its
//! creation.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use isopod_policy::{AppName, Role, Scope};
use isopod_store::Token;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Api, auth,
    error::Error,
    openapi::ProblemDetails,
    path::TokenPath,
    request::{BadRequest, List, Object, PageParams, Params, Path},
};

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    #[schema(value_type = AppName)]
    name: String,
    role: Role,
    /// The apps in the token's scope; all apps if absent. An empty list is refused.
    #[serde(default)]
    #[schema(min_items = 1)]
    apps: Option<Vec<AppName>>,
}

/// A token as the API shows it, without its secret.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenView {
    name: String,
    role: Role,
    /// The apps in the token's scope; null if it is for all apps.
    apps: Option<Vec<AppName>>,
    created_at: Timestamp,
}

/// A new token with its secret, which is shown only once.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct CreatedToken {
    #[serde(flatten)]
    view: TokenView,
    token: String,
}

#[utoipa::path(
    post,
    path = "/v1/tokens",
    operation_id = "create_token",
    summary = "Creates a token, which is shown once",
    request_body = NewToken,
    responses(
        (status = 201, description = "The token", body = CreatedToken),
        (
            status = 404,
            description = "There is no such app",
            body = ProblemDetails, content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Object(new): Object<NewToken>,
) -> Result<(StatusCode, axum::Json<CreatedToken>), Error> {
    // Token names follow the rules of app names, since users type both in the same commands.
    let name: AppName = new.name.parse().map_err(Error::bad_token_name)?;
    let scope = match new.apps {
        None => Scope::All,
        Some(apps) if apps.is_empty() => return Err(Error::NoApps),
        Some(mut apps) => {
            apps.sort();
            apps.dedup();
            Scope::Apps(apps)
        }
    };
    let token = auth::new_token();
    let row = Token {
        hash: auth::hash(&token),
        name: name.to_string(),
        role: new.role,
        scope,
        app_ids: Vec::new(),
        created_at: Timestamp::now(),
    };
    let body = CreatedToken { view: TokenView::of(&row), token };
    api.tokens.change(api.store.insert_token(row)).await?;
    Ok((StatusCode::CREATED, axum::Json(body)))
}

#[utoipa::path(
    get,
    path = "/v1/tokens",
    operation_id = "list_tokens",
    summary = "Lists the tokens, without their secrets",
    params(PageParams),
    responses(
        (status = 200, description = "A page of tokens", body = List<TokenView>),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<List<TokenView>>, Error> {
    if page.cursor.as_deref().is_some_and(|cursor| cursor.parse::<AppName>().is_err()) {
        return Err(BadRequest::Cursor.into());
    }
    let items = api.store.tokens().await?.iter().map(TokenView::of).collect();
    Ok(axum::Json(List::page_of(items, &page, |token| token.name.clone())?))
}

#[utoipa::path(
    delete,
    path = "/v1/tokens/{name}",
    operation_id = "delete_token",
    summary = "Deletes a token, and ends its event streams and uploads",
    params(TokenPath),
    responses(
        (status = 204, description = "The token is deleted"),
    )
)]
pub(super) async fn delete(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<StatusCode, Error> {
    if name == super::admin_token::NAME {
        return Err(Error::AdminToken);
    }
    api.tokens.change(api.store.delete_token(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl TokenView {
    fn of(row: &Token) -> Self {
        let apps = match &row.scope {
            Scope::All => None,
            Scope::Apps(apps) => Some(apps.clone()),
        };
        Self { name: row.name.clone(), role: row.role, apps, created_at: row.created_at }
    }
}

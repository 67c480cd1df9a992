//! Owns the routes of tokens: create, list, rotate, delete. Never shows a secret after the response
//! that creates it.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode};
use isopod_policy::{AppName, Ceiling, Role, Scope, formation::Change};
use isopod_store::{Rotation, StoreError, Token};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::{
    Api, activity, admin_token, auth,
    caller::{Caller, ClientAddress},
    error::Error,
    openapi::ProblemDetails,
    path::TokenPath,
    request::{BadRequest, List, Object, OptionalObject, PageParams, Params, Path},
};
use crate::api::limits;

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
    /// When the token expires; never if absent.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    /// The ceiling on what is requested with the token. It never raises the ceiling of an app.
    #[serde(default)]
    policy: Ceiling,
}

/// The settings of a rotation.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenRotation)]
pub(crate) struct RotateToken {
    /// How long the former secret remains valid. By default, it ends immediately.
    #[serde(default)]
    #[schema(maximum = 604_800_000)]
    grace_ms: u64,
    /// When the token expires; unchanged if absent, never if null.
    #[serde(default, deserialize_with = "change")]
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Change<Timestamp>,
}

/// Reads a member that is present: null clears the setting.
fn change<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Change<Timestamp>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map_or(Change::Clear, Change::Set))
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
    /// When the token expires; null if never.
    expires_at: Option<Timestamp>,
    /// When the token was last used; null if never. After the host was killed, it may be up to a
    /// minute too early.
    last_used_at: Option<Timestamp>,
    /// The ceiling on what is requested with the token.
    policy: Ceiling,
    /// When the secret before the last rotation ends; null if it has ended.
    former_secret_until: Option<Timestamp>,
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
            description = "The app does not exist",
            body = ProblemDetails, content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    from: ClientAddress,
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
    if new.role == Role::Admin && new.policy != Ceiling::default() {
        return Err(Error::PolicyOfAdmin);
    }
    let (token, now) = (auth::new_token(), Timestamp::now());
    if let Some(at) = new.expires_at.filter(|at| *at <= now) {
        return Err(Error::ExpiryPassed { at });
    }
    let expires_at = new.expires_at;
    let row = Token {
        expires_at,
        ceiling: new.policy,
        ..Token::new(name.as_str(), auth::hash(&token), new.role, scope, now)
    };
    let body = CreatedToken { view: TokenView::of(&row, None, now), token };
    let mut replaced = Vec::new();
    let stored = async {
        let before = api.store.tokens().await?;
        let rows = api.store.insert_token(row).await?;
        // At the limit of tokens, the new one takes the place of one that has expired.
        let is_gone = |token: &Token| token.is_expired(now) && rows.iter().all(|row| row.name != token.name);
        replaced.extend(before.into_iter().filter(is_gone));
        Ok::<_, StoreError>(rows)
    };
    api.tokens.change(stored).await?;
    for token in replaced {
        let text = format!("token `{}` replaced by the token `{name}`, since it had expired", token.name);
        let data = json!({ "token": token.name, "replaced_by": name });
        activity::record(&api, &caller, from, "token-replaced", text, data).await;
    }
    let text = format!("token `{name}` created with the role {}", new.role);
    let data = json!({ "token": name, "role": new.role, "apps": body.view.apps, "expires_at": expires_at });
    activity::record(&api, &caller, from, "token-created", text, data).await;
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
    let now = Timestamp::now();
    let view = |row: &Token| TokenView::of(row, api.tokens.last_used_at(row), now);
    let items = api.store.tokens().await?.iter().map(view).collect();
    Ok(axum::Json(List::page_of(items, &page, |token| token.name.clone())?))
}

#[utoipa::path(
    post,
    path = "/v1/tokens/{name}/rotate",
    operation_id = "rotate_token",
    summary = "Replaces the secret of a token; the new one is shown once",
    params(TokenPath),
    request_body(content = Option<RotateToken>, content_type = "application/json"),
    responses(
        (status = 200, description = "The token with its new secret", body = CreatedToken),
    )
)]
pub(super) async fn rotate(
    State(api): State<Arc<Api>>,
    caller: Caller,
    from: ClientAddress,
    Path(name): Path<String>,
    OptionalObject(RotateToken { grace_ms, expires_at }): OptionalObject<RotateToken>,
) -> Result<axum::Json<CreatedToken>, Error> {
    let (token, at, grace) = (auth::new_token(), Timestamp::now(), Duration::from_millis(grace_ms));
    if grace > limits::TOKEN_GRACE_MAX {
        return Err(Error::GraceTooLong { grace_ms });
    }
    let is_admin = name == admin_token::NAME;
    if is_admin && admin_token::is_link(&api.store) {
        return Err(Error::LinkedAdminToken);
    }
    match expires_at {
        Change::Set(_) if is_admin => return Err(Error::AdminToken("can't expire")),
        Change::Set(expiry) if expiry <= at => return Err(Error::ExpiryPassed { at: expiry }),
        Change::Set(_) | Change::Clear | Change::Keep => {}
    }
    let rotation = Rotation { hash: auth::hash(&token), grace, expires_at, at };
    let mut rotated = None;
    let stored = async {
        let rows = if is_admin {
            admin_token::rotate(&api.store, &token, rotation).await?
        } else {
            api.store.rotate_token(&name, rotation).await?
        };
        rotated = rows.iter().find(|row| row.name == name).cloned();
        Ok::<_, Error>(rows)
    };
    api.tokens.change(stored).await?;
    let row = rotated.ok_or(StoreError::UnknownToken { name })?;
    let text = format!("token `{}` rotated", row.name);
    let data = json!({ "token": row.name, "grace_ms": grace_ms, "expires_at": row.expires_at });
    activity::record(&api, &caller, from, "token-rotated", text, data).await;
    let view = TokenView::of(&row, api.tokens.last_used_at(&row), at);
    Ok(axum::Json(CreatedToken { view, token }))
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
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    from: ClientAddress,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    if name == admin_token::NAME {
        return Err(Error::AdminToken("can't be deleted"));
    }
    api.tokens.change(api.store.delete_token(&name)).await?;
    let text = format!("token `{name}` revoked");
    activity::record(&api, &caller, from, "token-revoked", text, json!({ "token": name })).await;
    Ok(StatusCode::NO_CONTENT)
}

impl TokenView {
    /// Describes a token. Its last use since the start may not be stored yet.
    fn of(row: &Token, last_used_at: Option<Timestamp>, now: Timestamp) -> Self {
        let apps = match &row.scope {
            Scope::All => None,
            Scope::Apps(apps) => Some(apps.clone()),
        };
        let former = row.former.as_ref().map(|former| former.until).filter(|until| *until > now);
        Self {
            name: row.name.clone(),
            role: row.role,
            apps,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: last_used_at.or(row.last_used_at),
            policy: row.ceiling.clone(),
            former_secret_until: former,
        }
    }
}

//! Reads requests: JSON bodies, queries and path segments. Never acts on a request.

use std::sync::Arc;

use axum::{
    body::HttpBody,
    extract::{self, FromRequest, FromRequestParts, Query, Request, rejection::QueryRejection},
    http::{HeaderMap, Method, header, request::Parts},
};
use bytes::Bytes;
use isopod_policy::{
    AppName, NameError,
    json::{UniqueMembers, explain},
    text::excerpt,
};
use isopod_store::Page;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) use super::bad_request::BadRequest;
use super::{Api, body::collect, edge::Subscriber, error::Error, query};
use crate::api::limits;

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Error> {
        Ok(Self(json(&json_body(request, api).await?)?))
    }
}

/// A JSON object as the body. A list is refused: serde would assign its items to the members by
/// their order, which isn't part of the API.
pub(crate) struct Object<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Object<T> {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Error> {
        Ok(Self(object(&json_body(request, api).await?)?))
    }
}

fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRequest> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        let detail = "it must be an object, not a list".to_owned();
        return Err(BadRequest::Json { detail, line: 1, column: 1 });
    }
    json(bytes)
}

/// An optional JSON object as the body. A missing body and `null` are the default value.
pub(crate) struct OptionalObject<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<Api>> for OptionalObject<T> {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Error> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        Ok(Self(object(&json_body(request, api).await?)?))
    }
}

async fn json_body(request: Request, api: &Api) -> Result<Bytes, Error> {
    let media_type = media_type(request.headers());
    // Every PATCH is a JSON merge patch (RFC 7396).
    let is_patch = *request.method() == Method::PATCH && media_type.as_deref() == Some("application/merge-patch+json");
    if !is_patch && media_type.as_deref() != Some("application/json") {
        let got = media_type.unwrap_or_else(|| "missing".to_owned());
        return Err(BadRequest::ContentType { got, wanted: "application/json" }.into());
    }
    let Subscriber(token) = Subscriber::of(request.extensions())?;
    Ok(collect(&api.bodies, &token, request.into_body(), limits::JSON_BODY_BYTES).await?)
}

/// Parses JSON. An error names the member and its position in the body. A duplicate member is an
/// error too.
pub(crate) fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BadRequest> {
    json_text::<UniqueMembers>(bytes)?;
    json_text(bytes)
}

/// Parses JSON into a type that checks for duplicate members itself.
pub(crate) fn json_text<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BadRequest> {
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let bad = |path: &str, error: &serde_json::Error| {
        let detail = explain(error);
        // The root and the names of unknown members are not paths to a value.
        let detail = match path {
            "." => detail,
            path if detail.starts_with("unknown member") || path.contains('?') => detail,
            path => format!("`{}`: {detail}", excerpt(path, JSON_PATH_SHOWN_BYTES)),
        };
        BadRequest::Json { detail, line: error.line(), column: error.column() }
    };
    let value = serde_path_to_error::deserialize(&mut text).map_err(|e| bad(&e.path().to_string(), e.inner()))?;
    text.end().map_err(|error| bad(".", &error))?;
    Ok(value)
}

/// The values of the path's parameters.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|extract::Path(value)| Self(value)).map_err(|_| {
            // Every segment is text, so no other error is possible.
            let detail = "a segment is not UTF-8 after percent-decoding".to_owned();
            BadRequest::Path { detail }.into()
        })
    }
}

/// The parameters of a query. The middleware in `query` has already refused unknown parameters.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        let bad = |rejection: QueryRejection| BadRequest::Query { detail: query::explain(&rejection.body_text()) };
        query.map(|Query(value)| Self(value)).map_err(|rejection| bad(rejection).into())
    }
}

/// One page of a list, as the API returns it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<String>,
}

impl<T> List<T> {
    /// Returns one page of a list that is entirely in memory, sorted by key. A cursor is the key of
    /// the previous page's last item, which may no longer exist; the caller has checked its form.
    pub(crate) fn page_of(
        mut items: Vec<T>,
        page: &PageParams,
        key: impl Fn(&T) -> String,
    ) -> Result<Self, BadRequest> {
        let limit = page.limit()? as usize;
        items.sort_by_cached_key(&key);
        if let Some(cursor) = &page.cursor {
            items.retain(|item| key(item) > *cursor);
        }
        let next = (items.len() > limit).then(|| key(&items[limit - 1]));
        items.truncate(limit);
        Ok(Self { items, next })
    }
}

/// The requested page of a list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 1_000)]
    pub(crate) limit: Option<u32>,
    /// The `next` of the previous page.
    pub(crate) cursor: Option<String>,
}

impl PageParams {
    /// Returns the page in the store's form.
    pub(crate) fn page(&self) -> Result<Page, BadRequest> {
        Ok(Page { cursor: self.cursor.clone(), limit: Some(self.limit()?) })
    }

    pub(crate) fn limit(&self) -> Result<u32, BadRequest> {
        let limit = self.limit.unwrap_or(limits::PAGE_ITEMS_DEFAULT);
        if (1..=limits::PAGE_ITEMS_MAX).contains(&limit) {
            return Ok(limit);
        }
        let detail =
            format!("`limit` is {limit}, but must be 1 to {}; `cursor` selects the next page", limits::PAGE_ITEMS_MAX);
        Err(BadRequest::Query { detail })
    }
}

/// Parses an app's name in a path. An invalid name can't belong to an app, so the app is unknown.
pub(crate) fn app_name(text: &str) -> Result<AppName, Error> {
    text.parse().map_err(|e: NameError| Error::NoSuchName { name: text.to_owned(), why: e.to_string() })
}

/// Returns the content type without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Bytes of the path to a member that an error shows. The rest is cut off.
const JSON_PATH_SHOWN_BYTES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_in_json_names_the_member_and_the_position() {
        let why = |text: &str| json::<PageParams>(text.as_bytes()).map(drop).expect_err("is refused").to_string();
        assert_eq!(
            why("{\"limit\":\n nope}"),
            "invalid JSON body (line 2, column 3): `limit`: only `true`, `false` and `null` are written without quotes"
        );
        assert_eq!(
            why("{\"limit\":\"x\"}"),
            "invalid JSON body (line 1, column 12): `limit`: it must be a whole number of 0 or more, not text"
        );
        assert_eq!(why("{} x"), "invalid JSON body (line 1, column 4): more text follows its end");
        assert!(why(r#"{"limit":1,"limit":2}"#).ends_with("the member `limit` appears more than once"));
    }

    #[test]
    fn a_page_has_a_limit() {
        let params = |limit| PageParams { limit: Some(limit), cursor: None };
        assert!(params(0).limit().is_err());
        assert!(params(limits::PAGE_ITEMS_MAX + 1).limit().is_err());
        assert_eq!(params(7).limit().ok(), Some(7));
    }
}

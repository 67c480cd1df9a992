//! Refuses query parameters that a route doesn't have, since a mistyped name would be ignored
//! silently. Reads the known parameters from the API's description. Never handles a route.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{Method, Response},
    middleware::Next,
    response::IntoResponse,
};
use isopod_policy::{json, nearest};
use utoipa::openapi::{
    OpenApi,
    path::{Operation, ParameterIn},
};

use super::{bad_request::BadRequest, error::Error, openapi};

/// The query parameters of each route, by path and method.
pub(super) struct KnownQueries(HashMap<(String, Method), Vec<String>>);

impl KnownQueries {
    pub(super) fn of(description: &OpenApi) -> Self {
        let mut known = HashMap::new();
        for (path, item) in &description.paths.paths {
            let operations = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    known.insert((path.clone(), method), query_names(operation));
                }
            }
        }
        Self(known)
    }

    /// Refuses the first unknown parameter, naming the nearest known one.
    fn check(&self, path: &str, method: &Method, query: &str) -> Result<(), BadRequest> {
        let method = if *method == Method::HEAD { Method::GET } else { method.clone() };
        // A path without a description is not a route: the fallbacks respond.
        let Some(known) = self.0.get(&(path.to_owned(), method)) else { return Ok(()) };
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let name = part.split('=').next().unwrap_or_default().replace('+', " ");
            let name = percent_encoding::percent_decode_str(&name).decode_utf8_lossy().into_owned();
            if !known.contains(&name) {
                return Err(BadRequest::Query { detail: unknown(&name, known) });
            }
        }
        Ok(())
    }
}

fn query_names(operation: &Operation) -> Vec<String> {
    let in_query =
        openapi::parameters(operation).filter(|parameter| matches!(parameter.parameter_in, ParameterIn::Query));
    in_query.map(|parameter| parameter.name.clone()).collect()
}

fn unknown(name: &str, known: &[String]) -> String {
    const NAME_SHOWN_CHARS: usize = 80;
    let shown: String = name.chars().take(NAME_SHOWN_CHARS).collect();
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("unknown parameter `{shown}`; did you mean `{near}`?"),
        None if known.is_empty() => format!("unknown parameter `{shown}`; this route has none"),
        None => format!("unknown parameter `{shown}`; this route has {}", known.join(", ")),
    }
}

/// Rewords axum's error text for a query with known parameters.
pub(super) fn explain(text: &str) -> String {
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text);
    let (name, why) = text.split_once(": ").unwrap_or(("", text));
    let must_be = |what: &str| format!("`{name}` must be {what}");
    match why {
        _ if why.ends_with("found in string") || why.contains("integer") || why.starts_with("number too") => {
            must_be("a whole number")
        }
        _ if why.contains("was not `true` or `false`") => must_be("`true` or `false`"),
        _ => match why.strip_prefix("unknown variant ").and_then(|rest| rest.rsplit_once(", expected ")) {
            Some((_, known)) => must_be(known),
            None => json::explain_data(why).replacen("member", "parameter", 1),
        },
    }
}

pub(super) async fn only_known(
    State(known): State<Arc<KnownQueries>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response<Body> {
    if let (Some(route), Some(query)) = (route, request.uri().query())
        && let Err(refused) = known.check(route.as_str(), request.method(), query)
    {
        return Error::from(refused).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_value_is_explained_without_terms_of_a_library() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code, reason = "only its errors matter")]
        struct Params {
            limit: Option<u32>,
            follow: Option<bool>,
            queue: Option<Queue>,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Queue {
            Pull,
            Push,
        }
        for (query, wanted) in [
            ("limit=x", "`limit` must be a whole number"),
            ("limit=", "`limit` must be a whole number"),
            ("limit=-1", "`limit` must be a whole number"),
            ("limit=99999999999", "`limit` must be a whole number"),
            ("follow=yes", "`follow` must be `true` or `false`"),
            ("queue=x", "`queue` must be `pull` or `push`"),
            ("limit=1&limit=2", "the parameter `limit` appears more than once"),
        ] {
            let uri = format!("/x?{query}").parse().expect("a path");
            let refused = axum::extract::Query::<Params>::try_from_uri(&uri).expect_err("it is refused");
            assert_eq!(explain(&refused.body_text()), wanted, "{query}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_named_with_the_nearest_known_one() {
        let route = ("/x".to_owned(), Method::GET);
        let known = KnownQueries(HashMap::from([(route, vec!["limit".to_owned(), "cursor".to_owned()])]));
        let refused = |method: Method, query: &str| known.check("/x", &method, query).map_err(|e| e.to_string());
        assert_eq!(refused(Method::GET, "limit=1&cursor=&&"), Ok(()));
        assert_eq!(refused(Method::GET, "%6cimit=1"), Ok(()));
        assert!(refused(Method::GET, "limt=1").is_err_and(|text| text.contains("`limt`; did you mean `limit`?")));
        assert!(
            refused(Method::HEAD, "x+y").is_err_and(|text| text.contains("`x y`") && text.contains("limit, cursor"))
        );
        assert_eq!(refused(Method::POST, "limt=1"), Ok(()), "the route has no such method");
    }
}

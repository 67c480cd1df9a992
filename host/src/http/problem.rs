//! Owns the format of error responses (RFC 9457, `application/problem+json`). Never chooses the
//! problem.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Map, Value, json};

use crate::{http::limits, http::response_rules::ERROR_SOURCE};

/// Hints for the client and the operator when the host has no slot or memory for another instance.
pub(crate) const FULL_HINT: &str = "retry the request in a moment";
pub(crate) const FULL_DEPLOYER_HINT: &str = "the host's operator can raise instances_max or memory_max, or stop apps";

/// Hints for the client and the deployer when an app has more requests than its cores can process.
pub(crate) const BUSY_HINT: &str = "retry the request later";
pub(crate) const BUSY_DEPLOYER_HINT: &str =
    "add instances with `isopod scale`, or ask the host's operator for more cores";

/// The side that caused a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The host, or the client's request.
    Host,
    /// The app's own code.
    App,
}

/// The description of a refused or failed request, as its client receives it. The outermost layer
/// adds the request id.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// The stable code. The `type` member is a URN that ends with it.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
    pub(crate) hint: Option<String>,
    /// A hint for the app's deployer or the host's operator. Responses of the API and of `dev` apps
    /// include it.
    pub(crate) deployer_hint: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) source: Source,
    /// Further members of the response's JSON object.
    pub(crate) members: Map<String, Value>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
            hint: None,
            deployer_hint: None,
            app: None,
            source: Source::Host,
            members: Map::new(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    pub(crate) fn deployer_hint(mut self, hint: impl Into<String>) -> Self {
        self.deployer_hint = Some(hint.into());
        self
    }

    /// Returns the problem for an app's visitors, without the deployer's hint.
    pub(crate) fn for_visitors(self) -> Self {
        Self { deployer_hint: None, ..self }
    }

    /// Returns all hints as one text.
    pub(crate) fn hints(&self) -> Option<String> {
        let hints: Vec<&str> = [&self.hint, &self.deployer_hint].into_iter().flatten().map(String::as_str).collect();
        (!hints.is_empty()).then(|| hints.join("; "))
    }

    pub(crate) fn app(mut self, app: impl ToString) -> Self {
        self.app = Some(app.to_string());
        self
    }

    pub(crate) fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Sets the problem's own headers and [`ERROR_SOURCE`].
    pub(crate) fn set_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let source = match self.source {
            Source::Host => "host",
            Source::App => "app",
        };
        headers.insert(ERROR_SOURCE, HeaderValue::from_static(source));
    }

    /// Returns the response's body.
    pub(crate) fn json(&self, request_id: &str) -> Value {
        let mut body = json!({
            "type": format!("urn:isopod:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "request_id": request_id,
        });
        if let Some(object) = body.as_object_mut() {
            object.extend(self.hints().map(|hint| ("hint".to_owned(), hint.into())));
            object.extend(self.app.clone().map(|app| ("app".to_owned(), app.into())));
            object.extend(self.members.clone());
        }
        body
    }
}

/// Returns the problem of a request that a stopping host refuses.
pub(crate) fn stopping(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The host is stopping", detail)
        .retry_after(limits::STOPPING_RETRY_AFTER.as_secs())
        .header(header::CONNECTION, HeaderValue::from_static("close"))
}

/// The outermost layer adds the body, since it knows the request id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        self.set_headers(response.headers_mut());
        response.extensions_mut().insert(self);
        response
    }
}

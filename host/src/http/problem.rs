//! Owns the shape of an error's answer (RFC 9457, `application/problem+json`). Never decides which error it is.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Map, Value, json};

use crate::{http::response_rules::ERROR_SOURCE, limits};

/// Hints for the client and the operator if the host has no room for another instance.
pub(crate) const FULL_HINT: &str = "send it again in a moment";
pub(crate) const FULL_DEPLOYER_HINT: &str = "the host's operator can raise instances_max or memory_max, or stop apps";

/// Hints for the client and the deployer if an app has more work than it may do at one time.
pub(crate) const BUSY_HINT: &str = "send it again later";
pub(crate) const BUSY_DEPLOYER_HINT: &str =
    "`isopod scale` gives the app more instances, and the host's operator more cores";

/// Which side a problem comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The host, or the client's request.
    Host,
    /// The app's own code.
    App,
}

/// What a client is told about a refused or failed request. The request id is added where the answer leaves.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// The stable name; the `type` is a URN made of it.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    pub(crate) detail: String,
    pub(crate) hint: Option<String>,
    /// A hint for the app's deployer or operator. The API and traffic of `dev` apps show it.
    pub(crate) deployer_hint: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) source: Source,
    /// Further members of the answer.
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

    /// The problem for visitors of an app, without the deployer's hint.
    pub(crate) fn for_visitors(self) -> Self {
        Self { deployer_hint: None, ..self }
    }

    /// All hints as one text.
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

    /// Sets the problem's own headers, and the one that names its source.
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

    /// The answer's text.
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

/// A job that a stopping host doesn't begin.
pub(crate) fn stopping(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The host is stopping", detail)
        .retry_after(limits::STOPPING_RETRY_AFTER.as_secs())
        .header(header::CONNECTION, HeaderValue::from_static("close"))
}

/// The body follows in the outermost layer, which knows the request id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        self.set_headers(response.headers_mut());
        response.extensions_mut().insert(self);
        response
    }
}

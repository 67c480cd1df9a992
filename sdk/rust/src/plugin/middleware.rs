//! Middleware: the requests to apps as a plugin receives them, and its decisions about them. Never
//! calls a handler.

use std::borrow::Cow;
use std::ops::Deref;

use serde::de::DeserializeOwned;

use crate::Result;
use crate::http::{Body, HeaderValue, Headers, Request, Response, Target};
use crate::plugin::AssetResponse;

/// The head of a request to an app. The methods of [`Request`] work on it. Its body is empty unless
/// the middleware has asked for it.
#[derive(Debug)]
pub struct AppRequest {
    pub(crate) request: Request,
    pub(crate) app: String,
    pub(crate) id: String,
    pub(crate) has_body: bool,
}

impl AppRequest {
    /// Returns the name of the app.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Returns the id of the request, as in the logs.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the whole body; `None` until the middleware has asked for it with
    /// [`Decision::ReadBody`].
    pub fn whole_body(&self) -> Option<&[u8]> {
        self.has_body.then(|| self.request.bytes())
    }

    /// Returns the request with its body, as after [`Decision::ReadBody`], for tests.
    #[must_use]
    pub fn with_whole_body(mut self, body: impl Into<Body>) -> Self {
        self.request.body = body.into();
        self.has_body = true;
        self
    }
}

impl Deref for AppRequest {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

/// Creates a request to an app named `app`, for tests.
impl From<Request> for AppRequest {
    fn from(request: Request) -> Self {
        Self { request, app: "app".to_owned(), id: "test".to_owned(), has_body: false }
    }
}

/// The head of an app's response, and its body if the middleware has asked for it.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    pub(crate) body: Option<Vec<u8>>,
}

impl ResponseHead {
    /// Returns the whole body; `None` until the middleware has asked for it with
    /// [`ResponseDecision::ReadBody`].
    pub fn whole_body(&self) -> Option<&[u8]> {
        self.body.as_deref()
    }

    /// Returns the head with its body, as after [`ResponseDecision::ReadBody`], for tests.
    #[must_use]
    pub fn with_whole_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// Returns the head of a response, for tests.
impl From<Response> for ResponseHead {
    fn from(response: Response) -> Self {
        Self { status: response.status, headers: response.headers, body: None }
    }
}

/// The decision about a request.
///
/// A response converts into the decision to respond, and changes convert into the decision to
/// continue with them: `Ok(Response::new(204).into())`.
#[derive(Debug)]
pub enum Decision {
    /// The request continues unchanged.
    Pass,
    /// The request continues with changes.
    Change(RequestChanges),
    /// The request ends here with this response.
    Respond(Response),
    /// The request ends here with an asset of the app.
    Asset(AssetResponse),
    /// The host reads the request's body and calls the handler again, with
    /// [`AppRequest::whole_body`]. A body with more than this number of bytes is refused with 413.
    /// The number may be at most 4 MiB.
    ReadBody(u64),
}

impl From<Response> for Decision {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

impl From<AssetResponse> for Decision {
    fn from(response: AssetResponse) -> Self {
        Self::Asset(response)
    }
}

impl From<RequestChanges> for Decision {
    fn from(changes: RequestChanges) -> Self {
        Self::Change(changes)
    }
}

impl Decision {
    /// Returns the response, if the request ends here.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::Respond(response) => Some(response),
            Self::Pass | Self::Change(_) | Self::Asset(_) | Self::ReadBody(_) => None,
        }
    }

    /// Returns the request as the app receives it, for tests; `None` if the request ends here, or
    /// its body is read first.
    pub fn apply_to(self, request: AppRequest) -> Option<Request> {
        let AppRequest { mut request, .. } = request;
        match self {
            Self::Pass => {}
            Self::Change(changes) => {
                if let Some(path) = &changes.path_with_query {
                    request.target = Target::new(request.target.authority(), path);
                }
                changes.headers.into_iter().for_each(|change| change.apply(&mut request.headers));
                if let Some(body) = changes.body {
                    request.body = body.into();
                }
            }
            Self::Respond(_) | Self::Asset(_) | Self::ReadBody(_) => return None,
        }
        Some(request)
    }
}

/// Changes of a request, for the middleware after this one and for the app.
#[derive(Debug, Default)]
pub struct RequestChanges {
    pub(crate) path_with_query: Option<String>,
    pub(crate) headers: Vec<HeaderChange>,
    pub(crate) response_context: Option<Vec<u8>>,
    pub(crate) body: Option<Vec<u8>>,
}

impl RequestChanges {
    /// Returns an empty list of changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the path and query, which must start with `/`.
    #[must_use]
    pub fn set_path(mut self, path_with_query: impl Into<String>) -> Self {
        self.path_with_query = Some(path_with_query.into());
        self
    }

    /// Sets a header field, replacing all fields with its name.
    #[must_use]
    pub fn set_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) -> Self {
        self.headers.push(HeaderChange::Set(name.into(), value.into()));
        self
    }

    /// Adds a header field.
    #[must_use]
    pub fn append_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) -> Self {
        self.headers.push(HeaderChange::Append(name.into(), value.into()));
        self
    }

    /// Removes all header fields with a name.
    #[must_use]
    pub fn remove_header(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push(HeaderChange::Remove(name.into()));
        self
    }

    /// Requests a call of the middleware's second handler, with this context, once the response is
    /// known. The call may run in another instance, so the context must contain all that the
    /// handler needs.
    #[must_use]
    pub fn on_response(mut self, context: impl Into<Vec<u8>>) -> Self {
        self.response_context = Some(context.into());
        self
    }

    /// Sets a new body. The host sets `content-length`. Only valid once the middleware has received
    /// the request's body.
    #[must_use]
    pub fn set_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// The decision about a response. It has the same conversions as [`Decision`].
#[derive(Debug)]
pub enum ResponseDecision {
    /// The response continues unchanged.
    Pass,
    /// The response continues with a changed head.
    Change(ResponseChanges),
    /// The response is replaced.
    Replace(Response),
    /// The host reads the response's body and calls the handler again, with
    /// [`ResponseHead::whole_body`]. The call fails for a body with more than this number of bytes.
    /// The number may be at most 4 MiB.
    ReadBody(u64),
}

impl From<Response> for ResponseDecision {
    fn from(response: Response) -> Self {
        Self::Replace(response)
    }
}

impl From<ResponseChanges> for ResponseDecision {
    fn from(changes: ResponseChanges) -> Self {
        Self::Change(changes)
    }
}

impl ResponseDecision {
    /// Returns the head as the client receives it, for tests.
    pub fn apply_to(self, head: ResponseHead) -> ResponseHead {
        match self {
            Self::Pass | Self::ReadBody(_) => head,
            Self::Replace(response) => response.into(),
            Self::Change(changes) => {
                let mut headers = head.headers;
                changes.headers.into_iter().for_each(|change| change.apply(&mut headers));
                let (status, body) = (changes.status.unwrap_or(head.status), changes.body.or(head.body));
                ResponseHead { status, headers, body }
            }
        }
    }
}

/// Changes of a response's head.
#[derive(Debug, Default)]
pub struct ResponseChanges {
    pub(crate) status: Option<u16>,
    pub(crate) headers: Vec<HeaderChange>,
    pub(crate) body: Option<Vec<u8>>,
}

impl ResponseChanges {
    /// Returns an empty list of changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the status code.
    #[must_use]
    pub fn set_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets a header field, replacing all fields with its name.
    #[must_use]
    pub fn set_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) -> Self {
        self.headers.push(HeaderChange::Set(name.into(), value.into()));
        self
    }

    /// Adds a header field.
    #[must_use]
    pub fn append_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) -> Self {
        self.headers.push(HeaderChange::Append(name.into(), value.into()));
        self
    }

    /// Removes all header fields with a name.
    #[must_use]
    pub fn remove_header(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push(HeaderChange::Remove(name.into()));
        self
    }

    /// Sets a new body. The host sets `content-length`. Only valid once the middleware has received
    /// the response's body.
    #[must_use]
    pub fn set_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }
}

/// A change of one header field.
#[derive(Debug)]
pub(crate) enum HeaderChange {
    Set(Cow<'static, str>, HeaderValue),
    Append(Cow<'static, str>, HeaderValue),
    Remove(Cow<'static, str>),
}

impl HeaderChange {
    fn apply(self, headers: &mut Headers) {
        match self {
            Self::Set(name, value) => headers.set(name, value),
            Self::Append(name, value) => headers.append(name, value),
            Self::Remove(name) => headers.remove(&name),
        }
    }
}

/// Passes each response unchanged: the default for middleware without a second handler.
#[doc(hidden)]
pub async fn __pass_response<C>(_: &ResponseHead, _: &[u8], _: &C) -> Result<ResponseDecision> {
    Ok(ResponseDecision::Pass)
}

/// Checks the handler types of [`middleware!`](crate::middleware!) on targets that don't export
/// them.
#[doc(hidden)]
pub fn __check_handlers<C, F, G>(_on_request: F, _on_response: G)
where
    C: DeserializeOwned + 'static,
    F: AsyncFn(&AppRequest, &C) -> Result<Decision>,
    G: AsyncFn(&ResponseHead, &[u8], &C) -> Result<ResponseDecision>,
{
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::parse_settings;
    use crate::prelude::*;
    use crate::testing::block_on;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Settings {
        key: String,
    }

    crate::middleware!(decide, complete);

    async fn decide(request: &AppRequest, settings: &Settings) -> Result<Decision> {
        if request.header("x-key") != Some(&settings.key) {
            return Ok(Response::text("no").with_status(401).into());
        }
        let changes = RequestChanges::new().remove_header("x-key").set_header("x-app", request.app().to_owned());
        Ok(changes.append_header("x-app", "2").set_path("/inner?x=1").on_response("context").into())
    }

    async fn complete(head: &ResponseHead, context: &[u8], _: &Settings) -> Result<ResponseDecision> {
        match head.status {
            200 => Ok(ResponseChanges::new().set_status(203).set_header("x-context", context.to_vec()).into()),
            404 => Ok(Response::new(204).into()),
            _ => Ok(ResponseDecision::Pass),
        }
    }

    #[test]
    fn a_middleware_is_tested_without_a_host() {
        let settings: Settings = parse_settings(r#"{"key": "k"}"#).unwrap();
        let refused = block_on(decide(&Request::get("/").into(), &settings)).unwrap();
        assert_eq!(refused.response().map(|response| response.status), Some(401));
        assert!(refused.apply_to(Request::get("/").into()).is_none());
        let request: AppRequest = Request::get("https://a.example/x").with_header("x-key", "k").into();
        let seen = block_on(decide(&request, &settings)).unwrap().apply_to(request).unwrap();
        assert_eq!((seen.authority(), seen.path(), seen.query()), ("a.example", "/inner", "x=1"));
        assert_eq!(seen.headers.iter().collect::<Vec<_>>(), [("x-app", &b"app"[..]), ("x-app", b"2")]);
    }

    #[test]
    fn a_response_is_changed_replaced_or_passed_on() {
        let settings = Settings { key: String::new() };
        let completed = |status| {
            let head = ResponseHead::from(Response::new(status).with_header("x-a", "1"));
            let decision = block_on(complete(&head, b"c", &settings)).unwrap();
            let head = decision.apply_to(head);
            (head.status, head.headers.get("x-a").is_some(), head.headers.get("x-context").map(str::to_owned))
        };
        assert_eq!(completed(200), (203, true, Some("c".to_owned())));
        assert_eq!(completed(404), (204, false, None));
        assert_eq!(completed(500), (500, true, None));
    }

    mod signed {
        use super::*;

        crate::middleware!(verify, mark);

        async fn verify(request: &AppRequest, _: &Settings) -> Result<Decision> {
            let sum = request.header("x-sum").or_status(401, "send a sum")?;
            let Some(body) = request.whole_body() else { return Ok(Decision::ReadBody(10)) };
            match sum == body.iter().map(|byte| u32::from(*byte)).sum::<u32>().to_string() {
                true => Ok(RequestChanges::new().set_body("checked").on_response("").into()),
                false => Err(Error::status(403, "the sum is wrong")),
            }
        }

        async fn mark(head: &ResponseHead, _: &[u8], _: &Settings) -> Result<ResponseDecision> {
            let Some(body) = head.whole_body() else { return Ok(ResponseDecision::ReadBody(10)) };
            Ok(ResponseChanges::new().set_body([b">", body].concat()).into())
        }

        #[test]
        fn a_middleware_asks_for_bodies_and_changes_them() {
            let settings = Settings { key: String::new() };
            let request = |sum: &str| AppRequest::from(Request::post("/").with_header("x-sum", sum.to_owned()));
            assert!(matches!(block_on(verify(&request("3"), &settings)).unwrap(), Decision::ReadBody(10)));
            let request = |sum: &str| request(sum).with_whole_body(vec![1, 2]);
            let refused = block_on(verify(&request("4"), &settings)).unwrap_err();
            assert_eq!(refused.to_string(), "the sum is wrong");
            let seen = block_on(verify(&request("3"), &settings)).unwrap().apply_to(request("3")).unwrap();
            assert_eq!(seen.text().unwrap(), "checked");
            let head = ResponseHead::from(Response::new(200));
            let decision = block_on(mark(&head, b"", &settings)).unwrap();
            assert!(matches!(decision, ResponseDecision::ReadBody(10)));
            let head = decision.apply_to(head).with_whole_body("body");
            let changed = block_on(mark(&head, b"", &settings)).unwrap().apply_to(head);
            assert_eq!(changed.whole_body(), Some(&b">body"[..]));
        }
    }
}

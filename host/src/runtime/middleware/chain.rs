//! The path of a request and its response through a chain of middlewares. If a middleware fails,
//! the app's manifest decides whether it is skipped or the request ends.

use super::body::{AskedBody, NoBody};
use crate::{
    http::{discarded_body, field_classes::REAL_IP},
    runtime::{
        app::App,
        assets::{AssetFailure, Assets},
        directory::Directory,
        invoke::{Id, Input},
        limits,
        phase_times::PhaseTimes,
        plugin_call::{CallError, PluginFailureReason},
        plugin_use::{Chain, ChainLink, PluginOutcome},
        release::ActiveRelease,
        whole_body::UnreadableBody,
    },
};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, Uri, header, request, response, uri::PathAndQuery};
use isopod_engine::{
    BodyError, Decision, NotBuffered, PluginRequest, RequestChanges, ResponseBody, ResponseDecision, has_no_content,
};
use isopod_policy::{AppName, BodyLimit, Entry, OnFailure, Phase};
use std::sync::Arc;

/// The decision of the middlewares about a request, and which of them wait for the response.
pub(crate) struct Asked<'a> {
    pub(crate) outcome: RequestOutcome,
    pub(crate) waiting: Waiting<'a>,
}

/// The outcome of a request after all middlewares.
pub(crate) enum RequestOutcome {
    /// The app handles the request.
    Continue(Box<request::Parts>),
    /// A middleware responds.
    Respond { plugin: AppName, response: Response<ResponseBody> },
    /// A middleware failed, and the app's manifest doesn't allow skipping it.
    Refuse(PluginFailure),
    /// The host can't send the app's assets. `on_failure` doesn't apply, since no middleware
    /// failed.
    Fail(AssetFailure),
    /// A middleware asked for the body, which the host can't receive.
    Unreadable(UnreadableBody),
}

/// The middlewares that wait for the response to a request: their indexes in the chain, and their
/// contexts.
pub(crate) struct Waiting<'a> {
    method: Method,
    links: Vec<(usize, Vec<u8>)>,
    /// Receives the time of the calls.
    times: &'a PhaseTimes,
}

/// A middleware's decision about a request, including the response it returns.
enum Answered {
    /// The request continues, with another body if the middleware set one.
    Continue {
        changes: Option<RequestChanges>,
        body: Option<Bytes>,
    },
    Respond(Response<ResponseBody>),
    ReadBody(u64),
}

/// A response after all middlewares.
pub(crate) struct Completed {
    pub(crate) response: Response<ResponseBody>,
    /// The plugin that replaced the response, if one did.
    pub(crate) replaced_by: Option<AppName>,
}

/// The failure of a plugin that ends a request.
#[derive(Debug)]
pub(crate) struct PluginFailure {
    pub(crate) plugin: AppName,
    pub(crate) reason: PluginFailureReason,
}

/// Why the host doesn't send a response.
pub(crate) enum ResponseFailure {
    /// A middleware failed, and the app's manifest doesn't allow skipping it.
    Plugin(PluginFailure),
    /// A middleware asked for the body, which failed before its end.
    Body(BrokenResponse),
}

/// The failure of a response's body, with the data for its problem document.
pub(crate) struct BrokenResponse {
    pub(crate) error: BodyError,
    /// The largest body that the request may have.
    pub(crate) limit: BodyLimit,
    /// Whether the client may see the fault and the guest's own output.
    pub(crate) is_dev: bool,
    pub(crate) output: Option<String>,
}

impl BrokenResponse {
    fn new(error: BodyError, app: &App, running: &ActiveRelease, request_id: &impl Id) -> Self {
        let (program, is_dev) = (running.program(), app.resources().is_dev());
        let output = program.sandbox().output.last_output(request_id.as_ref()).filter(|_| is_dev);
        Self { error, limit: program.body_limit(), is_dev, output }
    }
}

/// Why a middleware gave no decision that the host can carry out.
enum Unanswered {
    Plugin(PluginFailureReason),
    Assets(AssetFailure),
    Body(UnreadableBody),
}

impl From<PluginFailureReason> for Unanswered {
    fn from(reason: PluginFailureReason) -> Self {
        Self::Plugin(reason)
    }
}

impl From<CallError> for Unanswered {
    fn from(error: CallError) -> Self {
        Self::Plugin(error.into())
    }
}

impl From<AssetFailure> for Unanswered {
    fn from(failure: AssetFailure) -> Self {
        Self::Assets(failure)
    }
}

impl From<NoBody> for Unanswered {
    fn from(no_body: NoBody) -> Self {
        match no_body {
            NoBody::Client(unreadable) => Self::Body(unreadable),
            NoBody::Plugin(reason) => Self::Plugin(reason),
        }
    }
}

impl Chain {
    /// Calls the middlewares for a request to a release, in order, until one responds or ends the
    /// request.
    pub(crate) async fn ask<'a>(
        &self,
        app: &App,
        directory: &Directory,
        running: &ActiveRelease,
        head: Box<request::Parts>,
        body: &mut AskedBody<'a>,
        request_id: impl Id,
    ) -> Asked<'a> {
        let assets = running.assets().map(|assets| &**assets);
        let mut head = Arc::<request::Parts>::from(head);
        let mut waiting = Waiting { method: head.method.clone(), links: Vec::new(), times: body.times() };
        for (index, link) in self.links().iter().enumerate() {
            // An earlier middleware may have changed the path: the app sees the changed one.
            if !link.used.applies_to(head.uri.path()) {
                continue;
            }
            let answered = link.decide(app, directory, assets, &mut head, body, &request_id).await;
            let outcome = match answered {
                Ok(Decided::Continue(context)) => {
                    waiting.links.extend(context.map(|context| (index, context)));
                    continue;
                }
                Ok(Decided::Respond(response)) => RequestOutcome::Respond { plugin: link.plugin().clone(), response },
                Err(Unanswered::Assets(failure)) => RequestOutcome::Fail(failure),
                Err(Unanswered::Body(unreadable)) => RequestOutcome::Unreadable(unreadable),
                Err(Unanswered::Plugin(reason)) => match link.fail(reason, running) {
                    Ok(()) => continue,
                    Err(failure) => RequestOutcome::Refuse(failure),
                },
            };
            return Asked { outcome, waiting };
        }
        Asked { outcome: RequestOutcome::Continue(Box::new(Arc::unwrap_or_clone(head))), waiting }
    }

    /// Passes a response back through the middlewares that wait for it, the last one first.
    pub(crate) async fn complete(
        &self,
        app: &App,
        directory: &Directory,
        running: &ActiveRelease,
        Waiting { method, links, times }: Waiting<'_>,
        response: Response<ResponseBody>,
        request_id: impl Id,
    ) -> Result<Completed, ResponseFailure> {
        let (parts, mut body) = response.into_parts();
        let mut head = Arc::new(parts);
        let mut replaced_by = None;
        for (index, context) in links.into_iter().rev() {
            let Some(link) = self.links().get(index) else { continue };
            let context = Arc::<[u8]>::from(context);
            let completed = link.complete(app, directory, &context, &head, None, &request_id);
            let mut decided = times.measure(Phase::Plugins, completed).await;
            let has_content = !has_no_content(&method, head.status);
            if let Ok((ResponseDecision::ReadBody(bytes_max), _)) = decided {
                link.calls.count(PluginOutcome::Ask);
                let _awaited = link.calls.await_body();
                let content = if has_content { read(&mut body, bytes_max, running).await } else { Ok(Bytes::new()) };
                if !has_content {
                    // The middleware may change the length of the same response to GET.
                    let headers = &mut Arc::make_mut(&mut head).headers;
                    set_body(headers, &mut body, ResponseBody::full(Bytes::new()), has_content);
                }
                decided = match content {
                    Ok(content) => {
                        let completed = link.complete(app, directory, &context, &head, Some(content), &request_id);
                        times.measure(Phase::Plugins, completed).await
                    }
                    Err(NotRead::Plugin(reason)) => Err(reason),
                    Err(NotRead::Failed(error)) => {
                        return Err(ResponseFailure::Body(BrokenResponse::new(error, app, running, &request_id)));
                    }
                };
            }
            match decided {
                Ok((ResponseDecision::Pass | ResponseDecision::ReadBody(_), None)) => {
                    link.calls.count(PluginOutcome::Pass);
                }
                Ok((ResponseDecision::Replace(replacement), _)) => {
                    link.calls.count(PluginOutcome::Respond);
                    let (parts, replacement) = replacement.into_parts();
                    head = Arc::new(parts);
                    discarded_body::discard(std::mem::replace(&mut body, replacement));
                    replaced_by = Some(link.plugin().clone());
                }
                Ok((changes, new_body)) => {
                    link.calls.count(PluginOutcome::Change);
                    let parts = Arc::make_mut(&mut head);
                    if let ResponseDecision::Change(changes) = changes {
                        changes.headers.apply(&mut parts.headers);
                        parts.status = changes.status.unwrap_or(parts.status);
                    }
                    if let Some(new_body) = new_body {
                        set_body(&mut parts.headers, &mut body, new_body, has_content);
                    }
                }
                Err(reason) => {
                    if let Err(failure) = link.fail(reason, running) {
                        discarded_body::discard(body);
                        return Err(ResponseFailure::Plugin(failure));
                    }
                }
            }
        }
        Ok(Completed { response: Response::from_parts(Arc::unwrap_or_clone(head), body), replaced_by })
    }
}

/// A middleware's decision after its changes were made.
enum Decided {
    /// The request continues. The middleware waits for the response if it has a context.
    Continue(Option<Vec<u8>>),
    Respond(Response<ResponseBody>),
}

/// Why the host can't pass a response's body to the middleware that asked for it.
enum NotRead {
    Plugin(PluginFailureReason),
    Failed(BodyError),
}

/// Reads the body of a release's response for a middleware.
async fn read(body: &mut ResponseBody, bytes_max: u64, running: &ActiveRelease) -> Result<Bytes, NotRead> {
    let read = body.buffer(bytes_max, limits::MIDDLEWARE_RESPONSE_TIMEOUT, &running.program().memory_charge()).await;
    read.map_err(|error| match error {
        NotBuffered::TooLarge => NotRead::Plugin(PluginFailureReason::ResponseTooLarge { bytes_max }),
        NotBuffered::TooSlow => NotRead::Plugin(PluginFailureReason::ResponseTooSlow),
        NotBuffered::NoRoom => NotRead::Plugin(PluginFailureReason::NoRoomForResponse),
        NotBuffered::Failed(error) => NotRead::Failed(error),
    })
}

/// Replaces the body of a response, and removes the header fields about the previous one's length
/// and trailers. A response without content stays empty.
fn set_body(headers: &mut HeaderMap, body: &mut ResponseBody, new_body: ResponseBody, has_content: bool) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRAILER);
    let new_body = if has_content { new_body } else { ResponseBody::full(Bytes::new()) };
    discarded_body::discard(std::mem::replace(body, new_body));
}

impl ChainLink {
    fn plugin(&self) -> &AppName {
        &self.used.plugin.name
    }

    /// Counts a failure, and logs it for the app if the plugin's log doesn't have it. Returns it
    /// unless the request continues without the middleware.
    fn fail(&self, reason: PluginFailureReason, running: &ActiveRelease) -> Result<(), PluginFailure> {
        self.calls.count(PluginOutcome::Failure);
        if reason.is_outside_call() {
            running.log_warning(&format!("the plugin `{}` failed: {reason}", self.plugin()));
        }
        if matches!(reason, PluginFailureReason::NewBodyTooLarge { .. }) {
            self.calls.count_failure();
        }
        match self.used.on_failure {
            OnFailure::Pass => Ok(()),
            OnFailure::Refuse => Err(PluginFailure { plugin: self.plugin().clone(), reason }),
        }
    }

    /// Returns the plugin's release that the app uses.
    async fn release(&self, app: &App, directory: &Directory) -> Result<Arc<ActiveRelease>, PluginFailureReason> {
        // An app with the name of a plugin must not be loaded for its requests.
        let plugin = directory.get(self.plugin().as_str()).filter(|app| app.is_plugin());
        let plugin = plugin.ok_or(PluginFailureReason::Missing)?;
        let release = directory
            .serving_for(&plugin, app.name(), &self.used.plugin, &self.calls)
            .await
            .map_err(PluginFailureReason::Unavailable)?;
        release.ensure_accepted(&self.used.plugin)?;
        Ok(release)
    }

    /// Calls the middleware for a request, and a second time with the body if it asks for one.
    /// Applies its changes, and counts its decisions.
    async fn decide(
        &self,
        app: &App,
        directory: &Directory,
        assets: Option<&Assets>,
        head: &mut Arc<request::Parts>,
        body: &mut AskedBody<'_>,
        request_id: &impl Id,
    ) -> Result<Decided, Unanswered> {
        let times = body.times();
        let asked = self.ask(app, directory, assets, head, None, request_id);
        let mut answered = times.measure(Phase::Plugins, asked).await?;
        if let Answered::ReadBody(bytes_max) = answered {
            self.calls.count(PluginOutcome::Ask);
            let _awaited = self.calls.await_body();
            let content = body.read(&head.headers, bytes_max, self.plugin());
            let content = app.resources().cancellation().run_until_cancelled(content).await;
            let content = content.ok_or(PluginFailureReason::AppDestroyed)??;
            let asked = self.ask(app, directory, assets, head, Some(content), request_id);
            answered = times.measure(Phase::Plugins, asked).await?;
        }
        let (changes, new_body) = match answered {
            Answered::Respond(response) => {
                self.calls.count(PluginOutcome::Respond);
                return Ok(Decided::Respond(response));
            }
            Answered::Continue { changes, body } => (changes, body),
            Answered::ReadBody(_) => (None, None),
        };
        if changes.is_none() && new_body.is_none() {
            self.calls.count(PluginOutcome::Pass);
            return Ok(Decided::Continue(None));
        }
        let parts = Arc::make_mut(head);
        if let Some(new_body) = new_body {
            body.replace(new_body, &mut parts.headers)?;
        }
        self.calls.count(PluginOutcome::Change);
        let Some(changes) = changes else { return Ok(Decided::Continue(None)) };
        changes.headers.apply(&mut parts.headers);
        if let Some(path) = changes.path_and_query {
            set_path(&mut parts.uri, path);
        }
        Ok(Decided::Continue(changes.response_context))
    }

    async fn ask(
        &self,
        app: &App,
        directory: &Directory,
        assets: Option<&Assets>,
        head: &Arc<request::Parts>,
        body: Option<Bytes>,
        request_id: &impl Id,
    ) -> Result<Answered, Unanswered> {
        let release = self.release(app, directory).await?;
        // While the body arrived, a release that receives only heads may have replaced the one that
        // asked. It decides by the head.
        let body = body.filter(|_| release.receives_bodies());
        // A middleware that can't find assets doesn't depend on them.
        let assets = assets.filter(|_| release.finds_assets());
        let index = match assets {
            Some(assets) => Some(assets.index().await.map_err(AssetFailure::from)?),
            None => None,
        };
        let (config, asked, app_name, id) =
            (self.used.config.text(), Arc::clone(head), app.name().clone(), request_id.clone());
        let input = input_of(body.as_ref());
        let decided = release.call_plugin(
            Entry::Middleware,
            app.resources(),
            &self.calls,
            (request_id, &input),
            move |instance| async move {
                let client_address = asked.headers.get(REAL_IP).and_then(|address| address.to_str().ok());
                let (app, request_id) = (app_name.as_str(), id.as_ref());
                let assets = index.as_ref();
                let request = PluginRequest { head: &asked, client_address, app, request_id, assets };
                match body {
                    Some(body) => Box::pin(instance.on_request_body(&config, request, &body)).await,
                    None => {
                        let (decided, instance) = instance.on_request(&config, request).await;
                        (decided.map(|decided| (decided, None)), instance)
                    }
                }
            },
        );
        let (decided, new_body) = decided.await?;
        Ok(match (decided, assets) {
            (Decision::Pass, _) => Answered::Continue { changes: None, body: new_body },
            (Decision::Change(changes), _) => Answered::Continue { changes: Some(changes), body: new_body },
            (Decision::Respond(response), _) => Answered::Respond(response),
            (Decision::ReadBody(bytes_max), _) => Answered::ReadBody(bytes_max),
            (Decision::Asset(response), assets) => {
                let unknown = || PluginFailureReason::UnknownAsset(response.path.clone());
                let assets = assets.ok_or_else(unknown)?;
                let sent = assets.respond(head, &response).await?;
                Answered::Respond(sent.ok_or_else(unknown)?)
            }
        })
    }

    async fn complete(
        &self,
        app: &App,
        directory: &Directory,
        context: &Arc<[u8]>,
        head: &Arc<response::Parts>,
        body: Option<Bytes>,
        request_id: &impl Id,
    ) -> Result<(ResponseDecision, Option<ResponseBody>), PluginFailureReason> {
        let release = self.release(app, directory).await?;
        let body = body.filter(|_| release.receives_bodies());
        let (config, context, head) = (self.used.config.text(), Arc::clone(context), Arc::clone(head));
        let (id, input) = (request_id.clone(), input_of(body.as_ref()));
        let decided = release.call_plugin(
            Entry::Middleware,
            app.resources(),
            &self.calls,
            (request_id, &input),
            move |instance| async move {
                match body {
                    Some(body) => {
                        Box::pin(instance.on_response_body(&config, &context, &head, &body, id.as_ref())).await
                    }
                    None => {
                        let (decided, instance) = instance.on_response(&config, &context, &head, id.as_ref()).await;
                        (decided.map(|decided| (decided, None)), instance)
                    }
                }
            },
        );
        Ok(decided.await?)
    }
}

fn input_of(body: Option<&Bytes>) -> Input {
    body.map_or_else(Input::none, |body| Input::of_bytes(body.len() as u64))
}

/// Changes the path and query of a URI with scheme and authority.
fn set_path(uri: &mut Uri, path: PathAndQuery) {
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(path);
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_path_keeps_scheme_and_authority() {
        let mut uri = Uri::from_static("https://shop.localhost:8080/old?a=b");
        set_path(&mut uri, PathAndQuery::from_static("/new?c=d"));
        assert_eq!(uri, "https://shop.localhost:8080/new?c=d");
    }
}

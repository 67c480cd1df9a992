//! The path of a request and its response through a chain of middlewares. If a middleware fails,
//! the app's manifest decides whether it is skipped or the request ends.

use crate::{
    http::{discarded_body, field_classes::REAL_IP},
    runtime::{
        app::App,
        assets::{AssetFailure, Assets},
        directory::Directory,
        invoke::Id,
        plugin_call::{CallError, PluginFailureReason},
        plugin_use::{Chain, ChainLink, PluginOutcome},
        release::ActiveRelease,
    },
};
use http::{Response, Uri, request, response, uri::PathAndQuery};
use isopod_engine::{Decision, PluginRequest, RequestChanges, ResponseBody, ResponseDecision};
use isopod_policy::{AppName, Entry, OnFailure};
use std::sync::Arc;

/// The decision of the middlewares about a request, and which of them wait for the response.
pub(crate) struct Asked {
    pub(crate) outcome: RequestOutcome,
    pub(crate) waiting: Waiting,
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
}

/// The middlewares that wait for the response to a request: their indexes in the chain, and their
/// contexts.
#[derive(Default)]
pub(crate) struct Waiting(Vec<(usize, Vec<u8>)>);

/// A middleware's decision about a request, with the response that it makes.
enum Answered {
    Pass,
    Change(RequestChanges),
    Respond(Response<ResponseBody>),
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

/// Why a middleware gave no decision that the host can carry out.
enum Unanswered {
    Plugin(PluginFailureReason),
    Assets(AssetFailure),
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

impl Chain {
    /// Calls the middlewares for a request, in order, until one responds or ends the request.
    pub(crate) async fn ask(
        &self,
        app: &App,
        directory: &Directory,
        assets: Option<&Assets>,
        head: Box<request::Parts>,
        request_id: impl Id,
    ) -> Asked {
        let mut head = Arc::<request::Parts>::from(head);
        let mut waiting = Waiting::default();
        for (index, link) in self.links().iter().enumerate() {
            // An earlier middleware may have changed the path: the app sees the changed one.
            if !link.used.applies_to(head.uri.path()) {
                continue;
            }
            match link.ask(app, directory, assets, &head, &request_id).await {
                Ok(Answered::Pass) => link.calls.count(PluginOutcome::Pass),
                Ok(Answered::Change(changes)) => {
                    link.calls.count(PluginOutcome::Change);
                    let parts = Arc::make_mut(&mut head);
                    changes.headers.apply(&mut parts.headers);
                    if let Some(path) = changes.path_and_query {
                        set_path(&mut parts.uri, path);
                    }
                    waiting.0.extend(changes.response_context.map(|context| (index, context)));
                }
                Ok(Answered::Respond(response)) => {
                    link.calls.count(PluginOutcome::Respond);
                    let plugin = link.plugin().clone();
                    return Asked { outcome: RequestOutcome::Respond { plugin, response }, waiting };
                }
                Err(Unanswered::Assets(failure)) => {
                    return Asked { outcome: RequestOutcome::Fail(failure), waiting };
                }
                Err(Unanswered::Plugin(reason)) => {
                    if let Err(failure) = link.fail(reason) {
                        return Asked { outcome: RequestOutcome::Refuse(failure), waiting };
                    }
                }
            }
        }
        Asked { outcome: RequestOutcome::Continue(Box::new(Arc::unwrap_or_clone(head))), waiting }
    }

    /// Passes a response back through the middlewares that wait for it, the last one first.
    pub(crate) async fn complete(
        &self,
        app: &App,
        directory: &Directory,
        waiting: Waiting,
        response: Response<ResponseBody>,
        request_id: impl Id,
    ) -> Result<Completed, PluginFailure> {
        let (parts, mut body) = response.into_parts();
        let mut head = Arc::new(parts);
        let mut replaced_by = None;
        for (index, context) in waiting.0.into_iter().rev() {
            let Some(link) = self.links().get(index) else { continue };
            match link.complete(app, directory, context, &head, &request_id).await {
                Ok(ResponseDecision::Pass) => link.calls.count(PluginOutcome::Pass),
                Ok(ResponseDecision::Change(changes)) => {
                    link.calls.count(PluginOutcome::Change);
                    let parts = Arc::make_mut(&mut head);
                    changes.headers.apply(&mut parts.headers);
                    parts.status = changes.status.unwrap_or(parts.status);
                }
                Ok(ResponseDecision::Replace(replacement)) => {
                    link.calls.count(PluginOutcome::Respond);
                    let (parts, replacement) = replacement.into_parts();
                    head = Arc::new(parts);
                    discarded_body::discard(std::mem::replace(&mut body, replacement));
                    replaced_by = Some(link.plugin().clone());
                }
                Err(reason) => {
                    if let Err(failure) = link.fail(reason) {
                        discarded_body::discard(body);
                        return Err(failure);
                    }
                }
            }
        }
        Ok(Completed { response: Response::from_parts(Arc::unwrap_or_clone(head), body), replaced_by })
    }
}

impl ChainLink {
    fn plugin(&self) -> &AppName {
        &self.used.plugin.name
    }

    /// Counts a failure. Returns it unless the request continues without the middleware.
    fn fail(&self, reason: PluginFailureReason) -> Result<(), PluginFailure> {
        self.calls.count(PluginOutcome::Failure);
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

    async fn ask(
        &self,
        app: &App,
        directory: &Directory,
        assets: Option<&Assets>,
        head: &Arc<request::Parts>,
        request_id: &impl Id,
    ) -> Result<Answered, Unanswered> {
        let release = self.release(app, directory).await?;
        // A middleware that can't find assets doesn't depend on them.
        let assets = assets.filter(|_| release.finds_assets());
        let index = match assets {
            Some(assets) => Some(assets.index().await.map_err(AssetFailure::from)?),
            None => None,
        };
        let (config, asked, app_name, id) =
            (self.used.config.text(), Arc::clone(head), app.name().clone(), request_id.clone());
        let decided = release.call_plugin(
            Entry::Middleware,
            app.resources(),
            &self.calls,
            request_id,
            move |instance| async move {
                let client_address = asked.headers.get(REAL_IP).and_then(|address| address.to_str().ok());
                let (app, request_id) = (app_name.as_str(), id.as_ref());
                let assets = index.as_ref();
                instance
                    .on_request(&config, PluginRequest { head: &asked, client_address, app, request_id, assets })
                    .await
            },
        );
        Ok(match (decided.await?, assets) {
            (Decision::Pass, _) => Answered::Pass,
            (Decision::Change(changes), _) => Answered::Change(changes),
            (Decision::Respond(response), _) => Answered::Respond(response),
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
        context: Vec<u8>,
        head: &Arc<response::Parts>,
        request_id: &impl Id,
    ) -> Result<ResponseDecision, PluginFailureReason> {
        let release = self.release(app, directory).await?;
        let (config, head, id) = (self.used.config.text(), Arc::clone(head), request_id.clone());
        let decided = release.call_plugin(
            Entry::Middleware,
            app.resources(),
            &self.calls,
            request_id,
            move |instance| async move { instance.on_response(&config, &context, &head, id.as_ref()).await },
        );
        Ok(decided.await?)
    }
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

//! Calls a plugin's exports: `isopod:plugin/middleware` and `isopod:plugin/config`. Never decides
//! which plugin sees a request, or what happens after its failure.

use crate::{
    bindings::middleware as wit,
    counter_table::Counters,
    decision::{
        AssetResponse, Decision, HeaderChanges, Operation, RequestChanges, ResponseChanges, ResponseDecision, bad,
        longest_body, path_and_query, response_context, status,
    },
    fault::Fault,
    flat,
    flat_call::Headers,
    instance::Instance,
    limits, packed,
    program::Program,
    state::HostState,
};
use http::{HeaderMap, request, response};
use isopod_policy::{
    AssetIndex,
    limits::TEXT_NAME_BYTES_SHOWN,
    text::{excerpt, line_excerpt},
};
use std::sync::Arc;
use wasmtime::Store;

/// A request as a middleware receives it.
#[derive(Debug, Clone, Copy)]
pub struct PluginRequest<'a> {
    pub head: &'a request::Parts,
    pub client_address: Option<&'a str>,
    /// The app that the request is for.
    pub app: &'a str,
    pub request_id: &'a str,
    /// The assets of the release that serves the request, if it has any.
    pub assets: Option<&'a Arc<AssetIndex>>,
}

impl Instance {
    /// Sets the token buckets that the guest can use in its next call.
    pub fn set_counters(&mut self, counters: Arc<Counters>) {
        self.store.data_mut().counters = Some(counters);
    }

    /// Calls a middleware for a request. Returns the instance if it can be reused.
    pub async fn on_request(
        mut self: Box<Self>,
        config: &str,
        request: PluginRequest<'_>,
    ) -> (Result<Decision, Fault>, Option<Box<Self>>) {
        let PluginRequest { head, assets, .. } = request;
        let headers = &listed(&head.headers);
        let record = record(&request, headers);
        self.begin(request.request_id);
        self.store.data_mut().assets = assets.cloned();
        let decided = match self.middleware() {
            Ok((store, plugin)) => plugin.call_on_request(store, config, record).await,
            Err(error) => Err(error),
        };
        let asked = self.store.data_mut().asked_bytes.take();
        self.settle(decided, |decided, program| match (decision(decided, &head.headers, assets, program)?, asked) {
            (Decision::Pass, Some(asked)) => Ok(Decision::ReadBody(longest_body(asked, program.receives_bodies())?)),
            (decided, _) => Ok(decided),
        })
    }

    /// Calls a middleware for a response. `context` is the context that it returned for the
    /// request. Returns the instance if it can be reused.
    pub async fn on_response(
        mut self: Box<Self>,
        config: &str,
        context: &[u8],
        head: &response::Parts,
        request_id: &str,
    ) -> (Result<ResponseDecision, Fault>, Option<Box<Self>>) {
        let response = wit::ResponseHead { status: head.status.as_u16(), headers: &listed(&head.headers) };
        self.begin(request_id);
        let decided = match self.middleware() {
            Ok((store, plugin)) => plugin.call_on_response(store, config, context, response).await,
            Err(error) => Err(error),
        };
        let asked = self.store.data_mut().asked_bytes.take();
        self.settle(decided, |decided, program| match (response_decision(decided, &head.headers, program)?, asked) {
            (ResponseDecision::Pass, Some(asked)) => {
                Ok(ResponseDecision::ReadBody(longest_body(asked, program.receives_bodies())?))
            }
            (decided, _) => Ok(decided),
        })
    }

    /// Calls a plugin's check of a config. A plugin without such a check accepts every config.
    /// Returns the instance if it can be reused.
    pub async fn validate_config(mut self: Box<Self>, config: &str) -> (Result<(), Fault>, Option<Box<Self>>) {
        let program = self.program.clone();
        let Some(indices) = &program.exports().plugin_config else { return (Ok(()), Some(self)) };
        self.begin("");
        let validated = match indices.load(&mut self.store, &self.component) {
            Ok(plugin) => plugin.isopod_plugin_config().call_validate_config(&mut self.store, config).await,
            Err(error) => Err(error),
        };
        self.settle(validated, |(), _| Ok(()))
    }

    /// Returns the middleware's functions, which are looked up in the first call.
    fn middleware(&mut self) -> wasmtime::Result<(&mut Store<HostState>, &wit::Guest)> {
        let Self { store, ready, component, program, .. } = self;
        let plugin = match (&mut ready.middleware, &program.exports().middleware) {
            (Some(plugin), _) => plugin,
            (none, Some(indices)) => none.insert(indices.load(&mut *store, component)?),
            (None, None) => wasmtime::bail!("isopod:plugin/middleware is not exported"),
        };
        Ok((store, plugin.isopod_plugin_middleware()))
    }

    /// Ends a call. Converts its result, which must be valid.
    pub(crate) fn settle<T, D>(
        mut self: Box<Self>,
        called: wasmtime::Result<Result<T, String>>,
        convert: impl FnOnce(T, &Program) -> Result<D, Fault>,
    ) -> (Result<D, Fault>, Option<Box<Self>>) {
        match called {
            Ok(Ok(decided)) => (convert(decided, &self.program), self.finished()),
            Ok(Err(message)) => {
                let message = excerpt(&message, limits::GUEST_ERROR_BYTES_MAX).into_owned();
                (Err(Fault::Failed { message }), self.finished())
            }
            Err(error) => (Err(self.fault(&error)), None),
        }
    }
}

pub(crate) fn listed(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// Returns a request with these headers as the interface has it.
pub(crate) fn record<'a>(request: &PluginRequest<'a>, headers: &'a [(&'a str, &'a [u8])]) -> wit::Request<'a> {
    let PluginRequest { head, client_address, app, request_id, assets: _ } = *request;
    let [method, scheme, authority, path_with_query] = packed::target(head);
    wit::Request { method, scheme, authority, path_with_query, headers, client_address, app, request_id }
}

pub(crate) fn decision(
    decided: wit::Decision,
    head: &HeaderMap,
    assets: Option<&Arc<AssetIndex>>,
    program: &Program,
) -> Result<Decision, Fault> {
    Ok(match decided {
        wit::Decision::Pass => Decision::Pass,
        wit::Decision::Change(changes) => Decision::Change(RequestChanges {
            path_and_query: changes.path_with_query.map(path_and_query).transpose()?,
            headers: header_changes(&changes.headers)?.fitting(head)?,
            response_context: changes.response_context.map(response_context).transpose()?,
        }),
        wit::Decision::Respond(wit::Response { status, headers, body }) => {
            Decision::Respond(flat::response_of(status, Headers::Listed(headers), body, program)?)
        }
        wit::Decision::Asset(response) => Decision::Asset(asset_response(response, assets, program)?),
    })
}

fn asset_response(
    response: wit::AssetResponse,
    assets: Option<&Arc<AssetIndex>>,
    program: &Program,
) -> Result<AssetResponse, Fault> {
    let wit::AssetResponse { path, status, headers } = response;
    if assets.is_none_or(|assets| assets.get(&path).is_none()) {
        return Err(bad(format!("the app has no asset `{}`", line_excerpt(&path, TEXT_NAME_BYTES_SHOWN))));
    }
    let (head, _) = flat::response_of(status, Headers::Listed(headers), Vec::new(), program)?.into_parts();
    Ok(AssetResponse { path, status: head.status, headers: head.headers })
}

pub(crate) fn response_decision(
    decided: wit::ResponseDecision,
    head: &HeaderMap,
    program: &Program,
) -> Result<ResponseDecision, Fault> {
    Ok(match decided {
        wit::ResponseDecision::Pass => ResponseDecision::Pass,
        wit::ResponseDecision::Change(changes) => ResponseDecision::Change(ResponseChanges {
            status: changes.status.map(status).transpose()?,
            headers: header_changes(&changes.headers)?.fitting(head)?,
        }),
        wit::ResponseDecision::Replace(wit::Response { status, headers, body }) => {
            ResponseDecision::Replace(flat::response_of(status, Headers::Listed(headers), body, program)?)
        }
    })
}

fn header_changes(changes: &[wit::HeaderChange]) -> Result<HeaderChanges, Fault> {
    let mut valid = HeaderChanges::default();
    for change in changes {
        let (operation, name, value) = match change {
            wit::HeaderChange::Set((name, value)) => (Operation::Set, name, &value[..]),
            wit::HeaderChange::Append((name, value)) => (Operation::Append, name, &value[..]),
            wit::HeaderChange::Remove(name) => (Operation::Remove, name, &[][..]),
        };
        valid.push(operation, name.as_bytes(), value)?;
    }
    Ok(valid)
}

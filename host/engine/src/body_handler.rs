//! Calls a plugin's export `isopod:plugin/body-handler`, with the bodies that a middleware asked
//! for. Never reads a body from a client or a guest.
//!
//! The interface uses the types of `isopod:plugin/middleware`, so its functions are typed by the
//! bindings of that interface.

use crate::{
    bindings::middleware as wit,
    body_export::BodyExport,
    decision::{Decision, ResponseDecision},
    fault::Fault,
    flat,
    inspect::BODY_HANDLER,
    instance::Instance,
    plugin::{self, PluginRequest},
    response_body::ResponseBody,
};
use bytes::Bytes;
use http::response;
use wasmtime::component::ComponentExportIndex;

/// A decision, and the new body of a message that continues with another one.
type Decided<T> = Result<(T, Option<Vec<u8>>), String>;

impl Instance {
    /// Calls a middleware for a request with its whole body. Also returns the request's new body if
    /// the middleware changed it, and the instance if it can be reused.
    pub async fn on_request_body(
        mut self: Box<Self>,
        config: &str,
        request: PluginRequest<'_>,
        body: &Bytes,
    ) -> (Result<(Decision, Option<Bytes>), Fault>, Option<Box<Self>>) {
        let PluginRequest { head, assets, .. } = request;
        let headers = &plugin::listed(&head.headers);
        let record = plugin::record(&request, headers);
        self.begin(request.request_id);
        self.store.data_mut().assets = assets.cloned();
        let decided = match self.body_handler(|indices| indices.on_request_body) {
            Ok(index) => match self.component.get_typed_func::<_, (Decided<wit::Decision>,)>(&mut self.store, index) {
                Ok(function) => function.call_async(&mut self.store, (config, record, &body[..])).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let is_filled = self.is_filled_by_bodies(bytes_of(body, &decided));
        let (decided, instance) = self.settle(decided.map(|(decided,)| decided), |(decided, body), program| {
            let decided = plugin::decision(decided, &head.headers, assets, program)?;
            Ok((decided, body.map(Bytes::from)))
        });
        (decided, instance.filter(|_| !is_filled))
    }

    /// Calls a middleware for a response with its whole body. Also returns the response's new body
    /// if the middleware changed it, and the instance if it can be reused.
    pub async fn on_response_body(
        mut self: Box<Self>,
        config: &str,
        context: &[u8],
        head: &response::Parts,
        body: &Bytes,
        request_id: &str,
    ) -> (Result<(ResponseDecision, Option<ResponseBody>), Fault>, Option<Box<Self>>) {
        let headers = &plugin::listed(&head.headers);
        let response = wit::ResponseHead { status: head.status.as_u16(), headers };
        self.begin(request_id);
        let decided = match self.body_handler(|indices| indices.on_response_body) {
            Ok(index) => {
                match self.component.get_typed_func::<_, (Decided<wit::ResponseDecision>,)>(&mut self.store, index) {
                    Ok(function) => function.call_async(&mut self.store, (config, context, response, &body[..])).await,
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        let is_filled = self.is_filled_by_bodies(bytes_of(body, &decided));
        let (decided, instance) = self.settle(decided.map(|(decided,)| decided), |(decided, body), program| {
            let decided = plugin::response_decision(decided, &head.headers, program)?;
            Ok((decided, body.map(|body| flat::body_of(body, program)).transpose()?))
        });
        (decided, instance.filter(|_| !is_filled))
    }

    fn body_handler(
        &self,
        function: impl FnOnce(&BodyExport) -> ComponentExportIndex,
    ) -> wasmtime::Result<ComponentExportIndex> {
        let indices = self.program.exports().body_handler.as_ref();
        indices.map(function).ok_or_else(|| wasmtime::format_err!("{BODY_HANDLER} is not exported"))
    }
}

/// Returns the bytes of a message's body and of the new body.
fn bytes_of<T>(body: &Bytes, decided: &wasmtime::Result<(Decided<T>,)>) -> u64 {
    let new_bytes = match decided {
        Ok((Ok((_, Some(new_body))),)) => new_body.len(),
        _ => 0,
    };
    (body.len() + new_bytes) as u64
}

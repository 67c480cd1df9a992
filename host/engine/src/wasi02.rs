//! The standard road of WASI 0.2, `wasi:http/incoming-handler`: the guest sets the answer's head when it likes and
//! may go on writing the body, and working, after that.

use crate::{Fault, Instance, body::RequestBody, streaming::HeadSender};
use http::Request;
use wasmtime_wasi_http::{WasiHttpView, p2::bindings::http::types::Scheme};

/// The guest's whole call, from the request to the end of its work.
pub(crate) async fn call(
    instance: &mut Instance,
    request: Request<RequestBody>,
    sender: HeadSender,
) -> wasmtime::Result<()> {
    let Instance { store, ready, component, program, .. } = instance;
    if ready.wasi02.is_none()
        && let Some(indices) = &program.exports().wasi02
    {
        ready.wasi02 = Some(indices.load(&mut *store, component)?);
    }
    let proxy =
        ready.wasi02.as_ref().ok_or_else(|| wasmtime::format_err!("wasi:http/incoming-handler is not exported"))?;
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam_from_callback(move |head| {
        sender.send(head.map_err(|code| Fault::Failed { message: format!("its handler reported {code:?}") }));
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

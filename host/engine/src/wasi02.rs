//! Calls a guest over WASI 0.2, `wasi:http/incoming-handler`: the guest may set the response's head
//! at any time, and may continue to write the body and to work afterwards. Never reads a response's
//! body.

use crate::{
    body::RequestBody,
    fault::Fault,
    head_sender::HeadSender,
    instance::Instance,
    wasi_http::{RequestHooks, for_request},
};
use http::{Method, Request, uri};
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::bindings::http::types::{ErrorCode, Scheme},
};

/// Runs the guest's whole call, from the request to the end of its work.
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
    let scheme = if request.uri().scheme() == Some(&uri::Scheme::HTTPS) { Scheme::Https } else { Scheme::Http };
    store.data_mut().is_head_request = request.method() == Method::HEAD;
    let request = for_request(store.data_mut(), &mut RequestHooks).new_incoming_request(scheme, request)?;
    let out = store.data_mut().http().new_response_outparam_from_callback(move |head| {
        sender.send(head.map_err(fault));
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

/// Returns the fault of a call without a response. A guest reports an invalid response as a
/// protocol error.
fn fault(code: ErrorCode) -> Fault {
    match code {
        ErrorCode::HttpProtocolError => {
            Fault::InvalidResponse { detail: "its handler returned an invalid response".to_owned() }
        }
        // The SDK passes the text of a handler's error in this way.
        ErrorCode::InternalError(Some(message)) => Fault::Failed { message },
        code => Fault::Failed { message: format!("its handler reported {code:?}") },
    }
}

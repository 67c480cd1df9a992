//! Calls a guest over WASI 0.3, `wasi:http/handler`: the guest returns the response, and may
//! continue to write its body and to work in other tasks. Never reads a response's body.

use crate::{
    body::RequestBody,
    fault::Fault,
    head::has_no_content,
    head_sender::HeadSender,
    instance::Instance,
    state::HostState,
    wasi_http::{RequestHooks, for_request, take_length},
};
use http::{Method, Request, Response, header::CONTENT_LENGTH};
use std::future::poll_fn;
use wasmtime::component::{Access, Accessor};
use wasmtime_wasi_http::{Error, WasiBody, p3, p3::bindings::http::types::ErrorCode};

/// Runs the guest's whole call, from the request to the end of its work.
pub(crate) async fn call(
    instance: &mut Instance,
    request: Request<RequestBody>,
    sender: HeadSender,
) -> wasmtime::Result<()> {
    let Instance { store, ready, component, program, .. } = instance;
    if ready.wasi03.is_none()
        && let Some(indices) = &program.exports().wasi03
    {
        ready.wasi03 = Some(indices.load(&mut *store, component)?);
    }
    let service = ready.wasi03.as_ref().ok_or_else(|| wasmtime::format_err!("wasi:http/handler is not exported"))?;
    let method = request.method().clone();
    let mut hooks = RequestHooks;
    let http = for_request(store.data_mut(), &mut hooks);
    let (request, sent) = p3::Request::from_http(http.hooks, request);
    let request = http.table.push(request)?;
    store
        .run_concurrent(async |accessor: &Accessor<HostState>| {
            let head = match service.wasi_http_handler().call_handle(accessor, request).await? {
                Ok(response) => Ok(accessor.with(|mut access| {
                    let response = access.get().table.delete(response)?;
                    head(response, &method, access, sent)
                })?),
                Err(code) => Err(fault(code)),
            };
            sender.send(head);
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::error::Ok(())
        })
        .await?
}

/// Returns a response's head and its body. Only a body that is sent must have the length in the
/// head.
fn head(
    mut response: p3::Response,
    method: &Method,
    access: Access<'_, HostState>,
    sent: impl Future<Output = Result<(), Error>> + Send + 'static,
) -> wasmtime::Result<Response<WasiBody>> {
    let length = has_no_content(method, response.status).then(|| take_length(&mut response.headers)).flatten();
    let mut response = response.into_http(access, sent)?;
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
    Ok(response)
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

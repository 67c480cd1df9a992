//! The standard road of WASI 0.3, `wasi:http/handler`: the guest returns the answer and may go on writing its body,
//! and working, in tasks of its own.

use crate::{Fault, Instance, body::RequestBody, state::HostState, streaming::HeadSender};
use http::Request;
use std::future::poll_fn;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::{WasiHttpView, p3};

/// The guest's whole call, from the request to the end of its work.
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
    let http = store.data_mut().http();
    let (request, sent) = p3::Request::from_http(http.hooks, request);
    let request = http.table.push(request)?;
    store
        .run_concurrent(async |accessor: &Accessor<HostState>| {
            let head = match service.wasi_http_handler().call_handle(accessor, request).await? {
                Ok(response) => Ok(accessor.with(|mut access| {
                    let response = access.get().table.delete(response)?;
                    response.into_http(access, sent)
                })?),
                Err(code) => Err(Fault::Failed { message: format!("its handler reported {code:?}") }),
            };
            sender.send(head);
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::error::Ok(())
        })
        .await?
}

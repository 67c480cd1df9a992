//! The standard road of WASI 0.2, `wasi:http/incoming-handler`: the guest sets the answer's head when it likes and
//! may go on writing the body, and working, after that.

use crate::{
    Answer, Fault, Instance,
    body::{Link, RequestBody},
    streaming::{self, Head, Work},
};
use http::Request;
use std::sync::Arc;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{WasiHttpView, p2::bindings::http::types::Scheme};

pub(crate) async fn answer(mut instance: Instance, request: Request<RequestBody>, request_id: &str) -> Answer {
    instance.begin(request_id);
    let limits = instance.program.sandbox().limits.clone();
    let (sender, head) = oneshot::channel();
    let link = Arc::new(Link::default());
    let work = work(instance, request, sender, Arc::clone(&link));
    streaming::answer(work, head, link, &limits).await
}

/// The guest's whole call, from the request to its return.
fn work(mut instance: Instance, request: Request<RequestBody>, sender: oneshot::Sender<Head>, link: Arc<Link>) -> Work {
    Box::pin(async move {
        match call(&mut instance, request, sender).await {
            Ok(()) => Ok(instance.finished()),
            Err(error) => {
                link.fail();
                Err(instance.fault(&error))
            }
        }
    })
}

async fn call(
    instance: &mut Instance,
    request: Request<RequestBody>,
    sender: oneshot::Sender<Head>,
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
        // A receiver that is gone has no use for the head, and the guest learns of it when it writes the body.
        let _ = sender.send(head.map_err(|code| Fault::Failed { message: format!("its handler reported {code:?}") }));
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

//! This host's differences from `wasmtime-wasi-http`: guests see a request's `host` field, and the
//! length of a body that is not sent isn't checked. Never sends a request and never reads a body.

use crate::{
    head::{has_no_content, is_forbidden},
    state::HostState,
};
use http::{HeaderName, Method, Request, Response, header};
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi_http::{
    Error, FieldMap, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::{
        bindings::http::types::HostOutgoingResponse as _,
        body::{HostOutgoingBody, StreamContext},
        types::HostOutgoingResponse,
    },
};

/// The interface version of `wasmtime-wasi-http`; every 0.2 import of a guest is linked to it.
const TYPES: &str = "wasi:http/types@0.2.12";

/// Replaces the functions that differ in the linker.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(TYPES)?.func_wrap(
        "[method]outgoing-response.body",
        |mut store: StoreContextMut<'_, HostState>, (response,): (Resource<HostOutgoingResponse>,)| {
            Ok((body_of(store.data_mut(), response)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Returns the body of a response. Only a body that is sent must have the length in the head.
fn body_of(
    state: &mut HostState,
    response: Resource<HostOutgoingResponse>,
) -> wasmtime::Result<Result<Resource<HostOutgoingBody>, ()>> {
    let method = if state.is_head_request { Method::HEAD } else { Method::GET };
    let mut http = state.http();
    let found = http.table.get_mut(&response)?;
    if found.body.is_some() || !has_no_content(&method, found.status) {
        return http.body(response);
    }
    let (chunks, chunk_bytes) = (http.hooks.p2_outgoing_body_buffer_chunks(), http.hooks.p2_outgoing_body_chunk_size());
    let (writer, body) = HostOutgoingBody::new(StreamContext::Response, None, chunks, chunk_bytes);
    found.body = Some(body);
    Ok(Ok(http.table.push(writer)?))
}

/// Removes `content-length` from a head, so that the length of the body isn't checked.
pub(crate) fn take_length(headers: &mut FieldMap) -> Option<http::HeaderValue> {
    let length = headers.get(header::CONTENT_LENGTH).cloned()?;
    headers.set_mutable(usize::MAX);
    let removed = headers.remove_all(&mut RequestHooks, header::CONTENT_LENGTH.to_string());
    debug_assert!(removed.is_ok(), "the field is there, and it is not forbidden");
    Some(length)
}

/// Returns the HTTP view of a store, used to pass a client's request to its guest.
pub(crate) fn for_request<'a>(state: &'a mut HostState, hooks: &'a mut RequestHooks) -> WasiHttpCtxView<'a> {
    let WasiHttpCtxView { table, ctx, .. } = state.http();
    WasiHttpCtxView { hooks, table, ctx }
}

/// The field rules of a client's request: `host` is visible, although a guest can't set it.
pub(crate) struct RequestHooks;

fn is_hidden(name: &HeaderName) -> bool {
    name != header::HOST && is_forbidden(name)
}

impl WasiHttpHooks for RequestHooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_hidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        std::sync::Arc::new(is_hidden)
    }

    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<
        dyn Future<Output = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>>
            + Send,
    > {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn fields(names: &[&'static str]) -> FieldMap {
        let value = |name: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static("5"));
        FieldMap::new_immutable(&mut RequestHooks, names.iter().map(value).collect::<HeaderMap>())
    }

    #[test]
    fn a_guest_sees_the_host_and_no_field_of_the_connection() {
        let seen = fields(&["host", "connection", "upgrade", "x-a"]);
        let mut names: Vec<_> = seen.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "x-a"]);
    }

    #[test]
    fn a_length_is_removed_from_a_head() {
        let mut headers = fields(&["content-length", "x-a"]);
        assert_eq!(take_length(&mut headers), Some(HeaderValue::from_static("5")));
        assert_eq!((headers.len(), take_length(&mut headers)), (1, None));
    }
}

//! A middleware over `wasi:http` 0.3: sets a header of each request and passes it to the handler
//! that it imports. The benchmarks compose it with an app. It never reads a body.

wit_bindgen::generate!({ path: "wit", world: "middleware", generate_all });

use exports::wasi::http::handler::Guest;
use wasi::http::handler;
use wasi::http::types::{ErrorCode, Request, Response};

struct Middleware;

export!(Middleware);

/// The benchmarks replace the digit, so that each middleware of a composition sets another header.
const HEADER: &str = "x-middleware-0";

impl Guest for Middleware {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        // The headers of a received request are immutable, so the handler gets a new request.
        let headers = request.get_headers().clone();
        headers.set(HEADER, &[b"1".to_vec()]).expect("this header is well-formed");
        let (method, scheme) = (request.get_method(), request.get_scheme());
        let (authority, path) = (request.get_authority(), request.get_path_with_query());
        // The dropped end of the future reports success.
        let (_, received) = wit_future::new(|| Ok(()));
        let (body, trailers) = Request::consume_body(request, received);
        let (changed, _sent) = Request::new(headers, Some(body), trailers, None);
        changed
            .set_method(&method)
            .and_then(|()| changed.set_scheme(scheme.as_ref()))
            .and_then(|()| changed.set_authority(authority.as_deref()))
            .and_then(|()| changed.set_path_with_query(path.as_deref()))
            .expect("the parts of a received request are valid");
        handler::handle(changed).await
    }
}

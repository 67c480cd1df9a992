//! A greeting over `wasi:http` 0.2 without the SDK: shows that a standard component runs unchanged,
//! and measures the cost of the standard interface.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
        let headers = Fields::from_list(&[
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
            ("content-length".to_owned(), b"13".to_vec()),
        ]);
        let response = OutgoingResponse::new(headers.expect("these headers are well-formed"));
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(answer, Ok(response));
        let stream = body.write().expect("the stream is taken once");
        stream.blocking_write_and_flush(b"Hello, world!").expect("the client is still there");
        drop(stream);
        OutgoingBody::finish(body, None).expect("the body has its announced length");
    }
}

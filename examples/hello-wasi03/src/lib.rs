//! A greeting over `wasi:http` 0.3 without the SDK: shows that a standard component runs unchanged,
//! and measures the cost of the standard interface.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Hello;

wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let headers = Fields::from_list(&[
            ("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec()),
            ("content-length".to_owned(), b"13".to_vec()),
        ]);
        let (mut body, body_reader) = wit_stream::new();
        let (end, end_reader) = wit_future::new(|| Ok(None));
        drop(end);
        let headers = headers.expect("these headers are well-formed");
        let (response, _sent) = Response::new(headers, Some(body_reader), end_reader);
        wit_bindgen::spawn_local(async move {
            // Ignores unsent bytes: the client has disconnected.
            body.write_all(b"Hello, world!".to_vec()).await;
        });
        Ok(response)
    }
}

//! The outgoing request of `/fetch` over `wasi:http` 0.3. It retries nothing and follows no redirect.

use probe_plan::{Fetch, Fetched};
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

pub(crate) async fn run(fetch: Fetch) -> String {
    Fetched::to_json(exchange(fetch).await.map_err(|code| format!("{code:?}")))
}

async fn exchange(fetch: Fetch) -> Result<Fetched, ErrorCode> {
    let fields = Fields::new();
    for (name, value) in &fetch.headers {
        fields.append(name, value.as_bytes()).expect("the interface permits this header");
    }
    let options = RequestOptions::new();
    let nanoseconds = |time: Option<std::time::Duration>| time.and_then(|time| u64::try_from(time.as_nanos()).ok());
    options.set_connect_timeout(nanoseconds(fetch.connect)).expect("the host has this time-out");
    options.set_first_byte_timeout(nanoseconds(fetch.first_byte)).expect("the host has this time-out");
    options.set_between_bytes_timeout(nanoseconds(fetch.between_bytes)).expect("the host has this time-out");
    let (mut stream, contents) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Ok(None));
    drop(end);
    let contents = (!fetch.body.is_empty()).then_some(contents);
    let (request, _sent) = Request::new(fields, contents, trailers, Some(options));
    let scheme = if fetch.is_https { Scheme::Https } else { Scheme::Http };
    request.set_method(&method(&fetch.method)).expect("a valid method");
    request.set_scheme(Some(&scheme)).expect("a valid scheme");
    request.set_authority(Some(&fetch.authority)).expect("a valid authority");
    request.set_path_with_query(Some(&fetch.path)).expect("a valid path");
    spawn_local(async move {
        stream.write_all(fetch.body).await;
    });
    let response = client::send(request).await?;
    let (status, headers) = (response.get_status_code(), response.get_headers().copy_all());
    let (processed, result) = wit_future::new(|| Ok(()));
    drop(processed);
    let (body, ended) = Response::consume_body(response, result);
    let body = crate::read(body, ended).await;
    Ok(Fetched { status, headers, body })
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        other => Method::Other(other.to_owned()),
    }
}

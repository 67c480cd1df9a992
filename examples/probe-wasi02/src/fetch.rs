//! The outgoing request of `/fetch` over `wasi:http` 0.2. It retries nothing and follows no
//! redirect.

use probe_plan::{End, Fetch, Fetched};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{ErrorCode, Fields, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme};

pub(crate) fn run(fetch: Fetch) -> String {
    Fetched::to_json(exchange(fetch).map_err(|code| format!("{code:?}")))
}

fn exchange(fetch: Fetch) -> Result<Fetched, ErrorCode> {
    let fields = Fields::new();
    for (name, value) in &fetch.headers {
        fields.append(name, value.as_bytes()).expect("the interface permits this header");
    }
    let request = OutgoingRequest::new(fields);
    let scheme = if fetch.is_https { Scheme::Https } else { Scheme::Http };
    request.set_method(&method(&fetch.method)).expect("a valid method");
    request.set_scheme(Some(&scheme)).expect("a valid scheme");
    request.set_authority(Some(&fetch.authority)).expect("a valid authority");
    request.set_path_with_query(Some(&fetch.path)).expect("a valid path");
    let options = RequestOptions::new();
    let nanoseconds = |time: Option<std::time::Duration>| time.and_then(|time| u64::try_from(time.as_nanos()).ok());
    options.set_connect_timeout(nanoseconds(fetch.connect)).expect("the host has this time-out");
    options.set_first_byte_timeout(nanoseconds(fetch.first_byte)).expect("the host has this time-out");
    options.set_between_bytes_timeout(nanoseconds(fetch.between_bytes)).expect("the host has this time-out");
    let body = request.body().expect("the body has not been taken before");
    let response = handle(request, Some(options))?;
    if !fetch.body.is_empty() {
        let stream = body.write().expect("the stream has not been taken before");
        let _ = crate::write(&stream, &fetch.body);
    }
    let open = match fetch.end {
        End::Finish => {
            OutgoingBody::finish(body, None)?;
            None
        }
        _ => Some(body),
    };
    response.subscribe().block();
    if fetch.end == End::Abandon {
        drop(open);
    } else {
        std::mem::forget(open);
    }
    let response = response.get().expect("it is ready").expect("it has not been taken before")?;
    let (status, headers) = (response.status(), response.headers().entries());
    let body = crate::drain(response.consume().expect("the body has not been taken before"));
    Ok(Fetched { status, headers, body, sent: None })
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

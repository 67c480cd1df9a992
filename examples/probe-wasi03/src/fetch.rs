//! The outgoing request of `/fetch` over `wasi:http` 0.3. It retries nothing and follows no
//! redirect.

use crate::Writers;
use futures_channel::oneshot;
use probe_plan::{End, Fetch, Fetched};
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
    let (stream, contents) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Ok(None));
    let contents = (!fetch.body.is_empty()).then_some(contents);
    let (request, sent) = Request::new(fields, contents, trailers, Some(options));
    let scheme = if fetch.is_https { Scheme::Https } else { Scheme::Http };
    request.set_method(&method(&fetch.method)).expect("a valid method");
    request.set_scheme(Some(&scheme)).expect("a valid scheme");
    request.set_authority(Some(&fetch.authority)).expect("a valid authority");
    request.set_path_with_query(Some(&fetch.path)).expect("a valid path");
    let (answered, is_answered) = oneshot::channel();
    spawn_local(write(Writers { stream, end }, fetch.body, fetch.trailers, fetch.end, is_answered));
    let response = client::send(request).await?;
    let _ = answered.send(());
    let (status, headers) = (response.get_status_code(), response.get_headers().copy_all());
    let (processed, result) = wit_future::new(|| Ok(()));
    drop(processed);
    let (body, ended) = Response::consume_body(response, result);
    let body = crate::read(body, ended).await;
    let sent = match fetch.shows_sent {
        true => Some(sent.await.map_or_else(|code| format!("{code:?}"), |()| "whole".to_owned())),
        false => None,
    };
    Ok(Fetched { status, headers, body, sent })
}

/// Writes the request's body. An abandoned body ends with an error after the response's head.
async fn write(
    mut writers: Writers,
    body: Vec<u8>,
    fields: Vec<(String, String)>,
    end: End,
    is_answered: oneshot::Receiver<()>,
) {
    writers.stream.write_all(body).await;
    match end {
        End::Abandon => {
            let _ = is_answered.await;
            crate::finish(writers, Err(ErrorCode::InternalError(Some("abandoned".to_owned())))).await;
        }
        End::Leak | End::Hang => std::mem::forget(writers),
        End::Finish | End::Trap => crate::finish(writers, Ok(crate::trailers(&fields))).await,
    }
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

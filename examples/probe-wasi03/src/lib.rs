//! A component of `wasi:http` 0.3 without the SDK: responds as the query asks, and returns the
//! request that it received. The paths and parameters are those of `probe_plan`. It decides nothing
//! itself.

mod fetch;

use probe_plan::{End, Plan, Received, Shown, Target};
use std::time::Duration;
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme, Trailers};
use wasip3::wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter, spawn_local};
use wasip3::{wit_future, wit_stream};

struct Probe;

wasip3::http::service::export!(Probe);

/// How a body ended.
type Ended = Result<Option<Trailers>, ErrorCode>;

impl Guest for Probe {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query();
        let target = Target::parse(path.as_deref().unwrap_or_default());
        match target.path() {
            "/respond" | "/early" => Ok(respond(request, target.plan()).await),
            "/once" => {
                let mut plan = target.plan();
                plan.chunks = 1;
                Ok(respond(request, plan).await)
            }
            "/echo" => Ok(echo(request, target.plan().pause)),
            "/pass" => Ok(pass(request)),
            "/error" => Err(ErrorCode::InternalError(Some("the probe was asked to fail".to_owned()))),
            "/nothing" => panic!("the probe was asked not to answer"),
            "/hold" => Ok(hold(request).await),
            "/hang" => Ok(wait_forever().await),
            "/fetch" => Ok(say(fetch::run(target.fetch()).await)),
            _ => Ok(show(request, path).await),
        }
    }
}

/// The guest's ends of a body.
struct Writers {
    stream: StreamWriter<u8>,
    end: FutureWriter<Ended>,
}

/// A response, and the ends of its body to write to.
fn begin(status: u16, headers: &[(String, String)]) -> (Response, Writers) {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).expect("the interface permits this header");
    }
    let (stream, contents) = wit_stream::new();
    let (end, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(fields, Some(contents), trailers);
    if response.set_status_code(status).is_err() {
        response.set_status_code(555).expect("555 is a status code");
    }
    (response, Writers { stream, end })
}

async fn respond(request: Request, plan: Plan) -> Response {
    if plan.reads_first {
        drain(request).await;
    }
    let (response, mut writers) = begin(plan.status, &plan.headers);
    spawn_local(async move {
        for number in 0..plan.chunks {
            if number > 0 && !plan.pause.is_zero() {
                wait_for(u64::try_from(plan.pause.as_nanos()).unwrap_or(u64::MAX)).await;
            }
            if !plan.chunk.is_empty() && !writers.stream.write_all(plan.chunk.clone()).await.is_empty() {
                break;
            }
        }
        match plan.end {
            End::Finish => finish(writers, Ok(trailers(&plan.trailers))).await,
            End::Abandon => finish(writers, Err(ErrorCode::InternalError(None))).await,
            End::Leak => std::mem::forget(writers),
            End::Trap => panic!("the probe was asked to trap"),
            End::Hang => wait_forever().await,
        }
    });
    response
}

/// Ends the body, ignoring errors: the client may have disconnected.
async fn finish(writers: Writers, ended: Ended) {
    drop(writers.stream);
    let _ = writers.end.write(ended).await;
}

fn trailers(pairs: &[(String, String)]) -> Option<Trailers> {
    let fields = (!pairs.is_empty()).then(Fields::new)?;
    for (name, value) in pairs {
        fields.append(name, value.as_bytes()).expect("the interface permits this trailer");
    }
    Some(fields)
}

fn echo(request: Request, pause: Duration) -> Response {
    let (response, mut writers) = begin(200, &[]);
    let (mut body, ended) = consume(request);
    spawn_local(async move {
        if !pause.is_zero() {
            wait_for(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)).await;
        }
        loop {
            let (result, part) = body.read(Vec::with_capacity(64 * 1024)).await;
            if !writers.stream.write_all(part).await.is_empty() || !matches!(result, StreamResult::Complete(_)) {
                break;
            }
        }
        finish(writers, ended.await).await;
    });
    response
}

/// Responds with the request's body itself, so that the guest has returned before the body comes.
fn pass(request: Request) -> Response {
    let (body, ended) = consume(request);
    Response::new(Fields::new(), Some(body), ended).0
}

async fn show(request: Request, path: Option<String>) -> Response {
    let headers = request.get_headers().copy_all();
    let method = match request.get_method() {
        Method::Other(name) => name,
        method => format!("{method:?}").trim_start_matches("Method::").to_uppercase(),
    };
    let scheme = request.get_scheme().map(|scheme| match scheme {
        Scheme::Http => "http".to_owned(),
        Scheme::Https => "https".to_owned(),
        Scheme::Other(name) => name,
    });
    let authority = request.get_authority();
    let body = drain(request).await;
    say(Shown { method, scheme, authority, path, headers, body }.to_json())
}

fn say(json: String) -> Response {
    let (response, mut writers) = begin(200, &[("content-type".to_owned(), "application/json".to_owned())]);
    spawn_local(async move {
        writers.stream.write_all(json.into_bytes()).await;
        finish(writers, Ok(None)).await;
    });
    response
}

fn consume(request: Request) -> (StreamReader<u8>, FutureReader<Ended>) {
    let (processed, result) = wit_future::new(|| Ok(()));
    drop(processed);
    Request::consume_body(request, result)
}

/// Holds the whole body in memory.
async fn hold(request: Request) -> Response {
    let (body, _ended) = consume(request);
    say(body.collect().await.len().to_string())
}

async fn drain(request: Request) -> Received {
    let (body, ended) = consume(request);
    read(body, ended).await
}

async fn read(mut body: StreamReader<u8>, ended: FutureReader<Ended>) -> Received {
    let mut bytes = 0;
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let (result, part) = body.read(buffer).await;
        bytes += part.len() as u64;
        if !matches!(result, StreamResult::Complete(_)) {
            break;
        }
        buffer = part;
        buffer.clear();
    }
    drop(body);
    let (end, trailers) = match ended.await {
        Ok(trailers) => ("whole".to_owned(), trailers.map(|fields| fields.copy_all()).unwrap_or_default()),
        Err(code) => (format!("{code:?}"), Vec::new()),
    };
    Received { bytes, end, trailers }
}

async fn wait_forever<T>() -> T {
    loop {
        wait_for(u64::MAX).await;
    }
}

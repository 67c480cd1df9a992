//! A component of `wasi:http` 0.2 without the SDK: responds as the query asks, and returns the
//! request that it received. The paths and parameters are those of `probe_plan`. It decides nothing
//! itself.

mod fetch;

use probe_plan::{End, Plan, Received, Shown, Target};
use std::time::Duration;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    ErrorCode, Fields, FutureTrailers, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

struct Probe;

wasip2::http::proxy::export!(Probe);

impl Guest for Probe {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let path = request.path_with_query();
        let target = Target::parse(path.as_deref().unwrap_or_default());
        match target.path() {
            "/respond" | "/early" => respond(&request, answer, target.plan()),
            "/once" => once(answer, target.plan()),
            "/echo" => echo(&request, answer, target.plan().pause),
            "/error" => {
                let code = ErrorCode::InternalError(Some("the probe was asked to fail".to_owned()));
                ResponseOutparam::set(answer, Err(code));
            }
            "/nothing" => {}
            "/hold" => hold(&request, answer),
            "/hang" => wait_forever(),
            "/fetch" => say(answer, &fetch::run(target.fetch())),
            _ => show(&request, answer, path),
        }
    }
}

/// Sets a response and returns its body.
fn begin(answer: ResponseOutparam, status: u16, headers: &[(String, String)]) -> OutgoingBody {
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(name, value.as_bytes()).expect("the interface permits this header");
    }
    let response = OutgoingResponse::new(fields);
    if response.set_status_code(status).is_err() {
        response.set_status_code(555).expect("555 is a status code");
    }
    let body = response.body().expect("the body has not been taken before");
    ResponseOutparam::set(answer, Ok(response));
    body
}

fn respond(request: &IncomingRequest, answer: ResponseOutparam, plan: Plan) {
    if plan.reads_first {
        read_body(request);
    }
    let body = begin(answer, plan.status, &plan.headers);
    let stream = body.write().expect("the stream has not been taken before");
    for number in 0..plan.chunks {
        if number > 0 && !plan.pause.is_zero() {
            subscribe_duration(u64::try_from(plan.pause.as_nanos()).unwrap_or(u64::MAX)).block();
        }
        if !plan.chunk.is_empty() && write(&stream, &plan.chunk).is_err() {
            break;
        }
    }
    match plan.end {
        End::Finish => finish(body, stream, &plan.trailers),
        End::Abandon => drop((stream, body)),
        End::Leak => std::mem::forget((stream, body)),
        End::Trap => panic!("the probe was asked to trap"),
        End::Hang => wait_forever(),
    }
}

fn finish(body: OutgoingBody, stream: OutputStream, trailers: &[(String, String)]) {
    drop(stream);
    let fields = (!trailers.is_empty()).then(Fields::new);
    for (name, value) in trailers {
        let fields = fields.as_ref().expect("there are trailers");
        fields.append(name, value.as_bytes()).expect("the interface permits this trailer");
    }
    if let Err(error) = OutgoingBody::finish(body, fields) {
        eprintln!("finishing the body: {error}");
    }
}

/// Writes, and waits until the host has taken everything.
fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    fill(stream, bytes)?;
    stream.blocking_flush()
}

/// Writes as much at a time as the stream has room for; the last piece may still be on its way.
fn fill(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        match now.is_empty() {
            true => stream.subscribe().block(),
            false => stream.write(now)?,
        }
        bytes = later;
    }
    Ok(())
}

/// Ends the body without waiting until the last piece is sent.
fn once(answer: ResponseOutparam, plan: Plan) {
    let body = begin(answer, plan.status, &plan.headers);
    let stream = body.write().expect("the stream has not been taken before");
    if fill(&stream, &plan.chunk).is_ok() {
        finish(body, stream, &plan.trailers);
    }
}

fn echo(request: &IncomingRequest, answer: ResponseOutparam, pause: Duration) {
    let body = begin(answer, 200, &[]);
    if !pause.is_zero() {
        subscribe_duration(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)).block();
    }
    let stream = body.write().expect("the stream has not been taken before");
    let incoming = request.consume().expect("the body has not been taken before");
    let reader = incoming.stream().expect("the stream has not been taken before");
    while let Ok(part) = reader.blocking_read(64 * 1024) {
        if write(&stream, &part).is_err() {
            break;
        }
    }
    finish(body, stream, &[]);
}

fn show(request: &IncomingRequest, answer: ResponseOutparam, path: Option<String>) {
    let shown = Shown {
        method: match request.method() {
            Method::Other(name) => name,
            method => format!("{method:?}").trim_start_matches("Method::").to_uppercase(),
        },
        scheme: request.scheme().map(|scheme| match scheme {
            Scheme::Http => "http".to_owned(),
            Scheme::Https => "https".to_owned(),
            Scheme::Other(name) => name,
        }),
        authority: request.authority(),
        path,
        headers: request.headers().entries(),
        body: read_body(request),
    };
    say(answer, &shown.to_json());
}

fn say(answer: ResponseOutparam, json: &str) {
    let body = begin(answer, 200, &[("content-type".to_owned(), "application/json".to_owned())]);
    let stream = body.write().expect("the stream has not been taken before");
    if write(&stream, json.as_bytes()).is_ok() {
        finish(body, stream, &[]);
    }
}

fn read_body(request: &IncomingRequest) -> Received {
    drain(request.consume().expect("the body has not been taken before"))
}

/// Holds the whole body in memory.
fn hold(request: &IncomingRequest, answer: ResponseOutparam) {
    let mut held = Vec::new();
    read_each(request.consume().expect("the body has not been taken before"), |part| held.extend_from_slice(part));
    say(answer, &held.len().to_string());
}

fn drain(body: IncomingBody) -> Received {
    read_each(body, |_| ())
}

fn read_each(body: IncomingBody, mut each: impl FnMut(&[u8])) -> Received {
    let stream = body.stream().expect("the stream has not been taken before");
    let mut bytes = 0;
    let end = loop {
        match stream.blocking_read(64 * 1024) {
            Ok(part) => {
                bytes += part.len() as u64;
                each(&part);
            }
            Err(StreamError::Closed) => break "whole".to_owned(),
            Err(StreamError::LastOperationFailed(error)) => break error.to_debug_string(),
        }
    };
    drop(stream);
    let trailers: FutureTrailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    let trailers = match trailers.get() {
        Some(Ok(Ok(Some(fields)))) => fields.entries(),
        _ => Vec::new(),
    };
    Received { bytes, end, trailers }
}

fn wait_forever() {
    loop {
        subscribe_duration(u64::MAX).block();
    }
}

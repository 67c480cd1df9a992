//! The probe for Isopod's flat interface: responds as the query asks, and returns the request that
//! it received. The paths and parameters are those of `probe_plan`, without pauses, trailers and
//! the ends of a body, which this interface doesn't have.

use isopod_sdk::prelude::*;
use probe_plan::{Received, Shown, Target};

isopod_sdk::http!(answer);

async fn answer(request: Request) -> Result<Response> {
    let path = match request.query() {
        "" => request.path().to_owned(),
        query => format!("{}?{query}", request.path()),
    };
    let target = Target::parse(&path);
    match target.path() {
        "/respond" | "/early" => Ok(respond(&target)),
        "/error" => Err(Error::msg("the probe was asked to fail")),
        "/panic" => panic!("the probe was asked to panic"),
        _ => Ok(show(&request, path)),
    }
}

fn respond(target: &Target) -> Response {
    let plan = target.plan();
    let mut response = Response::new(plan.status);
    for (name, value) in plan.headers {
        response.headers.append(name, value);
    }
    let times = usize::try_from(plan.chunks).unwrap_or_default();
    response.with_body(plan.chunk.repeat(times))
}

fn show(request: &Request, path: String) -> Response {
    let shown = Shown {
        method: request.method.to_string(),
        scheme: Some(request.scheme().to_owned()),
        authority: Some(request.authority().to_owned()),
        path: Some(path),
        headers: request.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        body: Received { bytes: request.bytes().len() as u64, end: "whole".to_owned(), trailers: Vec::new() },
    };
    Response::with_type("application/json", shown.to_json())
}

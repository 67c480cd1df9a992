//! An app that makes the host hold memory, or do work in one call; the path selects the act and its
//! size. Takes whole bodies, through the SDK's `http!`.

mod acts;

use isopod_sdk::prelude::*;
use std::cell::RefCell;

isopod_sdk::http!(app);

thread_local! {
    /// Memory that the instance keeps between requests.
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

async fn app(request: Request) -> Result<Response> {
    let number = |name: &str, default: usize| -> Result<usize> {
        request.query_param(name).map_or(Ok(default), |value| Ok(value.parse()?))
    };
    let (count, bytes) = (number("count", 1)?, number("bytes", 1)?);
    let body = request.body.as_bytes().unwrap_or_default();
    let said = match request.path() {
        "/" => "well".to_owned(),
        "/get-many" => acts::get_many(count, bytes),
        "/open" => acts::open(count, bytes),
        "/fields" => acts::fields(count, bytes),
        // Holds guest memory and host memory in one call.
        "/keep-with-fields" => {
            let keep = number("keep", 0)?;
            KEPT.with_borrow_mut(|kept| kept.push(vec![1; keep]));
            acts::held_fields(count, bytes)
        }
        "/bodies" => acts::bodies(count),
        "/targets" => acts::targets(count, bytes),
        "/random" => acts::random(bytes as u64),
        "/write" => acts::write(bytes),
        "/lines" => acts::lines(count),
        "/leak" => acts::leak(count),
        "/keep" => {
            KEPT.with_borrow_mut(|kept| kept.push(vec![1; bytes]));
            "kept".to_owned()
        }
        "/length" => body.len().to_string(),
        // Uses several times the memory of the body.
        "/copies" => vec![body; count].concat().len().to_string(),
        _ => return Ok(Response::text("the hoarder knows no such act").with_status(404)),
    };
    Ok(Response::text(said))
}

//! The health check, with the result that the config var HEALTH names.

use isopod_sdk::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The number of checks of this instance.
static CHECKS: AtomicU32 = AtomicU32::new(0);

pub async fn check() -> Result<Response> {
    let call = CHECKS.fetch_add(1, Ordering::Relaxed) + 1;
    let status = match config::get("HEALTH").as_deref() {
        Some("fails") => 500,
        Some("redirects") => return Ok(Response::see_other("/")),
        Some("hangs") => {
            sleep(Duration::MAX).await;
            504
        }
        Some("fails-every-third") if call.is_multiple_of(3) => 500,
        Some("late") if call < 3 => 503,
        _ => 200,
    };
    println!("check {call}: {status}");
    Ok(Response::text("as it was asked to be").with_status(status))
}

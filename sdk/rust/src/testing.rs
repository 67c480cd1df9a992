//! Tests handlers with plain `cargo test`: a simulated host in memory for each test, and a clock
//! that only the test advances. Never starts a server.
//!
//! ```
//! use isopod_sdk::prelude::*;
//! use isopod_sdk::testing::{TestHost, block_on};
//!
//! async fn weather(_: Request) -> Result<Response> {
//!     let answer = fetch(Request::get("https://weather.example/delft")).await?;
//!     Ok(Response::text(format!("{} {}", config::require("GREETING")?, answer.body_text()?)))
//! }
//!
//! let host = TestHost::new();
//! host.set_config("GREETING", "Today:");
//! host.on_fetch(|request| {
//!     assert_eq!(request.authority(), "weather.example");
//!     Ok(Response::text("sunny"))
//! });
//! let answer = block_on(weather(Request::get("/"))).unwrap();
//! assert_eq!(answer.body_text().unwrap(), "Today: sunny");
//! ```

mod deliveries;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use crate::http::{IncomingBody, Request, Response};
pub use crate::logging::Level;
use crate::native::{self, World};
pub use crate::native::{DeadLetter, LogLine};
use crate::{Result, logging};
pub use deliveries::Delivery;

/// The simulated host of one test. It belongs to the test's thread; creating another resets the
/// state.
pub struct TestHost(());

impl TestHost {
    /// Creates an empty host: no keys, no config vars, no logs, and the clock at the start of 2026.
    #[allow(clippy::new_without_default, reason = "it resets the thread's state, which a default should not")]
    pub fn new() -> Self {
        logging::install();
        native::with(|world| *world = World::new());
        Self(())
    }

    /// Sets a config var.
    pub fn set_config(&self, name: &str, value: &str) {
        native::with(|world| world.config.insert(name.to_owned(), value.to_owned()));
    }

    /// Grants or revokes key-value storage.
    pub fn grant_keyvalue(&self, granted: bool) {
        native::with(|world| world.keyvalue_granted = granted);
    }

    /// Defines the responses to the requests of handlers.
    pub fn on_fetch(&self, answer: impl Fn(Request) -> Result<Response> + 'static) {
        native::with(|world| world.server = Some(std::rc::Rc::new(answer)));
    }

    /// Adds an asset of the app whose requests a middleware receives.
    pub fn add_asset(&self, path: &str, content: impl Into<Vec<u8>>) {
        native::with(|world| world.assets.insert(path.to_owned(), content.into()));
    }

    /// Returns the log records so far.
    pub fn logs(&self) -> Vec<LogLine> {
        native::with(|world| world.logs.clone())
    }

    /// Returns the simulated time.
    pub fn now(&self) -> SystemTime {
        native::now()
    }

    /// Advances the clock.
    pub fn advance(&self, duration: Duration) {
        native::with(|world| world.now += duration);
    }
}

/// Creates a body of several chunks, for handlers of [`http_streaming!`](crate::http_streaming).
pub fn body_of<P: Into<Vec<u8>>>(pieces: impl IntoIterator<Item = P>) -> IncomingBody {
    IncomingBody(native::BodySource::of_pieces(pieces.into_iter().map(Into::into)))
}

/// Returns a response with its whole body as bytes, even if the handler writes it while it is sent.
pub fn collect(answer: Response) -> Result<Response> {
    let Response { status, headers, body } = answer;
    let body = match body.0 {
        crate::http::Kind::Whole(bytes) => bytes.into(),
        crate::http::Kind::Produced(producer) => block_on(crate::http::collect(producer))?.into(),
    };
    Ok(Response { status, headers, body })
}

/// Returns the client's view of a request: the handler's response, or the response to its error.
///
/// ```
/// use isopod_sdk::prelude::*;
/// use isopod_sdk::testing::answer;
///
/// async fn strict(request: Request) -> Result<Response> {
///     request.json::<u8>().map(|age| Response::text(age.to_string()))
/// }
///
/// assert_eq!(answer(strict(Request::post("/").with_body("no"))).status, 400);
/// ```
pub fn answer(handling: impl Future<Output = Result<Response>>) -> Response {
    block_on(handling).and_then(collect).unwrap_or_else(|error| Response::from_error(&error))
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a handler to its end. Whenever the handler waits for a timer, the clock advances to that
/// timer.
///
/// If the handler waits for an event that cannot occur.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let woken = flag.0.swap(false, Ordering::Relaxed);
        assert!(woken || native::advance_to_next_timer(), "deadlock: the handler waits for an event that cannot occur");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn sleeping_advances_the_simulated_clock() {
        let host = TestHost::new();
        let before = host.now();
        block_on(async {
            sleep(Duration::from_secs(3600)).await;
            sleep(Duration::from_secs(60)).await;
        });
        assert_eq!(host.now().duration_since(before).unwrap(), Duration::from_secs(3660));
    }

    #[test]
    fn keys_are_listed_page_by_page() {
        TestHost::new();
        let bucket = kv::open("default").unwrap();
        for key in ["a", "b", "c", "d", "e"] {
            bucket.set(key, key).unwrap();
        }
        bucket.delete("c").unwrap();
        let first = bucket.list(None).unwrap();
        assert!(first.cursor.is_some());
        assert_eq!(bucket.keys().unwrap(), ["a", "b", "d", "e"]);
        assert!(!bucket.exists("c").unwrap());
    }

    #[test]
    fn increments_add_up_and_values_can_be_json() {
        TestHost::new();
        let bucket = kv::open("default").unwrap();
        bucket.increment("n", 5).unwrap();
        assert_eq!(bucket.increment("n", -7).unwrap(), -2);
        bucket.set_json("list", &[1, 2]).unwrap();
        assert_eq!(bucket.get_json::<Vec<u8>>("list").unwrap(), Some(vec![1, 2]));
        assert_eq!(bucket.get_json::<Vec<u8>>("none").unwrap(), None);
        let error = bucket.set("text", "x").and_then(|()| bucket.increment("text", 1)).unwrap_err();
        assert!(error.to_string().starts_with("incrementing the key text: "), "{error}");
    }

    #[test]
    fn an_update_that_conflicts_is_retried() {
        TestHost::new();
        let bucket = kv::open("default").unwrap();
        let mut calls = 0;
        let notes = bucket.update_json("notes", |old: Option<Vec<String>>| {
            calls += 1;
            if calls == 1 {
                bucket.set_json("notes", &["of another instance"]).unwrap();
            }
            let mut notes = old.unwrap_or_default();
            notes.push("mine".to_owned());
            notes
        });
        assert_eq!((notes.unwrap(), calls), (vec!["of another instance".to_owned(), "mine".to_owned()], 2));
        let same = bucket.update("text", |old| format!("{}+", String::from_utf8(old.unwrap_or_default()).unwrap()));
        assert_eq!((same.unwrap().as_str(), bucket.get_text("text").unwrap().as_deref()), ("+", Some("+")));
    }

    #[test]
    fn a_failed_change_keeps_the_value() {
        TestHost::new();
        let bucket = kv::open("default").unwrap();
        bucket.set("k", "old").unwrap();
        let refused = bucket.try_update("k", |_| Err::<Vec<u8>, _>(Error::status(409, "not now")));
        assert_eq!((refused.unwrap_err().http_status(), bucket.get("k").unwrap().unwrap()), (409, b"old".to_vec()));
        let error = bucket.update_json("k", |old: Option<u8>| old.unwrap_or(1)).unwrap_err();
        assert!(error.to_string().contains("reading the key k as JSON"), "{error}");
    }

    #[test]
    fn an_update_fails_after_too_many_conflicts() {
        TestHost::new();
        let bucket = kv::open("default").unwrap();
        let mut calls = 0;
        let error = bucket.update("k", |_| {
            calls += 1;
            bucket.increment("k", 1).unwrap();
            "x"
        });
        assert_eq!((error.unwrap_err().http_status(), calls), (503, crate::limits::UPDATE_TRIES_MAX));
    }

    #[test]
    fn storage_without_a_grant_fails_and_names_the_manifest_key() {
        TestHost::new().grant_keyvalue(false);
        let error = kv::open("default").err().unwrap();
        assert!(error.to_string().contains("keyvalue = true"), "{error}");
    }

    #[cfg(feature = "log")]
    #[test]
    fn a_test_can_read_log_records() {
        let host = TestHost::new();
        log::info!(target: "orders", "{} sold", 3);
        log::debug!("not at this level");
        let line = LogLine { level: Level::Info, context: "orders".to_owned(), message: "3 sold".to_owned() };
        assert_eq!(host.logs(), [line]);
    }

    #[cfg(feature = "tracing")]
    #[test]
    fn tracing_events_are_logged() {
        let host = TestHost::new();
        tracing::warn!(target: "orders", left = 2, "running out");
        assert_eq!(host.logs()[0].message, "running out left=2");
    }

    #[test]
    fn a_failed_fetch_names_the_server() {
        TestHost::new();
        let error = block_on(fetch(Request::get("https://a.example/x"))).unwrap_err();
        assert!(error.to_string().starts_with("sending GET https://a.example: "), "{error}");
    }

    #[test]
    fn a_streaming_handler_can_be_tested_with_chunks() {
        async fn shout(mut body: IncomingBody) -> Result<Response> {
            Ok(Response::stream(async move |mut out| {
                while let Some(piece) = body.next().await? {
                    out.write(piece.to_ascii_uppercase()).await?;
                }
                Ok(())
            }))
        }
        let answer = block_on(shout(body_of(["ab", "c"]))).unwrap();
        assert_eq!(collect(answer).unwrap().bytes(), b"ABC");
    }

    #[test]
    fn answer_returns_bodies_of_responses_and_errors() {
        let whole = answer(async { Ok(Response::text("whole")) });
        assert_eq!(whole.bytes(), b"whole");
        let failed = answer(async { Err(Error::status(404, "no such note")) });
        assert_eq!((failed.status, failed.bytes()), (404, b"no such note".as_slice()));
    }

    #[test]
    fn a_body_over_its_limit_is_refused() {
        let error = block_on(body_of(["abc", "def"]).read_to_end(5)).unwrap_err();
        assert_eq!(error.http_status(), 413);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn a_handler_that_waits_forever_panics() {
        TestHost::new();
        block_on(std::future::pending::<()>());
    }
}

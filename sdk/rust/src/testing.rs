//! Testing handlers with plain `cargo test`: a host in memory for each test, and a clock that only tests put forward.
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

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use crate::http::{IncomingBody, Request, Response};
pub use crate::logging::Level;
use crate::native::{self, World};
use crate::{Result, logging};

/// A message that a handler logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// Which part of the app speaks: the `log` crate's target.
    pub context: String,
    /// What it says.
    pub message: String,
}

/// The host of one test. It belongs to the test's thread; making another one starts afresh.
pub struct TestHost(());

impl TestHost {
    /// An empty host: no keys, no config vars, no logs, and the clock at the first moment of 2026.
    #[allow(clippy::new_without_default, reason = "it changes the thread's world, which a default should not")]
    pub fn new() -> Self {
        logging::install();
        native::with(|world| *world = World::new());
        Self(())
    }

    /// Sets a config var.
    pub fn set_config(&self, name: &str, value: &str) {
        native::with(|world| world.config.insert(name.to_owned(), value.to_owned()));
    }

    /// Grants key-value storage, or takes the grant away to see what the handler does then.
    pub fn grant_keyvalue(&self, granted: bool) {
        native::with(|world| world.keyvalue_granted = granted);
    }

    /// Answers what handlers fetch.
    pub fn on_fetch(&self, answer: impl Fn(Request) -> Result<Response> + 'static) {
        native::with(|world| world.server = Some(std::rc::Rc::new(answer)));
    }

    /// What has been logged so far.
    pub fn logs(&self) -> Vec<LogLine> {
        native::with(|world| world.logs.clone())
    }

    /// The time that handlers see.
    pub fn now(&self) -> SystemTime {
        native::now()
    }

    /// Puts the clock forward.
    pub fn advance(&self, duration: Duration) {
        native::with(|world| world.now += duration);
    }
}

/// A body in pieces, for handlers of [`http_streaming!`](crate::http_streaming).
pub fn body_of<P: Into<Vec<u8>>>(pieces: impl IntoIterator<Item = P>) -> IncomingBody {
    IncomingBody(native::BodySource::of_pieces(pieces.into_iter().map(Into::into)))
}

/// An answer with its body as bytes, also where the handler would have written that while it was sent.
pub fn collect(answer: Response) -> Result<Response> {
    let Response { status, headers, body } = answer;
    let body = match body.0 {
        crate::http::Kind::Whole(bytes) => bytes.into(),
        crate::http::Kind::Produced(producer) => block_on(crate::http::collect(producer))?.into(),
    };
    Ok(Response { status, headers, body })
}

/// What the client gets for a request: the handler's answer, or what its error is answered with.
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

/// Runs a handler to its end. Where it waits for the clock, the clock is put forward.
///
/// # Panics
/// Where the handler waits for something that can't happen any more.
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
        assert!(woken || native::advance_to_next_timer(), "the handler waits for something that can't happen any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn sleeping_takes_no_time_and_moves_the_clock() {
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
    fn numbers_add_up_and_values_can_be_json() {
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
    fn a_failed_change_leaves_the_value_as_it_is() {
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
    fn storage_without_a_grant_says_what_the_manifest_needs() {
        TestHost::new().grant_keyvalue(false);
        let error = kv::open("default").err().unwrap();
        assert!(error.to_string().contains("keyvalue = true"), "{error}");
    }

    #[cfg(feature = "log")]
    #[test]
    fn what_is_logged_can_be_read() {
        let host = TestHost::new();
        log::info!(target: "orders", "{} sold", 3);
        log::debug!("not at this level");
        let line = LogLine { level: Level::Info, context: "orders".to_owned(), message: "3 sold".to_owned() };
        assert_eq!(host.logs(), [line]);
    }

    #[cfg(feature = "tracing")]
    #[test]
    fn what_is_traced_is_logged() {
        let host = TestHost::new();
        tracing::warn!(target: "orders", left = 2, "running out");
        assert_eq!(host.logs()[0].message, "running out left=2");
    }

    #[test]
    fn a_fetch_names_whom_it_asked_when_it_fails() {
        TestHost::new();
        let error = block_on(fetch(Request::get("https://a.example/x"))).unwrap_err();
        assert!(error.to_string().starts_with("asking GET https://a.example: "), "{error}");
    }

    #[test]
    fn a_streaming_handler_is_tested_with_pieces() {
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
    fn what_the_client_gets_has_its_body() {
        let whole = answer(async { Ok(Response::text("whole")) });
        assert_eq!(whole.bytes(), b"whole");
        let failed = answer(async { Err(Error::status(404, "no such note")) });
        assert_eq!((failed.status, failed.bytes()), (404, b"no such note".as_slice()));
    }

    #[test]
    fn a_body_past_its_bound_is_refused() {
        let error = block_on(body_of(["abc", "def"]).read_to_end(5)).unwrap_err();
        assert_eq!(error.http_status(), 413);
    }

    #[test]
    #[should_panic(expected = "can't happen")]
    fn waiting_for_nothing_is_found_out() {
        TestHost::new();
        block_on(std::future::pending::<()>());
    }
}

//! The neighbour: a well-behaved app beside a misbehaving app. It receives requests all the time,
//! and none may fail.

use crate::{
    Ask, Bundle, Host, guest,
    limits::{NEIGHBOUR_ANSWERS_AFTER, NEIGHBOUR_PAUSE},
    wait_for,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

/// A client that sends requests to the neighbour's app in a loop.
#[must_use = "only `finish` reports a failed request"]
pub struct Neighbour {
    asking: Arc<Asking>,
    thread: Option<JoinHandle<Option<String>>>,
}

#[derive(Default)]
struct Asking {
    answers: AtomicU64,
    stop: AtomicBool,
}

impl Neighbour {
    /// Deploys the neighbour's app beside the others and starts the requests.
    pub fn beside(host: &Host) -> Self {
        host.deploy("neighbour", Bundle::component(guest("hello")));
        Self::asking(host.listen, "neighbour", |answer| answer == "Hello, world!")
    }

    /// Starts requests to an app; `well` checks each response's text.
    pub fn asking(listen: SocketAddr, app: &str, well: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let asking = Arc::new(Asking::default());
        let shared = Arc::clone(&asking);
        let ask = Ask::get("/").header("host", format!("{app}.localhost"));
        let thread = std::thread::spawn(move || {
            while !shared.stop.load(Ordering::Acquire) {
                match ask.send(listen) {
                    Ok(answer) if answer.status == 200 && well(&answer.text()) => {}
                    Ok(answer) => return Some(answer.to_string()),
                    Err(broken) => return Some(broken.to_string()),
                }
                shared.answers.fetch_add(1, Ordering::Release);
                std::thread::sleep(NEIGHBOUR_PAUSE);
            }
            None
        });
        Self { asking, thread: Some(thread) }
    }

    /// Returns the number of responses so far.
    pub fn answers(&self) -> u64 {
        self.asking.answers.load(Ordering::Acquire)
    }

    /// Waits for some further responses, and stops. Returns the number of responses.
    ///
    /// # Panics
    /// If a request failed.
    #[track_caller]
    pub fn finish(mut self) -> u64 {
        let thread = self.thread.take().expect("`finish` consumes it");
        let enough = self.answers() + NEIGHBOUR_ANSWERS_AFTER;
        wait_for("the neighbour's answers", || (self.answers() >= enough || thread.is_finished()).then_some(()));
        self.asking.stop.store(true, Ordering::Release);
        let failed = thread.join().expect("asking does not panic");
        let answers = self.answers();
        assert_eq!(failed, None, "the neighbour failed after {answers} answers");
        answers
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.asking.stop.store(true, Ordering::Release);
    }
}

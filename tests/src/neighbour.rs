//! The neighbour: a well-behaved app beside the one that misbehaves. It is asked all the time, and may never fail.

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

/// Someone who asks the neighbour's app again and again.
#[must_use = "only `finish` says whether the neighbour was well"]
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
    /// Deploys the neighbour's app beside the others and begins to ask it.
    pub fn beside(host: &Host) -> Self {
        host.deploy("neighbour", Bundle::component(guest("hello")));
        Self::asking(host.listen, "neighbour", |answer| answer == "Hello, world!")
    }

    /// Begins to ask an app; `well` looks at each answer's text.
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

    /// Answers so far.
    pub fn answers(&self) -> u64 {
        self.asking.answers.load(Ordering::Acquire)
    }

    /// Waits until it has answered a few times more, and ends it. Gives the number of answers.
    ///
    /// # Panics
    /// Where one of its requests failed.
    #[track_caller]
    pub fn finish(mut self) -> u64 {
        let thread = self.thread.take().expect("it is finished once");
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

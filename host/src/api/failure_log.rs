//! Logs the API's 5xx responses in the host's own log, at a bounded rate: a client can cause any
//! number of them. Never decides what a response is.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use axum::http::Method;
use isopod_policy::text::line_excerpt;

use crate::{
    api::limits,
    http::problem::{Problem, Source},
};

/// The rate of logged failures.
#[derive(Debug, Default)]
pub(crate) struct FailureLog(Mutex<Option<Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    logged: u32,
}

/// Whether a failure is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Logged,
    /// The last one of this window.
    Last,
    LeftOut,
}

impl FailureLog {
    /// Logs a response with an error of the server.
    pub(super) fn record(&self, method: &Method, path: &str, problem: &Problem, request_id: &str) {
        let verdict = self.verdict(Instant::now());
        if verdict == Verdict::LeftOut {
            return;
        }
        let (status, code, path) = (problem.status.as_u16(), problem.code, line_excerpt(path, SHOWN_BYTES));
        // The text of an app's own error belongs in that app's log only.
        let detail = match problem.source {
            Source::Host => line_excerpt(&problem.detail, SHOWN_BYTES),
            Source::App => String::new(),
        };
        tracing::warn!(%method, path, status, code, detail, request_id, "an API request failed");
        if verdict == Verdict::Last {
            let window_s = limits::FAILURES_LOGGED_WINDOW.as_secs();
            tracing::warn!(window_s, "further failed API requests of this window are not logged");
        }
    }

    fn verdict(&self, now: Instant) -> Verdict {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |window: &Window| now.saturating_duration_since(window.began);
        let window = match &mut *window {
            Some(window) if age(window) < limits::FAILURES_LOGGED_WINDOW => window,
            expired => expired.insert(Window { began: now, logged: 0 }),
        };
        window.logged = window.logged.saturating_add(1);
        match window.logged.cmp(&limits::FAILURES_LOGGED_PER_WINDOW) {
            std::cmp::Ordering::Less => Verdict::Logged,
            std::cmp::Ordering::Equal => Verdict::Last,
            std::cmp::Ordering::Greater => Verdict::LeftOut,
        }
    }
}

/// Bytes of a path and of a detail that a line shows. The rest is cut off.
const SHOWN_BYTES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_beyond_the_rate_are_left_out_until_the_next_window() {
        let (log, start) = (FailureLog::default(), Instant::now());
        let most = limits::FAILURES_LOGGED_PER_WINDOW;
        let verdicts: Vec<Verdict> = (0..most + 5).map(|_| log.verdict(start)).collect();
        let count = |verdict| verdicts.iter().filter(|&&found| found == verdict).count();
        assert_eq!(count(Verdict::Logged), most as usize - 1);
        assert_eq!((count(Verdict::Last), count(Verdict::LeftOut)), (1, 5));
        let later = |part: u32| start + limits::FAILURES_LOGGED_WINDOW * part / 10;
        assert_eq!((log.verdict(later(9)), log.verdict(later(10))), (Verdict::LeftOut, Verdict::Logged));
    }
}

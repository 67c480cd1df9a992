//! Records dead letters in the activity of their apps. Combines those of a minute, so that a flood
//! of them doesn't evict other activity. Never changes a queue.

use std::collections::HashMap;

use isopod_policy::{
    limits::{TEXT_DETAIL_BYTES_SHOWN, TEXT_NAME_BYTES_SHOWN},
    text::line_excerpt,
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::activity_log::ActivityLog;
use crate::control::{events::DeadLetter, limits};

/// The receiver of dead letters.
pub(in crate::control) struct Service {
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) received: mpsc::Receiver<DeadLetter>,
}

/// The apps whose dead letters are combined now, by the app's id.
struct Windows<L>(HashMap<String, Window<L>>);

/// The time in which the dead letters of an app are combined.
struct Window<L> {
    ends_at: Instant,
    unrecorded: u32,
    last: L,
}

impl Service {
    /// Records dead letters until the host shuts down.
    pub(in crate::control) async fn run(mut self) {
        let mut windows = Windows(HashMap::new());
        loop {
            let next_end = windows.next_end();
            let due: Vec<_> = tokio::select! {
                Some(letter) = self.received.recv() => {
                    windows.add(letter.app.id.clone(), letter, Instant::now()).into_iter().collect()
                }
                () = until(next_end) => windows.end(Instant::now()),
            };
            for (count, last) in due {
                self.record(count, last).await;
            }
        }
    }

    async fn record(&self, count: u32, DeadLetter { app, event, error }: DeadLetter) {
        let event = line_excerpt(&event, TEXT_NAME_BYTES_SHOWN);
        let error = line_excerpt(&error, TEXT_DETAIL_BYTES_SHOWN);
        let text = match count {
            1 => format!("the event `{event}` is a dead letter: {error}"),
            _ => format!("{count} further events are dead letters; the last is `{event}`: {error}"),
        };
        let data = json!({ "events": count, "event": event, "error": error });
        self.activity.record(&app, "dead-letters", text, data).await;
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

impl<L: Clone> Windows<L> {
    /// Adds a dead letter of an app. If the app has no open window, opens one, and returns the dead
    /// letter with the count 1, to be recorded immediately. Otherwise, counts it, and keeps only
    /// the last one.
    fn add(&mut self, app: String, letter: L, now: Instant) -> Option<(u32, L)> {
        if let Some(window) = self.0.get_mut(&app) {
            window.unrecorded = window.unrecorded.saturating_add(1);
            window.last = letter;
            return None;
        }
        let ends_at = now + limits::DEAD_LETTERS_COMBINED;
        self.0.insert(app, Window { ends_at, unrecorded: 0, last: letter.clone() });
        Some((1, letter))
    }

    fn next_end(&self) -> Option<Instant> {
        self.0.values().map(|window| window.ends_at).min()
    }

    /// Ends expired windows. If a window has unrecorded dead letters, returns their count and the
    /// last one, and begins the window again.
    fn end(&mut self, now: Instant) -> Vec<(u32, L)> {
        let mut due = Vec::new();
        self.0.retain(|_, window| {
            if window.ends_at > now {
                return true;
            }
            window.ends_at = now + limits::DEAD_LETTERS_COMBINED;
            let count = std::mem::take(&mut window.unrecorded);
            if count > 0 {
                due.push((count, window.last.clone()));
            }
            count > 0
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dead_letter_is_recorded_immediately_and_further_ones_together() {
        let (mut windows, now) = (Windows(HashMap::new()), Instant::now());
        let later = now + limits::DEAD_LETTERS_COMBINED;
        assert_eq!(windows.add("shop".to_owned(), "a", now), Some((1, "a")));
        assert_eq!(windows.add("shop".to_owned(), "b", now), None);
        assert_eq!(windows.add("shop".to_owned(), "c", now), None);
        assert_eq!(windows.add("wiki".to_owned(), "d", later), Some((1, "d")), "apps are separate");
        assert_eq!(windows.next_end(), Some(later));
        assert_eq!(windows.end(later), [(2, "c")]);
        assert_eq!(windows.add("shop".to_owned(), "e", later), None, "the window has begun again");
    }

    #[test]
    fn a_window_without_further_dead_letters_ends() {
        let (mut windows, now) = (Windows(HashMap::new()), Instant::now());
        windows.add("shop".to_owned(), "a", now);
        let later = now + limits::DEAD_LETTERS_COMBINED;
        assert_eq!(windows.end(later), []);
        assert_eq!((windows.next_end(), windows.add("shop".to_owned(), "b", later)), (None, Some((1, "b"))));
    }
}

//! The backtraces that wait for their places in the source, in turns of their apps, so that one
//! app's traps don't delay the search for another's. Never waits, and never uses a clock.

use crate::limits;
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// Jobs of many apps. Each app's are in the order in which they were added.
pub(crate) struct SymbolQueue<T> {
    /// The apps with jobs or with paused searches. The first app is next.
    apps: VecDeque<Waiting<T>>,
}

struct Waiting<T> {
    app: Arc<str>,
    /// The jobs, each with the time at which it was added.
    jobs: VecDeque<(Instant, T)>,
    /// When the app's next search may begin.
    resumes_at: Option<Instant>,
}

impl<T> Waiting<T> {
    fn is_paused(&self, now: Instant) -> bool {
        self.resumes_at.is_some_and(|time| now < time)
    }
}

impl<T> Default for SymbolQueue<T> {
    fn default() -> Self {
        Self { apps: VecDeque::new() }
    }
}

impl<T> SymbolQueue<T> {
    /// Adds a job. Returns it if the queue, or the app's part of it, is full.
    pub(crate) fn add(&mut self, app: &Arc<str>, job: T, now: Instant) -> Result<(), T> {
        if self.apps.iter().map(|of| of.jobs.len()).sum::<usize>() >= limits::SYMBOLS_QUEUE {
            return Err(job);
        }
        let of_app = self.of(app);
        if of_app.jobs.len() >= limits::SYMBOLS_QUEUE_PER_APP {
            return Err(job);
        }
        of_app.jobs.push_back((now, job));
        Ok(())
    }

    /// Takes the next job of an app that isn't paused. The app's next turn is behind those of all
    /// others.
    pub(crate) fn next(&mut self, now: Instant) -> Option<T> {
        self.apps.retain(|of| !of.jobs.is_empty() || of.is_paused(now));
        let turn = self.apps.iter().position(|of| !of.jobs.is_empty() && !of.is_paused(now))?;
        let mut of = self.apps.remove(turn)?;
        let job = of.jobs.pop_front();
        self.apps.push_back(of);
        job.map(|(_, job)| job)
    }

    /// Returns when the next app with a job resumes; `None` without such an app.
    pub(crate) fn resumes_at(&self) -> Option<Instant> {
        self.apps.iter().filter(|of| !of.jobs.is_empty()).filter_map(|of| of.resumes_at).min()
    }

    /// Pauses the searches of an app.
    pub(crate) fn pause(&mut self, app: &Arc<str>, until: Instant) {
        self.of(app).resumes_at = Some(until);
    }

    /// Returns when the oldest job was added.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.apps.iter().filter_map(|of| of.jobs.front()).map(|(added, _)| *added).min()
    }

    /// Takes the jobs that are selected, given the time at which each was added.
    pub(crate) fn take(&mut self, selects: impl Fn(Instant, &T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for of in &mut self.apps {
            for (added, job) in std::mem::take(&mut of.jobs) {
                if selects(added, &job) {
                    taken.push(job);
                } else {
                    of.jobs.push_back((added, job));
                }
            }
        }
        taken
    }

    fn of(&mut self, app: &Arc<str>) -> &mut Waiting<T> {
        let known = self.apps.iter().position(|of| of.app == *app);
        let index = known.unwrap_or_else(|| {
            self.apps.push_back(Waiting { app: Arc::clone(app), jobs: VecDeque::new(), resumes_at: None });
            self.apps.len() - 1
        });
        &mut self.apps[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn queue(jobs: &[(&str, u32)], now: Instant) -> SymbolQueue<u32> {
        let mut queue = SymbolQueue::default();
        jobs.iter().for_each(|(app, job)| queue.add(&Arc::from(*app), *job, now).unwrap());
        queue
    }

    fn order(queue: &mut SymbolQueue<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| queue.next(now)).collect()
    }

    #[test]
    fn apps_take_turns() {
        let now = Instant::now();
        let mut queue = queue(&[("a", 1), ("a", 2), ("a", 3), ("b", 10), ("c", 20), ("b", 11)], now);
        assert_eq!(order(&mut queue, now), [1, 10, 20, 2, 11, 3]);
    }

    #[test]
    fn an_app_that_had_its_turn_waits_for_all_others() {
        let now = Instant::now();
        let mut queue = queue(&[("a", 1), ("b", 10), ("b", 11)], now);
        assert_eq!(queue.next(now), Some(1));
        queue.add(&Arc::from("a"), 2, now).unwrap();
        assert_eq!(order(&mut queue, now), [10, 2, 11]);
    }

    #[test]
    fn a_pause_of_one_app_delays_no_other() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = queue(&[("a", 1), ("b", 10)], now);
        queue.pause(&Arc::from("a"), later);
        assert_eq!(order(&mut queue, now), [10]);
        assert_eq!(queue.resumes_at(), Some(later));
        assert_eq!(order(&mut queue, later), [1]);
        assert_eq!((queue.next(later), queue.apps.len()), (None, 0), "nothing is kept of the apps");
    }

    #[test]
    fn a_pause_is_kept_for_an_app_without_jobs() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut queue = queue(&[], now);
        queue.pause(&Arc::from("a"), later);
        assert_eq!(queue.next(now), None);
        queue.add(&Arc::from("a"), 1, now).unwrap();
        assert_eq!((queue.next(now), queue.next(later)), (None, Some(1)));
    }

    #[test]
    fn the_jobs_of_an_app_and_of_all_apps_are_bounded() {
        let now = Instant::now();
        let mut queue = SymbolQueue::default();
        let mut add = |app: usize| queue.add(&Arc::from(format!("app-{app}")), app, now).is_ok();
        assert!((0..limits::SYMBOLS_QUEUE_PER_APP).all(|_| add(0)));
        assert!(!add(0));
        assert!((limits::SYMBOLS_QUEUE_PER_APP..limits::SYMBOLS_QUEUE).all(&mut add));
        assert!(!add(1_000), "the queue is full");
        assert_eq!(queue.take(|_, app| *app == 0), [0; limits::SYMBOLS_QUEUE_PER_APP]);
    }
}

//! Adds places in the source to backtraces, on one thread of low priority. Compiled code contains
//! no debug information, so the thread reads the component's file. Never delays a caller: a
//! backtrace that exceeds the queue is reported without places.

use crate::{backtrace::GuestBacktrace, limits, places};
use quick_cache::sync::Cache;
use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Nice value of the thread: it yields to guests and to compilations.
const NICENESS: libc::c_int = 15;

/// The queue to the symboliser's thread. Dropping it ends the thread, once the queue is empty.
pub(crate) struct Symboliser {
    shared: Arc<Shared>,
    queue: SyncSender<Job>,
}

/// What the queue and the thread share.
struct Shared {
    state: Mutex<State>,
    /// Notified when the queue shrinks, and when the host stops.
    changed: Condvar,
    known: Cache<Known, Arc<[String]>>,
}

#[derive(Default)]
struct State {
    /// The components of the backtraces in the queue.
    queued: Vec<Arc<Path>>,
    /// Whether the host stops: the queued backtraces are reported without places.
    is_closing: bool,
}

/// A component's file, and the functions and offsets of the frames of one backtrace. A file's
/// content never changes, except for a component that a developer runs.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Known {
    component: Arc<Path>,
    frames: Vec<(u32, Option<usize>)>,
}

/// A backtrace in the queue.
struct Job {
    component: Arc<Path>,
    backtrace: GuestBacktrace,
    /// Called once the backtrace has its lines.
    then: Box<dyn FnOnce() + Send>,
}

impl Symboliser {
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            known: Cache::new(limits::SYMBOLS_KEPT),
        });
        let (queue, jobs) = sync_channel(limits::SYMBOLS_QUEUE);
        let own = Arc::clone(&shared);
        thread::Builder::new().name("isopod-symbols".to_owned()).spawn(move || {
            // SAFETY: `setpriority` takes plain numbers; 0 is the calling thread on Linux. A
            // refusal changes nothing.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
            own.work(&jobs);
        })?;
        Ok(Self { shared, queue })
    }

    /// Adds the places to a backtrace of a component, then calls `then`. Calls it immediately if
    /// the places are known, or if the queue is full.
    pub(crate) fn symbolise(
        &self,
        component: Arc<Path>,
        backtrace: &GuestBacktrace,
        then: impl FnOnce() + Send + 'static,
    ) {
        if let Some(lines) = self.shared.known.get(&Known::of(&component, backtrace)) {
            backtrace.set_lines(lines.to_vec());
        }
        if backtrace.is_placed() || backtrace.frames().is_empty() || !self.reserve(&component) {
            return then();
        }
        backtrace.announce();
        // The queue has room: each reservation is for one job.
        let job = Job { component, backtrace: backtrace.clone(), then: Box::new(then) };
        if let Err(error) = self.queue.try_send(job) {
            let (TrySendError::Full(job) | TrySendError::Disconnected(job)) = error;
            self.shared.report(job, None);
        }
    }

    /// Reserves a place in the queue.
    fn reserve(&self, component: &Arc<Path>) -> bool {
        let mut state = self.shared.lock();
        let of_component = state.queued.iter().filter(|queued| *queued == component).count();
        let has_room = !state.is_closing
            && state.queued.len() < limits::SYMBOLS_QUEUE
            && of_component < limits::SYMBOLS_QUEUE_PER_COMPONENT;
        if has_room {
            state.queued.push(Arc::clone(component));
        }
        has_room
    }

    /// Reports the queued backtraces without places, and further ones immediately. Returns once all
    /// are reported, or at the end of a search that takes too long.
    pub(crate) fn close(&self) {
        self.shared.lock().is_closing = true;
        self.shared.changed.notify_all();
        self.shared.wait_while(2 * limits::SYMBOLS_TIME_MAX, |state| !state.queued.is_empty());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the state fulfils the condition, at most for `timeout`.
    fn wait_while(&self, timeout: Duration, condition: impl Fn(&State) -> bool) {
        drop(self.changed.wait_timeout_while(self.lock(), timeout, |state| condition(state)));
    }

    fn work(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let known = Known::of(&job.component, &job.backtrace);
            if self.lock().is_closing {
                self.report(job, None);
                continue;
            }
            let lines = self.known.get(&known);
            if lines.is_some() {
                self.report(job, lines);
                continue;
            }
            let began = Instant::now();
            let lines = find(&job.component, &job.backtrace);
            if let Some(lines) = &lines {
                // Kept even without places, so that a slow search isn't repeated.
                self.known.insert(known, Arc::clone(lines));
            }
            self.report(job, lines);
            self.wait_while(began.elapsed() * limits::SYMBOLS_PAUSE_FACTOR, |state| !state.is_closing);
        }
    }

    /// Sets the lines of a backtrace, and reports it.
    fn report(&self, job: Job, lines: Option<Arc<[String]>>) {
        let Job { component, backtrace, then } = job;
        backtrace.set_lines(lines.map_or_else(|| backtrace.lines().to_vec(), |lines| lines.to_vec()));
        if catch_unwind(AssertUnwindSafe(then)).is_err() {
            tracing::error!("the report of a backtrace panicked");
        }
        let mut state = self.lock();
        let place = state.queued.iter().position(|queued| *queued == component);
        debug_assert!(place.is_some(), "each job has a reservation");
        place.map(|place| state.queued.swap_remove(place));
        self.changed.notify_all();
    }
}

impl Known {
    fn of(component: &Arc<Path>, backtrace: &GuestBacktrace) -> Self {
        let frames = backtrace.frames().iter().map(|frame| (frame.index, frame.offset)).collect();
        Self { component: Arc::clone(component), frames }
    }
}

/// Returns the lines of a backtrace with the places in the source, or `None` if the component can't
/// be read.
fn find(component: &Path, backtrace: &GuestBacktrace) -> Option<Arc<[String]>> {
    let deadline = Instant::now() + limits::SYMBOLS_TIME_MAX;
    let bytes = read(component)
        .inspect_err(|error| tracing::debug!(file = %component.display(), %error, "a component can't be read"))
        .ok()?;
    Some(backtrace.with_places(&places::find(&bytes, backtrace.frames(), deadline)).into())
}

fn read(component: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(component)?.len() > limits::COMPONENT_BYTES_MAX as u64 {
        return Err(io::Error::other("the file is too large"));
    }
    fs::read(component)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtrace::Frame;

    fn backtrace(offset: usize) -> GuestBacktrace {
        GuestBacktrace::new(vec![Frame { function: "f".to_owned(), index: 0, offset: Some(offset) }])
    }

    fn file(name: &str) -> Arc<Path> {
        Path::new(name).into()
    }

    #[test]
    fn a_component_that_cannot_be_read_has_no_places() {
        let symboliser = Symboliser::start().unwrap();
        let (sender, reported) = sync_channel(2 * limits::SYMBOLS_QUEUE);
        let trace = backtrace(7);
        symboliser.symbolise(file("/nonexistent"), &trace, move || sender.send(()).unwrap());
        reported.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(trace.is_placed());
        assert_eq!(trace.lines(), ["f"]);
    }

    #[test]
    fn a_backtrace_beyond_the_queue_is_reported_immediately() {
        let symboliser = Symboliser::start().unwrap();
        let (blocked, blocker) = sync_channel::<()>(1);
        let (sender, reported) = sync_channel(2 * limits::SYMBOLS_QUEUE);
        symboliser.symbolise(file("/blocking"), &backtrace(0), move || {
            let _ = blocker.recv();
        });
        let send = |name: &str, offset: usize| {
            let (sender, trace) = (sender.clone(), backtrace(offset));
            symboliser.symbolise(file(name), &trace, move || sender.send(offset).unwrap());
        };
        (1..=limits::SYMBOLS_QUEUE_PER_COMPONENT + 1).for_each(|offset| send("/one", offset));
        let over = limits::SYMBOLS_QUEUE_PER_COMPONENT + 1;
        assert_eq!(reported.try_iter().collect::<Vec<_>>(), [over], "the others of the component are queued");
        (0..limits::SYMBOLS_QUEUE).for_each(|offset| send(&format!("/other-{offset}"), 100 + offset));
        let queued = 1 + limits::SYMBOLS_QUEUE_PER_COMPONENT;
        assert_eq!(reported.try_iter().count(), queued, "the queue is full");
        drop(blocked);
        let in_time = || reported.recv_timeout(Duration::from_secs(60));
        (0..limits::SYMBOLS_QUEUE - 1).for_each(|_| assert!(in_time().is_ok()));
    }

    #[test]
    fn closing_reports_the_queued_backtraces() {
        let symboliser = Symboliser::start().unwrap();
        let (sender, reported) = sync_channel(2 * limits::SYMBOLS_QUEUE);
        for offset in 0..limits::SYMBOLS_QUEUE_PER_COMPONENT {
            let sender = sender.clone();
            symboliser.symbolise(file("/one"), &backtrace(offset), move || sender.send(()).unwrap());
        }
        symboliser.close();
        assert_eq!(reported.try_iter().count(), limits::SYMBOLS_QUEUE_PER_COMPONENT);
        symboliser.symbolise(file("/one"), &backtrace(100), move || sender.send(()).unwrap());
        assert_eq!(reported.try_iter().count(), 1, "later ones are reported immediately");
    }
}

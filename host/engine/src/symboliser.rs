//! Adds places in the source to backtraces. One thread of low priority searches for them, since
//! compiled code contains no debug information, and reads the component's file. Another reports
//! each backtrace without places if its search takes too long. Never delays a caller.

use crate::{
    backtrace::GuestBacktrace,
    known_lines::{KnownLines, Trace},
    limits, places,
    steps::Steps,
    symbol_queue::SymbolQueue,
};
use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Nice value of the thread that searches: it yields to guests and to compilations.
const NICENESS: libc::c_int = 15;

/// The lines of a backtrace with places.
type Lines = Arc<[String]>;

/// The queue to the symboliser's threads. Dropping it ends them.
pub(crate) struct Symboliser(Arc<Shared>);

/// What the callers and the threads share.
struct Shared {
    state: Mutex<State>,
    /// Notified when the state changes.
    changed: Condvar,
    /// How long a backtrace waits for its places.
    wait_max: Duration,
}

#[derive(Default)]
struct State {
    queue: SymbolQueue<Job>,
    /// The backtrace of the current search, unless it was reported meanwhile.
    searched: Option<Job>,
    known: KnownLines,
    /// The backtraces that were taken from here, and are not reported yet.
    reporting: usize,
    /// Whether the host stops: backtraces are reported without places.
    is_closing: bool,
}

/// A backtrace that waits for its places.
struct Job {
    app: Arc<str>,
    component: Arc<Path>,
    backtrace: GuestBacktrace,
    added: Instant,
    /// Called once the backtrace has its lines.
    then: Box<dyn FnOnce() + Send>,
}

/// A search for the places of a backtrace.
struct Search {
    app: Arc<str>,
    component: Arc<Path>,
    backtrace: GuestBacktrace,
}

impl Job {
    fn trace(&self) -> Trace {
        Trace::of(&self.component, &self.backtrace)
    }
}

impl Symboliser {
    pub(crate) fn start() -> io::Result<Self> {
        Self::start_with(limits::SYMBOLS_WAIT_MAX, find)
    }

    /// Starts the threads with another limit and another search.
    fn start_with(
        wait_max: Duration,
        find: impl Fn(&Path, &GuestBacktrace) -> Option<Lines> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), wait_max });
        // Dropped, and so closed, if a thread can't be started.
        let symboliser = Self(Arc::clone(&shared));
        let searching = Arc::clone(&shared);
        thread::Builder::new().name("isopod-symbols".to_owned()).spawn(move || {
            // SAFETY: `setpriority` takes plain numbers; 0 is the calling thread on Linux. A
            // refusal changes nothing.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
            searching.search_all(find);
        })?;
        thread::Builder::new().name("isopod-faults".to_owned()).spawn(move || shared.report_late())?;
        Ok(symboliser)
    }

    /// Adds the places to a backtrace of an app's component, then calls `then`. Calls it
    /// immediately if the places are known, or if the queue is full.
    pub(crate) fn symbolise(
        &self,
        app: &str,
        component: Arc<Path>,
        backtrace: &GuestBacktrace,
        then: impl FnOnce() + Send + 'static,
    ) {
        if backtrace.is_placed() || backtrace.frames().is_empty() {
            return then();
        }
        let (app, added) = (Arc::from(app), Instant::now());
        let job = Job { app, component, backtrace: backtrace.clone(), added, then: Box::new(then) };
        if let Err((job, lines)) = self.0.add(job) {
            job.report(lines);
        }
    }

    /// Reports all backtraces without places, and further ones immediately. Doesn't wait for the
    /// search.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.is_closing = true;
            let mut waiting = state.queue.take(|_, _| true);
            waiting.extend(state.searched.take());
            state.reporting += waiting.len();
            waiting
        };
        self.0.changed.notify_all();
        self.0.report(waiting.into_iter().map(|job| (job, None)).collect());
        // The threads may be reporting others.
        let state = self.0.lock();
        drop(self.0.changed.wait_timeout_while(state, limits::SYMBOLS_TIME_MAX, |state| state.reporting > 0));
    }
}

impl Drop for Symboliser {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a backtrace to the queue. Returns it if it is to be reported immediately, with its
    /// lines if they are known.
    fn add(&self, job: Job) -> Result<(), (Job, Option<Lines>)> {
        let mut state = self.lock();
        if let Some(lines) = state.known.get(&job.app, &job.trace()) {
            return Err((job, Some(lines)));
        }
        if state.is_closing {
            return Err((job, None));
        }
        let (app, backtrace, added) = (Arc::clone(&job.app), job.backtrace.clone(), job.added);
        state.queue.add(&app, job, added).map_err(|job| (job, None))?;
        backtrace.announce();
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Searches until the symboliser is closed.
    fn search_all(&self, find: impl Fn(&Path, &GuestBacktrace) -> Option<Lines>) {
        while let Some(search) = self.next_search() {
            let began = Instant::now();
            let find = AssertUnwindSafe(|| find(&search.component, &search.backtrace));
            let lines = catch_unwind(find).unwrap_or_default();
            self.report(self.end_search(&search, lines, began.elapsed()));
        }
    }

    /// Waits for the next backtrace to search for; `None` once the symboliser is closed.
    fn next_search(&self) -> Option<Search> {
        let mut state = self.lock();
        while !state.is_closing {
            let now = Instant::now();
            if let Some(job) = state.queue.next(now) {
                let (app, component) = (Arc::clone(&job.app), Arc::clone(&job.component));
                let search = Search { app, component, backtrace: job.backtrace.clone() };
                state.searched = Some(job);
                return Some(search);
            }
            let until = state.queue.resumes_at();
            state = self.wait(state, now, until);
        }
        None
    }

    /// Keeps the result of a search, and pauses the app's searches. Returns the backtraces to
    /// report: that of the search, unless it was reported meanwhile, and those of the same trap.
    fn end_search(&self, search: &Search, lines: Option<Lines>, took: Duration) -> Vec<(Job, Option<Lines>)> {
        let mut state = self.lock();
        state.queue.pause(&search.app, Instant::now() + took * limits::SYMBOLS_PAUSE_FACTOR);
        let mut ended: Vec<Job> = state.searched.take().into_iter().collect();
        if let Some(lines) = &lines {
            let trace = Trace::of(&search.component, &search.backtrace);
            ended.extend(state.queue.take(|_, job| job.app == search.app && job.trace() == trace));
            // Kept even without places, so that a slow search isn't repeated.
            state.known.insert(&search.app, trace, Arc::clone(lines));
        }
        state.reporting += ended.len();
        ended.into_iter().map(|job| (job, lines.clone())).collect()
    }

    /// Reports the backtraces that have waited for too long, until the symboliser is closed.
    fn report_late(&self) {
        let mut state = self.lock();
        while !state.is_closing {
            let now = Instant::now();
            let is_late = |added: Instant| now.duration_since(added) >= self.wait_max;
            let mut late = state.queue.take(|added, _| is_late(added));
            late.extend(state.searched.take_if(|job| is_late(job.added)));
            if late.is_empty() {
                let oldest = state.queue.oldest().into_iter().chain(state.searched.as_ref().map(|job| job.added)).min();
                state = self.wait(state, now, oldest.map(|added| added + self.wait_max));
                continue;
            }
            state.reporting += late.len();
            drop(state);
            self.report(late.into_iter().map(|job| (job, None)).collect());
            state = self.lock();
        }
    }

    /// Waits until the state changes, or until a time.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, now: Instant, until: Option<Instant>) -> MutexGuard<'a, State> {
        match until {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let timeout = until.saturating_duration_since(now);
                self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Reports backtraces that were counted in `reporting`.
    fn report(&self, jobs: Vec<(Job, Option<Lines>)>) {
        let count = jobs.len();
        jobs.into_iter().for_each(|(job, lines)| job.report(lines));
        self.lock().reporting -= count;
        self.changed.notify_all();
    }
}

impl Job {
    /// Sets the lines of the backtrace, and reports it.
    fn report(self, lines: Option<Lines>) {
        let Self { backtrace, then, .. } = self;
        backtrace.set_lines(lines.map_or_else(|| backtrace.lines().to_vec(), |lines| lines.to_vec()));
        if catch_unwind(AssertUnwindSafe(then)).is_err() {
            tracing::error!("the report of a backtrace panicked");
        }
    }
}

/// Returns the lines of a backtrace with the places in the source, or `None` if the component can't
/// be read.
fn find(component: &Path, backtrace: &GuestBacktrace) -> Option<Lines> {
    let steps = Steps::new(limits::SYMBOLS_STEPS_MAX, Instant::now() + limits::SYMBOLS_TIME_MAX);
    let bytes = read(component)
        .inspect_err(|error| tracing::debug!(file = %component.display(), %error, "a component can't be read"))
        .ok()?;
    Some(backtrace.with_places(&places::find(&bytes, backtrace.frames(), &steps)).into())
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
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// Longer than any test waits.
    const LONG: Duration = Duration::from_secs(600);

    fn backtrace(offset: usize) -> GuestBacktrace {
        GuestBacktrace::new(vec![Frame { function: "f".to_owned(), index: 0, offset: Some(offset) }])
    }

    fn file(name: &str) -> Arc<Path> {
        Path::new(name).into()
    }

    /// Signals of a test that may wait in a channel.
    const SIGNALS: usize = 100;

    /// Reports to a test, each as its app, its offset and its lines.
    struct Reports {
        sender: SyncSender<(String, usize, Vec<String>)>,
        receiver: Receiver<(String, usize, Vec<String>)>,
    }

    impl Reports {
        fn new() -> Self {
            let (sender, receiver) = sync_channel(SIGNALS);
            Self { sender, receiver }
        }

        fn trap(&self, symboliser: &Symboliser, app: &str, offset: usize) -> GuestBacktrace {
            let (sender, trace, name) = (self.sender.clone(), backtrace(offset), app.to_owned());
            let own = trace.clone();
            symboliser.symbolise(app, file(&format!("/{app}")), &trace, move || {
                // The test may have ended.
                let _ = sender.send((name, offset, own.lines().to_vec()));
            });
            trace
        }

        fn next(&self) -> (String, usize, Vec<String>) {
            self.receiver.recv_timeout(Duration::from_secs(60)).unwrap()
        }

        /// Returns the next reports, without their lines.
        fn order(&self, count: usize) -> Vec<(String, usize)> {
            (0..count).map(|_| self.next()).map(|(app, offset, _)| (app, offset)).collect()
        }

        fn so_far(&self) -> usize {
            self.receiver.try_iter().count()
        }
    }

    fn placed() -> Option<Lines> {
        Some(vec!["f (a.rs:1)".to_owned()].into())
    }

    /// Starts a symboliser whose searches for the app `slow` report that they have begun, and then
    /// wait until the test ends them.
    fn with_slow_app() -> (Symboliser, Receiver<()>, SyncSender<()>) {
        let ((begin, begun), (end, ended)) = (sync_channel(SIGNALS), sync_channel(SIGNALS));
        let find = move |component: &Path, _: &GuestBacktrace| {
            if component == Path::new("/slow") {
                begin.send(()).unwrap();
                // The test ends the search, or itself.
                let _ = ended.recv();
            }
            placed()
        };
        (Symboliser::start_with(LONG, find).unwrap(), begun, end)
    }

    #[test]
    fn a_component_that_cannot_be_read_has_no_places() {
        let (symboliser, reports) = (Symboliser::start().unwrap(), Reports::new());
        let trace = reports.trap(&symboliser, "nonexistent", 7);
        assert_eq!(reports.next().2, ["f"]);
        assert!(trace.is_placed());
    }

    #[test]
    fn a_backtrace_beyond_the_queue_is_reported_immediately() {
        let (symboliser, begun, end) = with_slow_app();
        let reports = Reports::new();
        reports.trap(&symboliser, "slow", 0);
        begun.recv().unwrap();
        (1..=limits::SYMBOLS_QUEUE_PER_APP + 1).for_each(|offset| drop(reports.trap(&symboliser, "slow", offset)));
        let over = limits::SYMBOLS_QUEUE_PER_APP + 1;
        assert_eq!(reports.order(1), [("slow".to_owned(), over)], "the others of the app are queued");
        let others = limits::SYMBOLS_QUEUE - limits::SYMBOLS_QUEUE_PER_APP;
        (0..others + 3).for_each(|number| drop(reports.trap(&symboliser, &format!("app-{number}"), 0)));
        assert_eq!(reports.so_far(), 3, "the queue is full");
        drop(end);
        // The searched one, and all in the queue.
        reports.order(1 + limits::SYMBOLS_QUEUE);
    }

    #[test]
    fn apps_take_turns_however_many_traps_one_has() {
        let (symboliser, begun, end) = with_slow_app();
        let reports = Reports::new();
        reports.trap(&symboliser, "slow", 0);
        begun.recv().unwrap();
        (1..=3).for_each(|offset| drop(reports.trap(&symboliser, "slow", offset)));
        reports.trap(&symboliser, "quick", 10);
        end.send(()).unwrap();
        let (slow, quick) = (("slow".to_owned(), 0), ("quick".to_owned(), 10));
        assert_eq!(reports.order(2), [slow, quick]);
        drop(end);
        assert_eq!(reports.order(3), [1, 2, 3].map(|offset| ("slow".to_owned(), offset)));
    }

    #[test]
    fn a_search_that_never_ends_withholds_no_line() {
        let (_end, ended) = sync_channel::<()>(SIGNALS);
        let find = move |_: &Path, _: &GuestBacktrace| {
            let _ = ended.recv();
            placed()
        };
        let symboliser = Symboliser::start_with(Duration::from_millis(20), find).unwrap();
        let reports = Reports::new();
        (0..2).for_each(|offset| drop(reports.trap(&symboliser, "slow", offset)));
        reports.trap(&symboliser, "quick", 10);
        let mut reported: Vec<_> = (0..3).map(|_| reports.next()).collect();
        reported.sort();
        let without_places = |app: &str, offset| (app.to_owned(), offset, vec!["f".to_owned()]);
        assert_eq!(reported, [without_places("quick", 10), without_places("slow", 0), without_places("slow", 1)]);
    }

    #[test]
    fn the_backtraces_of_one_trap_need_one_search() {
        let (symboliser, begun, end) = with_slow_app();
        let reports = Reports::new();
        (0..3).for_each(|_| drop(reports.trap(&symboliser, "slow", 7)));
        begun.recv().unwrap();
        end.send(()).unwrap();
        (0..3).for_each(|_| assert_eq!(reports.next().2, ["f (a.rs:1)"]));
        reports.trap(&symboliser, "slow", 7);
        assert_eq!(reports.so_far(), 1, "the lines are known");
        assert!(begun.try_recv().is_err());
    }

    #[test]
    fn a_search_that_panics_is_reported_without_places() {
        let find = |_: &Path, _: &GuestBacktrace| -> Option<Lines> { panic!("as tested") };
        let (symboliser, reports) = (Symboliser::start_with(LONG, find).unwrap(), Reports::new());
        (0..2).for_each(|offset| drop(reports.trap(&symboliser, "app", offset)));
        assert_eq!(reports.order(2), [0, 1].map(|offset| ("app".to_owned(), offset)));
    }

    #[test]
    fn closing_reports_all_backtraces_without_waiting_for_the_search() {
        let (symboliser, begun, _end) = with_slow_app();
        let reports = Reports::new();
        reports.trap(&symboliser, "slow", 0);
        begun.recv().unwrap();
        (1..=limits::SYMBOLS_QUEUE_PER_APP).for_each(|offset| drop(reports.trap(&symboliser, "slow", offset)));
        reports.trap(&symboliser, "quick", 10);
        symboliser.close();
        assert_eq!(reports.so_far(), limits::SYMBOLS_QUEUE_PER_APP + 2);
        reports.trap(&symboliser, "quick", 11);
        assert_eq!(reports.so_far(), 1, "later ones are reported immediately");
    }
}

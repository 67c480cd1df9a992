//! The handle to the apps' logs: accepts lines without blocking, and returns pages and followers.
//! Never touches a file on the caller's thread (see `writer` and `read`).

mod config;
mod filter;
mod follow;
mod line;
mod output;
mod queue;
mod read;
mod request;
mod segment;
mod timing;
mod wake;
mod writer;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
};

use isopod_policy::AppName;
use tokio::sync::{Notify, Semaphore, oneshot};

pub(crate) use self::{
    config::Config,
    filter::{Level, LineFilter, SearchText},
    follow::{FollowEnd, Follower},
    line::{LogLine, Stream},
    output::AppOutput,
    queue::AppLog,
    read::{Cursor, Page},
};
use self::{
    queue::{Following, Gaps, Message, Totals},
    wake::Wake,
};
use crate::observe::{limits, telemetry::Telemetry};

/// The reason why a log can't be read. Writing returns no errors: lines that can't be written are
/// dropped and counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogsError {
    #[error(
        "the log can't be read in time: its disk may be slow or full, or others read the log. Apps are not affected; \
         try again later"
    )]
    Unavailable,
    #[error("the log can't be read: {0}")]
    Unreadable(#[from] std::io::Error),
}

/// The handle of the logs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Logs(Arc<Shared>);

struct Shared {
    config: Config,
    queue: SyncSender<Message>,
    wake: Arc<Wake>,
    /// Notified by the writer when the queue has free capacity.
    room: Arc<Notify>,
    apps: Mutex<HashMap<AppName, Arc<AppLog>>>,
    gaps: Arc<Gaps>,
    totals: Arc<Totals>,
    /// Permits for reads of files.
    reads: Arc<Semaphore>,
    telemetry: Option<Telemetry>,
}

/// The writer's thread.
pub(crate) struct Service {
    thread: std::thread::JoinHandle<()>,
    logs: Logs,
}

impl Service {
    /// Starts the writer's thread, which runs until `stop`. With `telemetry`, the lines are also
    /// exported.
    pub(crate) fn start(config: Config, telemetry: Option<Telemetry>) -> std::io::Result<Self> {
        let (queue, messages) = sync_channel(limits::LOG_QUEUE_LINES);
        let (totals, reads) = (Arc::default(), Arc::new(Semaphore::new(limits::LOG_READS_MAX)));
        let room = Arc::new(Notify::new());
        let gaps = Arc::<Gaps>::default();
        let writer = writer::Writer::new(config.clone(), Arc::clone(&gaps), Arc::clone(&room));
        let wake = Arc::new(Wake::default());
        let woken = Arc::clone(&wake);
        let run = move || writer.run(&messages, &woken);
        let thread = std::thread::Builder::new().name("logs".to_owned()).spawn(run)?;
        wake.set_thread(thread.thread().clone());
        let apps = Mutex::default();
        let shared = Shared { config, queue, wake, room, apps, gaps, totals, reads, telemetry };
        Ok(Self { thread, logs: Logs(Arc::new(shared)) })
    }

    pub(crate) fn handle(&self) -> Logs {
        self.logs.clone()
    }

    /// Flushes the queue and ends the thread. Blocks.
    pub(crate) fn stop(self) {
        let Self { thread, logs } = self;
        logs.0.wake.now();
        let is_sent = logs.0.queue.send(Message::Stop).is_ok();
        logs.0.wake.now();
        if is_sent && thread.join().is_err() {
            tracing::error!("the log writer panicked; the last lines may be missing");
        }
    }
}

impl Logs {
    /// Returns the sender of an app's log, and creates it if necessary. Callers cache it: the
    /// lookup takes a lock that all apps share.
    pub(crate) fn app(&self, app: &AppName) -> Arc<AppLog> {
        let mut apps = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let log = apps.entry(app.clone()).or_insert_with(|| {
            let Shared { queue, wake, gaps, totals, telemetry, .. } = &*self.0;
            let export = telemetry.as_ref().map(Telemetry::app);
            let (wake, gaps, totals) = (Arc::clone(wake), Arc::clone(gaps), Arc::clone(totals));
            Arc::new(AppLog::new(app.clone(), queue.clone(), wake, gaps, totals, export))
        });
        Arc::clone(log)
    }

    /// Returns the sender of an existing app's log. Never creates a log, so that a destroyed app
    /// doesn't get a new one.
    pub(crate) fn known(&self, app: &AppName) -> Option<Arc<AppLog>> {
        self.0.apps.lock().unwrap_or_else(PoisonError::into_inner).get(app).cloned()
    }

    /// Returns the number of dropped lines of all apps since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.totals.dropped.load(Ordering::Relaxed)
    }

    /// Returns the newest `limit` selected lines before `before` (or the end), oldest first. A page
    /// may have fewer lines and a next page, since one call reads a limited part of the log.
    pub(crate) async fn page(
        &self,
        app: &AppName,
        filter: LineFilter,
        limit: usize,
        before: Option<Cursor>,
    ) -> Result<Page, LogsError> {
        let before = match before {
            Some(cursor) => cursor,
            None => self.end(app).await?,
        };
        self.read(app, filter, limit, before).await
    }

    /// Returns the newest `limit` lines, and a subscription that continues without a gap or a
    /// repetition.
    async fn newest(&self, app: &AppName, filter: LineFilter, limit: usize) -> Result<(Page, Following), LogsError> {
        let following = self.follow(app).await?;
        Ok((self.read(app, filter, limit, following.end).await?, following))
    }

    /// Removes an app's log with its files.
    pub(crate) async fn forget(&self, app: &AppName) {
        let log = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner).remove(app);
        if let Some(log) = log {
            log.forget();
        }
        let (done, when_done) = oneshot::channel();
        if self.send(Message::Forget(app.clone(), done)).await.is_ok() {
            // A timeout is ignored: the caller removes the app's folder as well.
            drop(tokio::time::timeout(limits::LOG_READ_WAIT, when_done).await);
        }
    }

    /// Returns the end of a log, after all lines that were sent before.
    async fn end(&self, app: &AppName) -> Result<Cursor, LogsError> {
        self.ask(|reply| Message::End(app.clone(), reply)).await
    }

    /// Returns the end of a log, and a subscription to later lines.
    async fn follow(&self, app: &AppName) -> Result<Following, LogsError> {
        self.ask(|reply| Message::Follow(app.clone(), reply)).await
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, LogsError> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply)).await?;
        match tokio::time::timeout(limits::LOG_READ_WAIT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(LogsError::Unavailable),
        }
    }

    async fn read(&self, app: &AppName, filter: LineFilter, limit: usize, before: Cursor) -> Result<Page, LogsError> {
        self.read_with(app, move |dir| read::page(dir, &filter, limit, before)).await
    }

    async fn read_with<T: Send + 'static>(
        &self,
        app: &AppName,
        read: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, LogsError> {
        let (dir, reads) = (self.0.config.folder(app), Arc::clone(&self.0.reads));
        let of_app = self.known(app).map(|log| log.reads());
        let reading = async {
            // Acquired first, so that reads of one log don't wait in front of those of others.
            let of_app = match of_app {
                Some(reads) => Some(reads.acquire_owned().await.ok()?),
                None => None,
            };
            let permits = (of_app, reads.acquire_owned().await.ok()?);
            // The permits are returned after the read, which a hanging disk may delay beyond the
            // timeout.
            let reading = tokio::task::spawn_blocking(move || (read(&dir), permits).0);
            reading.await.ok()
        };
        match tokio::time::timeout(limits::LOG_READ_WAIT, reading).await {
            Ok(Some(read)) => Ok(read?),
            Ok(None) | Err(_) => Err(LogsError::Unavailable),
        }
    }

    /// Sends a reader's request, and waits for capacity in the queue. Senders of lines never wait.
    async fn send(&self, message: Message) -> Result<(), LogsError> {
        let mut message = message;
        let sending = async {
            loop {
                // Subscribed before the attempt, so that no notification in between is missed.
                let room = self.0.room.notified();
                let sent = self.0.queue.try_send(message);
                self.0.wake.now();
                match sent {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Disconnected(_)) => return Err(LogsError::Unavailable),
                    Err(TrySendError::Full(back)) => message = back,
                }
                room.await;
            }
        };
        tokio::time::timeout(limits::LOG_READ_WAIT, sending).await.unwrap_or(Err(LogsError::Unavailable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::access_log::AccessLine;
    use std::time::Duration;

    fn start(dir: &Path, segment_bytes: u64, kept_bytes: u64) -> Service {
        let config =
            Config { apps_dir: dir.to_owned(), segment_bytes, kept_bytes, kept_for: Duration::from_secs(3600) };
        Service::start(config, None).expect("starts")
    }

    fn name(text: &str) -> AppName {
        text.parse().expect("is a name")
    }

    fn messages(page: &Page) -> Vec<&str> {
        page.items.iter().map(|line| line.message.as_str()).collect()
    }

    #[tokio::test]
    async fn written_lines_are_read_back_in_order_and_in_pages() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 300, 1 << 20);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        for n in 0..20 {
            log.write(LogLine::host(log.app(), format!("line {n}")));
        }
        let newest = logs.page(&name("hello"), LineFilter::default(), 3, None).await.expect("reads");
        assert_eq!(messages(&newest), ["line 17", "line 18", "line 19"]);
        let older = logs.page(&name("hello"), LineFilter::default(), 2, newest.next).await.expect("reads");
        assert_eq!(messages(&older), ["line 15", "line 16"]);
        let all = logs.page(&name("hello"), LineFilter::default(), 100, None).await.expect("reads");
        assert_eq!(all.items.len(), 20);
        assert!(all.next.is_none());
        service.stop();
    }

    #[tokio::test]
    async fn lines_are_selected_by_their_request_in_pages_and_by_followers() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 1 << 20, 4 << 20);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        let [wanted, other] = [1, 2].map(isopod_policy::RequestId::from_random);
        let filter = LineFilter { request_id: Some(wanted), ..LineFilter::default() };
        let line = |text: String, id: isopod_policy::RequestId| {
            log.write(LogLine { request_id: Some(id.to_string()), ..LogLine::host(log.app(), text) });
        };
        for number in 0..4 {
            line(format!("wanted {number}"), wanted);
            line(format!("other {number}"), other);
            log.write(LogLine::host(log.app(), "of no request".to_owned()));
        }
        let mut follower =
            Follower::of_newest(logs.clone(), Arc::clone(&log), filter.clone(), 1).await.expect("follows");
        line("other 4".to_owned(), other);
        line("wanted 4".to_owned(), wanted);
        assert_eq!(next(&mut follower).await, "wanted 3");
        assert_eq!(next(&mut follower).await, "wanted 4");
        let newest = logs.page(&name("hello"), filter.clone(), 3, None).await.expect("reads");
        assert_eq!(messages(&newest), ["wanted 2", "wanted 3", "wanted 4"]);
        let older = logs.page(&name("hello"), filter.clone(), 3, newest.next).await.expect("reads");
        assert_eq!((messages(&older), older.next), (vec!["wanted 0", "wanted 1"], None));
        line("wanted 5".to_owned(), wanted);
        let mut later =
            Follower::after(logs.clone(), Arc::clone(&log), filter.clone(), newest.end).await.expect("follows");
        assert_eq!(next(&mut later).await, "wanted 5", "the stream continues after the page");
        service.stop();
    }

    #[tokio::test]
    async fn a_search_reads_a_limited_part_of_a_log_for_one_page() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 2 << 20, 64 << 20);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        let wanted = isopod_policy::RequestId::from_random(1);
        log.write(LogLine { request_id: Some(wanted.to_string()), ..LogLine::host(log.app(), "first".to_owned()) });
        let lines =
            usize::try_from(limits::LOG_SEARCH_BYTES).expect("a small number") / limits::HOST_LINE_BYTES_MAX + 300;
        for number in 0..lines {
            log.write(LogLine::host(log.app(), "x".repeat(limits::HOST_LINE_BYTES_MAX)));
            if number % (limits::LOG_QUEUE_LINES_PER_APP / 2) == 0 {
                logs.end(log.app()).await.expect("the writer answers");
            }
        }
        let filter = LineFilter { request_id: Some(wanted), ..LineFilter::default() };
        let newest = logs.page(&name("hello"), filter.clone(), 3, None).await.expect("reads");
        assert!(newest.items.is_empty() && newest.next.is_some());
        let older = logs.page(&name("hello"), filter.clone(), 3, newest.next).await.expect("reads");
        assert_eq!(messages(&older), ["first"]);
        service.stop();
    }

    async fn next(follower: &mut Follower) -> String {
        follower.next().await.expect("the app exists").0.message
    }

    #[tokio::test]
    async fn a_follower_gets_each_line_once() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 1 << 20, 1 << 20);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        log.write(LogLine::host(log.app(), "before".to_owned()));
        let mut follower =
            Follower::of_newest(logs, Arc::clone(&log), LineFilter::default(), 10).await.expect("follows");
        log.write(LogLine::host(log.app(), "after".to_owned()));
        assert_eq!(next(&mut follower).await, "before");
        assert_eq!(next(&mut follower).await, "after");
        service.stop();
    }

    /// Writes lines, and waits for the writer whenever its queue is half full.
    async fn write_all(logs: &Logs, log: &Arc<AppLog>, numbers: std::ops::Range<usize>) {
        for number in numbers {
            log.write(LogLine::host(log.app(), format!("line {number}")));
            if number % (limits::LOG_QUEUE_LINES_PER_APP / 2) == 0 {
                logs.end(log.app()).await.expect("the writer answers");
            }
        }
    }

    #[tokio::test]
    async fn a_slow_follower_gets_every_line_in_order() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 64 << 10, 64 << 20);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        let mut follower =
            Follower::of_newest(logs.clone(), Arc::clone(&log), LineFilter::default(), 0).await.expect("follows");
        let lines = 5 * limits::LOG_FOLLOW_LINES;
        write_all(&logs, &log, 0..lines).await;
        let mut place = None;
        for number in 0..lines {
            let (line, end) = follower.next().await.expect("the app exists");
            assert_eq!(line.message, format!("line {number}"));
            if number == lines / 2 {
                place = Some(end);
            }
        }
        let mut resumed = Follower::after(logs, Arc::clone(&log), LineFilter::default(), place.expect("was seen"))
            .await
            .expect("follows");
        assert_eq!(next(&mut resumed).await, format!("line {}", lines / 2 + 1));
        log.write(LogLine::host(log.app(), "last".to_owned()));
        assert_eq!(next(&mut follower).await, "last");
        service.stop();
    }

    #[tokio::test]
    async fn lines_that_were_removed_unread_are_reported_as_skipped() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 4 << 10, 16 << 10);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        log.write(LogLine::host(log.app(), "first".to_owned()));
        let place = logs.end(log.app()).await.expect("the writer answers");
        write_all(&logs, &log, 0..1_000).await;
        let mut follower = Follower::after(logs, log, LineFilter::default(), place).await.expect("follows");
        assert!(next(&mut follower).await.starts_with("lines were skipped here"));
        let mut last = next(&mut follower).await;
        while last != "line 999" {
            last = next(&mut follower).await;
        }
        service.stop();
    }

    #[tokio::test]
    async fn a_connected_follower_learns_how_many_lines_were_removed_unread() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 4 << 10, 16 << 10);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        log.write(LogLine::host(log.app(), "before".to_owned()));
        let mut follower =
            Follower::of_newest(logs.clone(), Arc::clone(&log), LineFilter::default(), 0).await.expect("follows");
        for lines in [0..3_000, 3_000..6_000] {
            write_all(&logs, &log, lines.clone()).await;
            let report = next(&mut follower).await;
            let skipped = report.strip_suffix(" lines were skipped here: they were removed before they were read");
            let skipped: usize = skipped.and_then(|number| number.parse().ok()).expect(&report);
            let mut first = lines.start + skipped;
            while first < lines.end {
                assert_eq!(next(&mut follower).await, format!("line {first}"));
                first += 1;
            }
        }
        service.stop();
    }

    #[tokio::test]
    async fn a_removed_folder_is_created_again_and_positions_never_recur() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 1 << 20, 4 << 20);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        log.write(LogLine::host(log.app(), "before".to_owned()));
        let mut follower =
            Follower::of_newest(logs.clone(), Arc::clone(&log), LineFilter::default(), 0).await.expect("follows");
        std::fs::remove_dir_all(dir.path().join("hello")).expect("it can be removed");
        log.write(LogLine::host(log.app(), "after".to_owned()));
        assert_eq!(next(&mut follower).await, "after");
        let page = logs.page(&name("hello"), LineFilter::default(), 10, None).await.expect("reads");
        assert_eq!((messages(&page), logs.dropped()), (vec!["after"], 0));
        service.stop();
    }

    #[tokio::test]
    async fn requests_above_the_rate_limit_are_reported_without_a_further_line() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 1 << 20, 1 << 20);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        let mut follower =
            Follower::of_newest(logs, Arc::clone(&log), LineFilter::default(), 0).await.expect("follows");
        let access = AccessLine {
            app: log.app(),
            release: None,
            request_id: isopod_policy::RequestId::from_random(7),
            method: &http::Method::GET,
            path: "/",
            status: http::StatusCode::OK,
            duration: Duration::ZERO,
            elapsed: Duration::ZERO,
            bytes: None,
            fault: None,
            plugin: None,
            instance: None,
            is_https: false,
            version: http::Version::HTTP_11,
            trace: isopod_policy::RequestTrace {
                trace: isopod_policy::TraceId::from_random(7),
                span: None,
                parent: None,
                is_sampled: false,
            },
            trace_state: None,
            timing: isopod_policy::Timing::default(),
        };
        // At least twice the rate limit of any two seconds that the loop may touch.
        let sent = 5 * u64::from(limits::LOG_ACCESS_LINES_PER_SECOND);
        (0..sent).for_each(|_| log.request(&access));
        let (mut listed, mut reported) = (0, 0);
        while listed + reported < sent {
            let line = follower.next().await.expect("the app exists").0;
            let number = line.message.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            match number {
                Some(number) => reported += number,
                None => listed += 1,
            }
        }
        assert!(reported > 0 && listed + reported == sent, "{listed} lines, {reported} reported");
        service.stop();
    }

    #[tokio::test]
    async fn reads_of_one_log_leave_permits_for_others() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 1 << 20, 1 << 20);
        let logs = service.handle();
        for app in ["busy", "other"] {
            let log = logs.app(&name(app));
            log.write(LogLine::host(log.app(), "a line".to_owned()));
        }
        let gate = Arc::new(tokio::sync::RwLock::new(()));
        let closed = gate.write().await;
        let reads = (0..limits::LOG_READS_MAX + 2).map(|_| {
            let (logs, gate) = (logs.clone(), Arc::clone(&gate));
            tokio::spawn(async move {
                let held = move |_: &Path| {
                    drop(gate.blocking_read());
                    Ok(())
                };
                logs.read_with(&name("busy"), held).await.is_ok()
            })
        });
        let reads: Vec<_> = reads.collect();
        while logs.0.reads.available_permits() > limits::LOG_READS_MAX - limits::LOG_READS_PER_APP_MAX {
            tokio::task::yield_now().await;
        }
        let page = logs.page(&name("other"), LineFilter::default(), 10, None).await.expect("reads");
        assert_eq!(messages(&page), ["a line"]);
        drop(closed);
        for read in reads {
            assert!(read.await.expect("it doesn't panic"), "it is read once the others are done");
        }
        service.stop();
    }

    #[tokio::test]
    async fn old_segments_are_removed_when_the_log_is_too_large() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 400, 1200);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        for n in 0..60 {
            log.write(LogLine::host(log.app(), format!("line {n}")));
        }
        let page = logs.page(&name("hello"), LineFilter::default(), 1000, None).await.expect("reads");
        assert!(page.items.len() < 60);
        assert_eq!(page.items.last().map(|line| line.message.as_str()), Some("line 59"));
        service.stop();
    }

    #[tokio::test]
    async fn a_forgotten_app_has_no_lines() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 1 << 20, 1 << 20);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        log.write(LogLine::host(log.app(), "old".to_owned()));
        logs.forget(&name("hello")).await;
        assert!(logs.page(&name("hello"), LineFilter::default(), 10, None).await.expect("reads").items.is_empty());
        service.stop();
    }

    #[tokio::test]
    async fn a_follower_of_a_forgotten_app_ends_even_if_it_is_behind() {
        let dir = tempfile::tempdir().expect("makes a folder");
        let service = start(dir.path(), 1 << 20, 1 << 20);
        let logs = service.handle();
        let log = logs.app(&name("hello"));
        log.write(LogLine::host(log.app(), "old".to_owned()));
        let place = logs.end(log.app()).await.expect("the writer answers");
        let mut at_end =
            Follower::of_newest(logs.clone(), Arc::clone(&log), LineFilter::default(), 0).await.expect("follows");
        let mut behind = Follower::after(logs.clone(), log, LineFilter::default(), place).await.expect("follows");
        logs.forget(&name("hello")).await;
        for follower in [&mut at_end, &mut behind] {
            assert_eq!(follower.next().await.err(), Some(FollowEnd::Destroyed));
        }
        service.stop();
    }

    #[tokio::test]
    async fn an_unwritable_folder_loses_only_its_own_lines() {
        let dir = tempfile::tempdir().expect("makes a folder");
        std::fs::write(dir.path().join("hello"), "in the way").expect("writes");
        let service = start(dir.path(), 1 << 20, 1 << 20);
        let logs = service.handle();
        let (hello, other) = (logs.app(&name("hello")), logs.app(&name("other")));
        hello.write(LogLine::host(hello.app(), "lost".to_owned()));
        other.write(LogLine::host(other.app(), "kept".to_owned()));
        assert_eq!(
            messages(&logs.page(&name("other"), LineFilter::default(), 10, None).await.expect("reads")),
            ["kept"]
        );
        assert_eq!(logs.dropped(), 1);
        service.stop();
    }
}

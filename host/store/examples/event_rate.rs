//! Measures the event queue on the disk of a folder: `event_rate FOLDER [BACKLOG]`. Owns the load.
//! Never judges a figure.

#![allow(clippy::expect_used, reason = "a measurement ends at the first failure")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use isopod_policy::{AppKind, AppName, AppType, ProcessName};
use isopod_store::{
    Effects, Event, EventFilter, EventPayload, EventQueue, EventState, Intended, KeyWrite, Lease, NewApp, NewEvent,
    Outcome, Page, Store,
};
use jiff::Timestamp;

static WRITTEN: AtomicU64 = AtomicU64::new(0);
const CALLERS: usize = 64;
const BATCH: usize = 1_000;
const RUNS_FOR: Duration = Duration::from_secs(4);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("the first argument is a folder");
    let backlog = arguments.next().map_or(1_000_000, |text| text.parse().expect("the backlog is a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the runtime starts");
    runtime.block_on(measure(Path::new(&folder), backlog));
}

fn new(id: String) -> NewEvent {
    let data = Some(vec![b'x'; 1_024]);
    NewEvent {
        process: worker(),
        event: Event {
            id,
            source: "bench".to_owned(),
            event_type: "measured".to_owned(),
            subject: None,
            payload: EventPayload { data, ..EventPayload::default() },
        },
        is_ordered: false,
        not_before: None,
        expires_at: None,
        attempts_max: 10,
    }
}

fn app() -> AppName {
    "bench".parse().expect("the name is valid")
}

fn worker() -> ProcessName {
    "worker".parse().expect("the name is valid")
}

fn report(what: &str, events: usize, took: Duration) {
    let rate = events as f64 / took.as_secs_f64();
    println!("{what}: {rate:.0} events per second ({events} in {:.2} s)", took.as_secs_f64());
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written: u64 = io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0);
    println!(
        "  {} bytes per event written",
        (written - WRITTEN.swap(written, Ordering::Relaxed)) / events.max(1) as u64
    );
}

async fn measure(folder: &Path, backlog: usize) {
    let store = Store::open(folder).expect("the store opens");
    let new_app = NewApp {
        name: app(),
        kind: AppKind::App,
        app_type: AppType::Dev,
        intended: Intended::Running,
        created_at: Timestamp::now(),
    };
    store.create_app(new_app).await.expect("the app is created");
    accept_singly(&store, 1).await;
    accept_singly(&store, CALLERS).await;
    drain(&store, "claim and settle, batches").await;
    fill(&store, 20_000).await;
    handle_singly(&store).await;
    fill(&store, backlog).await;
    drop(store);
    let begin = Instant::now();
    let store = Store::open(folder).expect("the store opens again");
    println!("open with a backlog of {backlog}: {:?}", begin.elapsed());
    println!("memory after the open: {}", memory());
    look_at(&store).await;
    let begin = Instant::now();
    let claimed = store.events().claim(&app(), &worker(), 64, Timestamp::now()).await.expect("it is claimed");
    println!("first claim of {} with a backlog of {backlog}: {:?}", claimed.claims.len(), begin.elapsed());
    let begin = Instant::now();
    let queues = store.events().app_queues().await.expect("the apps are read");
    println!("start-up scan: {:?}, {} app", begin.elapsed(), queues.len());
    settle(&store, claimed.claims.iter().map(|claim| claim.lease).collect()).await;
    accept_singly(&store, CALLERS).await;
    drain(&store, "drain of the backlog").await;
    println!("memory: {}", memory());
    shrink(&store, folder).await;
}

/// Measures the reads of the API and of a starting host.
async fn look_at(store: &Store) {
    let begin = Instant::now();
    store.events().stats(&app(), Timestamp::now()).await.expect("they are read");
    println!("statistics, which open the database: {:?}", begin.elapsed());
    let begin = Instant::now();
    store.events().stats(&app(), Timestamp::now()).await.expect("they are read");
    println!("statistics: {:?}", begin.elapsed());
    for state in [None, Some(EventState::Ready), Some(EventState::Delayed), Some(EventState::Done)] {
        let (begin, filter) = (Instant::now(), EventFilter { state, ..EventFilter::default() });
        let page = store.events().list(&app(), filter, Page::default()).await.expect("it is read");
        println!("page of {state:?}: {} events in {:?}", page.items.len(), begin.elapsed());
    }
}

/// Frees the disk space of the drained backlog.
async fn shrink(store: &Store, folder: &Path) {
    let size = || std::fs::metadata(folder.join("apps/bench/kv.db")).map_or(0, |found| found.len()) >> 20;
    println!("the file has {} MiB", size());
    let (begin, mut steps, mut longest) = (Instant::now(), 0, Duration::ZERO);
    loop {
        let step = Instant::now();
        let has_more = store.events().shrink(&app()).await.expect("it shrinks");
        (steps, longest) = (steps + 1, longest.max(step.elapsed()));
        if !has_more {
            break;
        }
    }
    println!("shrunk in {steps} steps, {:?}, the longest {longest:?}", begin.elapsed());
    store.look_for_losses().await.expect("it is looked at");
    store.look_for_losses().await.expect("the idle database is closed");
    println!("the file has {} MiB", size());
}

/// Returns the memory of this process: the current value and the maximum.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    lines.collect::<Vec<_>>().join(", ")
}

/// Accepts one event per call, from concurrent callers.
async fn accept_singly(store: &Store, callers: usize) {
    let begin = Instant::now();
    let tasks = (0..callers).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < RUNS_FOR {
                let sent = Instant::now();
                let id = format!("{:016x}-{caller:02}", Timestamp::now().as_nanosecond());
                store.events().accept(&app(), vec![new(id)], Timestamp::now()).await.expect("it is accepted");
                latencies.push(sent.elapsed());
            }
            latencies
        })
    });
    let mut latencies = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        latencies.extend(task.await.expect("the caller ends"));
    }
    report(&format!("accept, {callers} callers"), latencies.len(), begin.elapsed());
    latencies.sort();
    let at = |share: usize| latencies.get(latencies.len() * share / 1_000).copied().unwrap_or_default();
    println!("  latency: median {:?}, p99 {:?}, p99.9 {:?}, max {:?}", at(500), at(990), at(999), latencies.last());
}

/// Accepts events in batches, two at a time.
async fn fill(store: &Store, count: usize) {
    let begin = Instant::now();
    let tasks = (0..2).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let prefix = Timestamp::now().as_nanosecond();
            for batch in 0..count / BATCH / 2 {
                let events =
                    (0..BATCH).map(|number| new(format!("{prefix:x}-{caller}-{batch:06}-{number:03}"))).collect();
                store.events().accept(&app(), events, Timestamp::now()).await.expect("they are accepted");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("the caller ends");
    }
    report("accept, batches of 1000", count / BATCH / 2 * BATCH * 2, begin.elapsed());
}

async fn settle(store: &Store, leases: Vec<Lease>) {
    let done = |lease| (lease, Outcome::Done { effects: Effects::default() });
    let outcomes = leases.into_iter().map(done).collect();
    for settled in store.events().settle_all(&app(), outcomes, Timestamp::now()).await.expect("it is committed") {
        settled.expect("it is settled");
    }
}

/// Handles all events in batches.
async fn drain(store: &Store, what: &str) {
    let (begin, mut handled) = (Instant::now(), 0);
    loop {
        let claimed = store.events().claim(&app(), &worker(), 256, Timestamp::now()).await.expect("it is claimed");
        if claimed.claims.is_empty() {
            break;
        }
        handled += claimed.claims.len();
        settle(store, claimed.claims.into_iter().map(|claim| claim.lease).collect()).await;
    }
    report(what, handled, begin.elapsed());
}

/// Handles all events like a host: claims in advance, and settles each delivery separately, with
/// one key.
async fn handle_singly(store: &Store) {
    let (begin, mut handled) = (Instant::now(), 0);
    loop {
        let claimed = store.events().claim(&app(), &worker(), 64, Timestamp::now()).await.expect("it is claimed");
        if claimed.claims.is_empty() {
            break;
        }
        handled += claimed.claims.len();
        let tasks = claimed.claims.into_iter().map(|claim| {
            let store = store.clone();
            tokio::spawn(async move {
                let key = format!("{}", claim.lease.seq.0 % 100);
                let write = KeyWrite { bucket: String::new(), key, value: Some(b"seen".to_vec()) };
                let effects = Effects { writes: vec![write], ..Effects::default() };
                let outcome = Outcome::Done { effects };
                store.events().settle(&app(), claim.lease, outcome, Timestamp::now()).await.expect("it is settled");
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("the delivery ends");
        }
    }
    report("claim 64, settle each with one key", handled, begin.elapsed());
}

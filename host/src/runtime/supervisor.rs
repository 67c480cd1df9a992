//! Keeps the warm instances of a pool there and well: starts what is missing, with back-off, and replaces what fails
//! its health check. Tells when starting again doesn't help; what follows from that is decided elsewhere.

use super::{health, pool::Pool};
use crate::limits;
use isopod_engine::{Fault, Level, OutputLine, Stream};
use isopod_executor::Class;
use isopod_policy::{Next, ProcessName, ReleaseNumber, Restarts};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

/// A process type that can't be kept going.
#[derive(Debug)]
pub(crate) struct CrashReport {
    pub(crate) app: String,
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) process: ProcessName,
    /// What happened, with its numbers.
    pub(crate) detail: String,
}

/// Keeps a pool's warm instances until its release ends.
pub(super) async fn supervise(pool: Arc<Pool>, release: Option<ReleaseNumber>, trouble: mpsc::Sender<CrashReport>) {
    let mut restarts = Restarts::default();
    let health = pool.definition().health.clone();
    let has_own_check = pool.program().info().entries.health;
    let mut failed_in_a_row = 0;
    let mut begun = Instant::now();
    loop {
        while pool.live() < pool.warm_min() {
            let starting = Arc::clone(&pool);
            let start = async move { starting.resources().start(starting.program()).await };
            let ended = match pool.resources().run(Class::Pull, pool.program(), start).await.0 {
                Ok(instance) => {
                    pool.add(instance);
                    begun = Instant::now();
                    continue;
                }
                // That says nothing of the app.
                Err(Fault::NoRoom { .. }) => {
                    sleep(limits::NO_ROOM_PAUSE).await;
                    continue;
                }
                Err(fault) => format!("an instance did not start: {fault}"),
            };
            match restarts.ended(Duration::ZERO, rand::random()) {
                Next::Restart { after } => sleep(after).await,
                Next::CrashLoop { crashes, .. } => {
                    tell(&pool, release, &trouble, format!("{ended}, {crashes} times in a row")).await;
                    // Whoever is told ends this release or leaves it be.
                    sleep(limits::CRASH_LOOP_PAUSE).await;
                    restarts = Restarts::default();
                }
            }
        }
        let interval = health.as_ref().map_or(limits::HEALTH_INTERVAL, |health| health.interval);
        tokio::select! {
            () = pool.ended.notified() => {}
            () = sleep(interval), if health.is_some() || has_own_check => {
                let Err(detail) = ask_one(&pool).await else {
                    failed_in_a_row = 0;
                    continue;
                };
                failed_in_a_row += 1;
                let threshold = health.as_ref().map_or(limits::HEALTH_THRESHOLD, |health| health.threshold);
                if failed_in_a_row < threshold {
                    continue;
                }
                failed_in_a_row = 0;
                let detail = format!("the health check failed {threshold} times in a row: {detail}");
                let replaced = pool.renew_idle();
                say(&pool, &format!("{}: {detail}; idle instances that are started anew: {replaced}", pool.process()));
                match restarts.ended(begun.elapsed(), rand::random()) {
                    Next::Restart { after } => sleep(after).await,
                    Next::CrashLoop { crashes, .. } => {
                        tell(&pool, release, &trouble, format!("{detail}; {crashes} new instances were no better")).await;
                        sleep(limits::CRASH_LOOP_PAUSE).await;
                        restarts = Restarts::default();
                    }
                }
            }
        }
    }
}

/// Asks one instance that has nothing to do. That all are busy says nothing bad.
async fn ask_one(pool: &Arc<Pool>) -> Result<(), String> {
    let Some(mut lease) = pool.lease_idle() else { return Ok(()) };
    let Some(instance) = lease.take() else { return Ok(()) };
    let (outcome, left) = health::check(pool.resources(), instance, pool.definition()).await;
    lease.put(left);
    outcome
}

/// Writes into the app's own log, where its author looks for it.
fn say(pool: &Pool, text: &str) {
    let stream = Stream::Log(Level::Warn);
    pool.program().sandbox().output.line(OutputLine { stream, context: "isopod", request_id: "", text });
}

pub(super) async fn report_crash(
    app: &str,
    process: &ProcessName,
    release: Option<ReleaseNumber>,
    trouble: &mpsc::Sender<CrashReport>,
    detail: String,
) {
    let told = CrashReport { app: app.to_owned(), release, process: process.clone(), detail };
    // Nobody listens when the host stops.
    drop(trouble.send(told).await);
}

async fn tell(pool: &Pool, release: Option<ReleaseNumber>, trouble: &mpsc::Sender<CrashReport>, detail: String) {
    report_crash(&pool.program().sandbox().app, pool.process(), release, trouble, detail).await;
}

//! The supervisor of a pool's warm instances: starts missing instances with back-off, and replaces
//! instances that fail their health check. Reports crash loops, and never acts on them.

use super::{health, pool::Pool};
use crate::runtime::limits;
use isopod_engine::{Fault, Level, Origin, OutputLine, Stream};
use isopod_executor::Class;
use isopod_policy::{Next, ProcessName, ReleaseNumber, Restarts, limits as policy};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

/// The report of a process type that keeps failing after restarts.
#[derive(Debug)]
pub(crate) struct CrashReport {
    pub(crate) app: String,
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) process: ProcessName,
    /// A description of the failures, with their number.
    pub(crate) detail: String,
}

/// Supervises a pool's warm instances until the release stops.
pub(super) async fn supervise(pool: Arc<Pool>, release: Option<ReleaseNumber>, reports: mpsc::Sender<CrashReport>) {
    let mut restarts = Restarts::default();
    let health = pool.definition().health.clone();
    let has_own_check = pool.program().info().entries.health;
    let mut consecutive_failures = 0;
    let mut started = Instant::now();
    loop {
        while pool.live() < pool.warm_min() {
            let starting = Arc::clone(&pool);
            let start = Box::pin(async move { starting.resources().start(starting.program()).await });
            let failure = match pool.resources().run(Class::Pull, pool.program(), start).await.0 {
                Ok(instance) => {
                    pool.add_instance(instance);
                    started = Instant::now();
                    continue;
                }
                // A full host isn't the app's fault.
                Err(Fault::NoRoom { .. }) => {
                    sleep(limits::NO_ROOM_PAUSE).await;
                    continue;
                }
                Err(fault) => format!("an instance did not start: {fault}"),
            };
            match restarts.ended(Duration::ZERO, rand::random()) {
                Next::Restart { after } => sleep(after).await,
                Next::CrashLoop { crashes, .. } => {
                    report(&pool, release, &reports, format!("{failure}, {crashes} times in a row")).await;
                    // Meanwhile the receiver of the report may take this release out of service.
                    sleep(limits::CRASH_LOOP_PAUSE).await;
                    restarts = Restarts::default();
                }
            }
        }
        let interval = health.as_ref().map_or(policy::HEALTH_INTERVAL_USUAL, |health| health.interval);
        tokio::select! {
            () = pool.instance_ended.notified() => {}
            () = sleep(interval), if health.is_some() || has_own_check => {
                let Err(detail) = check_idle(&pool).await else {
                    consecutive_failures = 0;
                    continue;
                };
                consecutive_failures += 1;
                let threshold = health.as_ref().map_or(policy::HEALTH_THRESHOLD_USUAL, |health| health.threshold);
                if consecutive_failures < threshold {
                    continue;
                }
                consecutive_failures = 0;
                let detail = format!("the health check failed {threshold} times in a row: {detail}");
                let replaced = pool.recycle_idle();
                log_warning(&pool, &format!("{}: {detail}; idle instances restarted: {replaced}", pool.process()));
                match restarts.ended(started.elapsed(), rand::random()) {
                    Next::Restart { after } => sleep(after).await,
                    Next::CrashLoop { crashes, .. } => {
                        report(&pool, release, &reports, format!("{detail}; {crashes} new instances failed too")).await;
                        sleep(limits::CRASH_LOOP_PAUSE).await;
                        restarts = Restarts::default();
                    }
                }
            }
        }
    }
}

/// Checks the health of one idle instance. Returns `Ok` if all instances are busy.
async fn check_idle(pool: &Arc<Pool>) -> Result<(), String> {
    let Some(mut lease) = pool.lease_idle() else { return Ok(()) };
    let Some(instance) = lease.take_instance() else { return Ok(()) };
    let (outcome, returned) = health::check(pool.resources(), instance, pool.definition()).await;
    lease.end_call(outcome.is_ok(), returned);
    outcome
}

/// Writes a warning to the app's log.
fn log_warning(pool: &Pool, text: &str) {
    let stream = Stream::Log(Level::Warn);
    pool.program().sandbox().output.line(OutputLine::new(stream, "isopod", Origin::default(), text));
}

pub(super) async fn report_crash(
    app: &str,
    process: &ProcessName,
    release: Option<ReleaseNumber>,
    reports: &mpsc::Sender<CrashReport>,
    detail: String,
) {
    let crash = CrashReport { app: app.to_owned(), release, process: process.clone(), detail };
    // The receiver is gone once the host stops.
    drop(reports.send(crash).await);
}

async fn report(pool: &Pool, release: Option<ReleaseNumber>, reports: &mpsc::Sender<CrashReport>, detail: String) {
    report_crash(&pool.program().sandbox().app, pool.process(), release, reports, detail).await;
}

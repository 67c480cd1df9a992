//! Delivers the events of one app: claims those that are due, runs each handler as push work, and
//! settles the outcome. Its task exists while the app has events that have not ended. Never decides
//! whether a failed event is retried: `outcome.rs` does.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use isopod_engine::EffectsCharge;
use isopod_executor::Class;
use isopod_policy::{Process, ProcessName, RequestId, RetryPolicy};
use isopod_store::{Claim, Effects, Lease, Outcome, QueueStats, Settled, StoreError};
use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    conversion,
    dead_letter::DeadLetter,
    intake::Intake,
    next_check::{LastCheck, NextCheck, QueueState},
    outcome::{Attempt, Failure},
    pace::Pace,
    settling::{Running, Settling},
    shares::Shares,
    tasks::{Registration, Woken},
    warnings::Warnings,
};
use crate::{
    control::{self, AppRecord, limits, shutdown::Shutdown},
    failpoint,
    observe::logs::LogLine,
    runtime::ActiveRelease,
};

/// The delivery of one app's events.
pub(super) struct Delivery {
    pub(super) intake: Arc<Intake>,
    pub(super) shutdown: Shutdown,
    pub(super) app: Arc<AppRecord>,
    pub(super) registration: Registration,
    pub(super) settling: Arc<Settling<(Lease, Outcome)>>,
    /// The queue of reports about dead letters.
    pub(super) dead_letters: mpsc::Sender<DeadLetter>,
    pub(super) warnings: Warnings,
}

/// The running deliveries, and the result of the last check.
struct Started {
    /// Each returns its process type.
    running: JoinSet<ProcessName>,
    shares: Shares,
    absent: Absent,
    last: LastCheck,
    checked_at: Instant,
}

impl Started {
    fn new() -> Self {
        // The first check is due.
        let last = LastCheck { is_due: true, ..LastCheck::new(NextCheck::Later) };
        let (running, shares, absent) = (JoinSet::new(), Shares::default(), Absent::new());
        Self { running, shares, absent, last, checked_at: Instant::now() }
    }
}

/// Process types that have a queue but are missing in the last known release.
type Absent = HashSet<ProcessName>;

impl Delivery {
    /// Delivers events until the queue has no further event, the app can't take events, the app is
    /// destroyed, or the host stops. Waits for running deliveries first. Their handlers are
    /// cancelled at the end of the drain time of the app or of the host.
    pub(super) async fn run(self: Arc<Self>) {
        let closing = self.shutdown.closing.clone();
        let (mut started, mut pace) = (Started::new(), Pace::new(Instant::now()));
        let mut destroyed = pin!(self.app.destroyed());
        loop {
            let is_ending = closing.is_cancelled() || self.app.is_destroyed();
            let next = if is_ending { NextCheck::Later } else { self.start_due(&mut started, &mut pace).await };
            let is_idle = started.running.is_empty() && next == NextCheck::Later;
            if is_idle && (is_ending || self.registration.retire()) {
                return;
            }
            tokio::select! {
                biased;
                () = &mut destroyed, if !is_ending => {}
                Some(ended) = started.running.join_next() => {
                    pace.note_end(Instant::now());
                    started.last.is_due |= ended.map_or(true, |process| started.shares.has_room(&process));
                }
                woken = self.registration.woken(started.last.delayed_due) => match woken {
                    Woken::Now => {
                        started.last.is_outdated = true;
                        // The task is also woken when another release serves.
                        started.absent.clear();
                    }
                    Woken::DueAt(due) => started.last.delayed_due = Some(due),
                },
                () = closing.cancelled(), if !closing.is_cancelled() => {}
                () = until(next) => started.last.is_due = true,
            }
        }
    }

    /// Claims as many due events as the app can run, and starts their deliveries. Returns when the
    /// queue is to be checked next.
    async fn start_due(self: &Arc<Self>, started: &mut Started, pace: &mut Pace) -> NextCheck {
        let (began, before) = (Instant::now(), started.running.len());
        let may_wait = started.shares.is_any_full() || !started.last.is_outdated;
        let interval = if may_wait { limits::QUEUE_CHECK_INTERVAL_MIN } else { Duration::ZERO };
        let wait = interval.saturating_sub(started.checked_at.elapsed());
        if let Some(next) = started.last.postponed(Timestamp::now(), wait) {
            return next;
        }
        self.registration.wake().begin_check();
        let claimed = self.claim_due(pace.ahead(began), started).await;
        if started.running.len() > before {
            pace.note_claim(began.elapsed());
        }
        let next = match claimed {
            Ok(next) => next,
            // A retry can't succeed before the host restarts.
            Err(error @ StoreError::TooNew { .. }) => {
                tracing::error!(app = %self.app.name, %error, "the app's events are not delivered");
                NextCheck::Later
            }
            Err(error) => {
                if self.warnings.is_due(Instant::now()) {
                    tracing::warn!(app = %self.app.name, %error, "the app's event queue can't be read; retrying");
                }
                NextCheck::At(after(limits::QUEUE_RETRY_INTERVAL))
            }
        };
        (started.last, started.checked_at) = (LastCheck::new(next), Instant::now());
        next
    }

    fn push_cores(&self) -> usize {
        usize::try_from(self.app.traffic.resources().cores(Class::Push)).unwrap_or(usize::MAX)
    }

    /// Claims due events of each process type, and starts their deliveries. `ahead` is the number
    /// of events to claim in advance.
    async fn claim_due(self: &Arc<Self>, ahead: usize, started: &mut Started) -> Result<NextCheck, StoreError> {
        let Some(_guard) = self.app.data_gate.guard() else { return Ok(NextCheck::Later) };
        let stats = self.intake.stats(&self.app).await?;
        let Started { running, shares, absent, .. } = started;
        let resources = self.app.traffic.resources();
        resources.set_stored_work(claimable_at_most(&stats, absent));
        let now = Timestamp::now();
        let is_due = |of: &QueueStats| of.has_claimable || of.next_due.is_some_and(|due| due <= now);
        let is_absent = |of: &QueueStats| absent.contains(&of.process);
        // Without a due event, the release isn't needed, and its lookup would thaw an idle app.
        if !stats.iter().any(|of| is_due(of) && !is_absent(of)) {
            let state = |of| if is_absent(of) { QueueState::Orphaned } else { QueueState::unclaimed(of) };
            return Ok(NextCheck::of(stats.iter().map(state), now));
        }
        // Woken once a release serves.
        let Ok(release) = self.intake.directory.serving(&self.app.traffic).await else { return Ok(NextCheck::Later) };
        let cores = self.push_cores();
        // The pools would refuse more events than fit into their queues.
        let queued = usize::try_from(release.program().sandbox().limits.queue_max).unwrap_or(usize::MAX);
        let waiting = stats.iter().filter(|of| of.backlog() > 0).count().max(1);
        let most_of_each = (limits::DELIVERIES_PER_APP_MAX / waiting).min(cores.saturating_add(queued));
        let mut room = limits::DELIVERIES_PER_APP_MAX.saturating_sub(running.len());
        let (mut claimed, mut queues) = (0, Vec::with_capacity(stats.len()));
        shares.forget_idle();
        absent.clear();
        for of in &stats {
            let Some(definition) = release.event_process(&of.process) else {
                absent.insert(of.process.clone());
                queues.push(QueueState::Orphaned);
                continue;
            };
            // With one attempt, no event is claimed in advance: if the host is killed, it would
            // become a dead letter, even if its handler has not started.
            let (limit, ahead) = match definition.retry_policy().attempts {
                1 => (cores.min(usize::try_from(release.instances_max(&of.process)).unwrap_or(usize::MAX)), 0),
                _ => (cores.saturating_add(ahead), ahead),
            };
            let limit = limit.min(most_of_each);
            let most = if is_due(of) { shares.room(&of.process, limit, ahead).min(room) } else { 0 };
            if most == 0 {
                queues.push(QueueState::unclaimed(of));
                continue;
            }
            let found = self.intake.queue.claim(&self.app.name, &of.process, most, now).await?;
            (claimed, room) = (claimed + found.claims.len(), room - found.claims.len());
            queues.push(QueueState::claimed(&found, found.claims.len() < most));
            for claim in found.claims {
                let (delivery, process) = (Arc::clone(self), of.process.clone());
                let (counted, share) = (self.settling.begin(), shares.begin(&of.process));
                running.spawn(async move {
                    delivery.deliver(&process, &claim, &counted).await;
                    drop(share);
                    process
                });
            }
        }
        resources.set_stored_work(claimable_at_most(&stats, absent).saturating_sub(claimed as u64));
        Ok(NextCheck::of(queues, now))
    }

    /// Delivers one event until its outcome is stored. A panic fails the attempt, so that the event
    /// doesn't stay leased.
    async fn deliver(&self, process: &ProcessName, claim: &Claim, running: &Running<(Lease, Outcome)>) {
        let request_id = conversion::request_id(&claim.event.source, &claim.event.id);
        let delivery = AssertUnwindSafe(self.attempt(process, claim, request_id, running)).catch_unwind();
        if delivery.await.is_err() {
            tracing::error!(app = %self.app.name, event = claim.event.id, "the delivery of an event panicked");
            self.fail(claim, request_id, policy_at_acceptance(claim), &Failure::Panicked, running).await;
        }
    }

    async fn attempt(
        &self,
        process: &ProcessName,
        claim: &Claim,
        request_id: RequestId,
        running: &Running<(Lease, Outcome)>,
    ) {
        failpoint::here("event-delivery");
        let mut policy = policy_at_acceptance(claim);
        for _ in 0..limits::CONFLICTS_MAX {
            let mut withdrawn = pin!(self.withdrawn(claim));
            let release = tokio::select! {
                biased;
                () = &mut withdrawn => Err(Failure::Withdrawn),
                release = self.intake.directory.serving(&self.app.traffic) => release.map_err(Failure::NotServing),
            };
            let release = match release {
                Ok(release) => release,
                Err(failure) => return self.fail(claim, request_id, policy, &failure, running).await,
            };
            policy = release.event_process(process).map_or(policy, Process::retry_policy);
            let (outcome, charge) = match self.call(&release, process, claim, request_id, withdrawn).await {
                Ok((effects, charge)) => (Outcome::Done { effects }, charge),
                Err(failure) => return self.fail(claim, request_id, policy, &failure, running).await,
            };
            let settled = self.settle(claim.lease, outcome, running).await;
            drop(charge);
            match settled {
                Ok(Settled::Committed { has_emitted }) => {
                    if has_emitted {
                        self.registration.wake().wake();
                    }
                    return;
                }
                Ok(Settled::Conflict) => {}
                Ok(Settled::LeaseLost) => return,
                Err(error) => {
                    return self.fail(claim, request_id, policy, &Failure::of_commit(&error), running).await;
                }
            }
        }
        self.fail(claim, request_id, policy, &Failure::Conflicts, running).await;
    }

    /// Completes when the handler must no longer be called, because the event has expired, the app
    /// is destroyed or the host stops. The event then returns to the queue, and the next claim
    /// cancels it if it has expired.
    async fn withdrawn(&self, claim: &Claim) {
        tokio::select! {
            biased;
            () = self.shutdown.closing.cancelled() => {}
            () = self.app.destroyed() => {}
            () = expired(claim.expires_at) => {}
        }
    }

    /// Runs the handler once, unless `withdrawn` completes first. Returns its effects, and the
    /// charge for their memory, which must be held until the commit.
    async fn call(
        &self,
        release: &ActiveRelease,
        process: &ProcessName,
        claim: &Claim,
        request_id: RequestId,
        withdrawn: impl Future<Output = ()>,
    ) -> Result<(Effects, EffectsCharge), Failure> {
        if let Some(target) = conversion::forward_target(&claim.event) {
            let granted = release.program().sandbox().grants.allows_events_to(target.name);
            self.intake.forward(&self.app, target, granted, claim).await?;
            return Ok((Effects::default(), EffectsCharge::default()));
        }
        let handled = release.stored_event(process, conversion::to_guest(claim), request_id, withdrawn).await;
        let handled = handled.map_err(Failure::Invoke)?.ok_or(Failure::Withdrawn)?;
        let mut effects = handled.map_err(Failure::Handler)?.effects;
        let charge = effects.take_charge();
        let id_of = |name: &str| self.intake.app_named(name).map(|app| app.id.clone());
        Ok((conversion::effects(effects, release, &self.app.name, id_of, Timestamp::now())?, charge))
    }

    /// Settles a failed delivery, and writes the failure to the app's log with the request id of
    /// the guest's lines. While the store can't be written, retries until the drain time ends; the
    /// lease then ends with the host session.
    async fn fail(
        &self,
        claim: &Claim,
        request_id: RequestId,
        policy: RetryPolicy,
        failure: &Failure,
        running: &Running<(Lease, Outcome)>,
    ) {
        failure.places_found().await;
        let attempt = Attempt {
            number: claim.attempt,
            last_error: claim.last_error.as_ref(),
            policy,
            accepted_at: claim.accepted_at,
            now: Timestamp::now(),
            random: rand::random(),
        };
        let outcome = attempt.fails_with(failure);
        if !attempt.omits_line(failure, &outcome) {
            let line = LogLine::host(&self.app.name, attempt.describe(&claim.event.id, &outcome));
            let line = line.about_event(&claim.event.id);
            self.app.log.write(LogLine { request_id: Some(request_id.to_string()), ..line });
        }
        while let Err(error) = self.settle(claim.lease, outcome.clone(), running).await {
            if self.warnings.is_due(Instant::now()) {
                tracing::warn!(app = %self.app.name, %error, "the outcome of a delivery can't be stored; retrying");
            }
            let pause = tokio::time::sleep(limits::QUEUE_RETRY_INTERVAL);
            if self.shutdown.cut_off.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
        if let Outcome::Dead { error } = outcome {
            let (app, event) = (Arc::clone(&self.app), claim.event.id.clone());
            // A full queue drops the report instead of delaying the delivery.
            drop(self.dead_letters.try_send(DeadLetter { app, event, error }));
        }
    }

    async fn settle(
        &self,
        lease: Lease,
        outcome: Outcome,
        running: &Running<(Lease, Outcome)>,
    ) -> Result<Settled, StoreError> {
        let commit = async |outcomes: Vec<(Lease, Outcome)>| {
            // The queue of a destroyed app is removed with its data.
            let Some(_guard) = self.app.data_gate.guard() else {
                return Ok(outcomes.iter().map(|_| Ok(Settled::LeaseLost)).collect());
            };
            self.intake.queue.settle_all(&self.app.name, outcomes, Timestamp::now()).await
        };
        let bytes = outcome.effect_bytes();
        running.settle((lease, outcome), bytes, commit).await
    }
}

/// Completes at the time of the next check.
async fn until(next: NextCheck) {
    let NextCheck::At(time) = next else { return std::future::pending().await };
    let pause = Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
    // A pause is bounded, so that a jump of the clock is detected.
    let longest = control::failpoint::interval("queue-check", limits::QUEUE_CHECK_INTERVAL_MAX);
    tokio::time::sleep(pause.min(longest)).await;
}

/// Completes when the clock reaches this time. Without a time, never completes.
async fn expired(at: Option<Timestamp>) {
    let Some(at) = at else { return std::future::pending().await };
    while Timestamp::now() < at {
        until(NextCheck::At(at)).await;
    }
}

/// Returns an upper bound of the number of events of all process types that can be claimed now.
/// Excludes events that wait for an earlier event of their subject or for an absent process type,
/// so that they don't keep an idle app loaded.
fn claimable_at_most(stats: &[QueueStats], absent: &Absent) -> u64 {
    let present = stats.iter().filter(|of| !absent.contains(&of.process));
    present.map(QueueStats::claimable_at_most).sum()
}

/// Returns the retry policy of an event while its process type is unknown.
fn policy_at_acceptance(claim: &Claim) -> RetryPolicy {
    RetryPolicy { attempts: claim.attempts_max, ..RetryPolicy::default() }
}

fn after(delay: Duration) -> Timestamp {
    Timestamp::now().saturating_add(delay).unwrap_or(Timestamp::MAX)
}

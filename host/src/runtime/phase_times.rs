//! Records the phases of one request while it is handled, and the time of its guest. Reads a clock
//! once per call, at its pauses, and around steps that are slow anyway. Never decides anything.

use isopod_engine::CallWaits;
use isopod_executor::{CpuCounter, slice};
use isopod_policy::{Phase, Timing, microseconds};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// The times of the phases of one request. Only the request's own task changes them.
#[derive(Debug, Default)]
pub(crate) struct PhaseTimes([AtomicU32; Phase::COUNT]);

impl PhaseTimes {
    /// Adds time to a phase.
    pub(crate) fn add(&self, phase: Phase, time: Duration) {
        if time > Duration::ZERO {
            let sum_us = &self.0[phase.index()];
            sum_us.store(sum_us.load(Ordering::Relaxed).saturating_add(microseconds(time)), Ordering::Relaxed);
        }
    }

    /// Awaits a step, and adds its time to a phase, also if the step is cancelled.
    pub(crate) async fn measure<T>(&self, phase: Phase, step: impl Future<Output = T>) -> T {
        let _step = Step { times: self, phase, started: Instant::now() };
        step.await
    }

    /// Returns the times so far.
    pub(crate) fn read(&self) -> Timing {
        Timing::new(std::array::from_fn(|index| self.0[index].load(Ordering::Relaxed)))
    }
}

/// A step in progress. Dropping it adds its time.
struct Step<'a> {
    times: &'a PhaseTimes,
    phase: Phase,
    started: Instant,
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.times.add(self.phase, self.started.elapsed());
    }
}

/// Awaits a step of a job, and adds its time to a phase if the job is a request.
pub(super) async fn measure<T>(times: Option<&PhaseTimes>, phase: Phase, step: impl Future<Output = T>) -> T {
    match times {
        Some(times) => times.measure(phase, step).await,
        None => step.await,
    }
}

/// Measures the guest's part of a request, also if it is cancelled. Dropping it adds the CPU time
/// and the waits to the phases of the request.
pub(super) struct GuestTime<'a> {
    times: &'a PhaseTimes,
    /// The counter of a slot, which is leased to this request only.
    cpu: CpuCounter,
    cpu_before: Duration,
    waits: Option<Arc<CallWaits>>,
}

impl<'a> GuestTime<'a> {
    /// Begins the measurement of a call. `waits` are those of its instance; `None` if the instance
    /// is not started yet.
    pub(super) fn begin(times: &'a PhaseTimes, cpu: &CpuCounter, waits: Option<&Arc<CallWaits>>) -> Self {
        waits.iter().for_each(|waits| waits.begin_call());
        Self { times, cpu: cpu.clone(), cpu_before: cpu.time(), waits: waits.cloned() }
    }

    /// Returns work that records its pauses.
    pub(super) fn observe<W: Future>(&self, work: W) -> Observed<W> {
        // A call that starts on a worker thread waits for its first slice from here on.
        Observed { work, created: Some(Instant::now()), pauses: Pauses { waits: self.waits.clone(), current: None } }
    }
}

impl Drop for GuestTime<'_> {
    fn drop(&mut self) {
        self.times.add(Phase::Cpu, self.cpu.time().saturating_sub(self.cpu_before));
        if let Some(waits) = &self.waits {
            Phase::WAITS.into_iter().for_each(|phase| self.times.add(phase, waits.waited(phase)));
        }
    }
}

pin_project! {
    /// A guest's call whose pauses are recorded.
    pub(super) struct Observed<W> {
        #[pin]
        work: W,
        // When the call was created, until its first poll.
        created: Option<Instant>,
        pauses: Pauses,
    }
}

/// The pauses of a call: it was polled and isn't ready.
struct Pauses {
    waits: Option<Arc<CallWaits>>,
    /// When the current pause began, and what the call waits for.
    current: Option<(Instant, Phase)>,
}

impl Pauses {
    fn begin(&mut self) {
        let Some(waits) = &self.waits else { return };
        // A call whose slice has expired could continue immediately.
        let cause = if slice::has_yielded() { Some(Phase::Scheduling) } else { waits.cause() };
        self.current = cause.map(|phase| (Instant::now(), phase));
    }

    fn end(&mut self) {
        if let Some((since, phase)) = self.current.take() {
            self.add(phase, since);
        }
    }

    fn add(&self, phase: Phase, since: Instant) {
        if let Some(waits) = &self.waits {
            waits.add(phase, since.elapsed());
        }
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        self.end();
    }
}

impl<W: Future> Future for Observed<W> {
    type Output = W::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<W::Output> {
        let this = self.project();
        match this.created.take() {
            Some(created) if slice::is_on_worker() => this.pauses.add(Phase::Scheduling, created),
            Some(_) | None => this.pauses.end(),
        }
        let polled = this.work.poll(cx);
        if polled.is_pending() {
            this.pauses.begin();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isopod_executor::{Class, Config, Executor, Weight};
    use std::{
        future::{pending, ready},
        num::{NonZeroU32, NonZeroUsize},
    };

    const WAIT: Duration = Duration::from_millis(5);

    fn measured(work: impl FnOnce(&GuestTime<'_>)) -> Timing {
        let times = PhaseTimes::default();
        let guest = GuestTime::begin(&times, &CpuCounter::default(), Some(&Arc::default()));
        work(&guest);
        drop(guest);
        times.read()
    }

    #[tokio::test]
    async fn a_call_that_completes_on_its_first_poll_has_not_waited() {
        let times = PhaseTimes::default();
        let guest = GuestTime::begin(&times, &CpuCounter::default(), Some(&Arc::default()));
        guest.observe(ready(())).await;
        drop(guest);
        assert!(times.read().is_empty());
    }

    #[tokio::test]
    async fn the_pause_of_a_cancelled_call_counts() {
        let timing = measured(|guest| {
            let mut call = Box::pin(guest.observe(pending::<()>()));
            let polled = call.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
            assert!(polled.is_pending());
            occupy(WAIT);
        });
        assert!(timing.us(Phase::Other) >= 5_000, "{timing:?}");
        assert_eq!(timing.phases().count(), 1, "{timing:?}");
    }

    /// Occupies its thread without a yield.
    fn occupy(time: Duration) {
        let since = Instant::now();
        while since.elapsed() < time {}
    }

    #[tokio::test]
    async fn a_call_that_starts_on_a_worker_waits_for_its_first_slice() {
        let executor = Executor::new(&Config::new(NonZeroUsize::MIN)).expect("threads can be started");
        let account = || executor.account(Weight::default(), NonZeroU32::MIN);
        let (busy, waiting) = (account(), account());
        // Calls of an account with long calls start on a worker thread.
        for account in [&busy, &waiting] {
            for _ in 0..10 {
                account.run(Class::Pull, async { occupy(WAIT) }).await;
            }
        }
        let (started, has_started) = std::sync::mpsc::sync_channel(1);
        let occupying = busy.run(Class::Pull, async move {
            started.send(()).expect("the test waits");
            occupy(4 * WAIT);
        });
        let occupying = tokio::spawn(occupying);
        tokio::task::yield_now().await;
        has_started.recv().expect("the worker thread runs it");
        let times = PhaseTimes::default();
        let guest = GuestTime::begin(&times, &CpuCounter::default(), Some(&Arc::default()));
        waiting.run(Class::Pull, Box::pin(guest.observe(ready(())))).await;
        drop(guest);
        assert!(times.read().us(Phase::Scheduling) >= 5_000, "{:?}", times.read());
        occupying.await.expect("it ends");
    }

    #[test]
    fn the_time_of_a_cancelled_step_counts() {
        let times = PhaseTimes::default();
        let mut step = Box::pin(times.measure(Phase::Queue, pending::<()>()));
        assert!(step.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        occupy(WAIT);
        drop(step);
        assert!(times.read().us(Phase::Queue) >= 5_000, "{:?}", times.read());
    }

    #[tokio::test]
    async fn times_of_one_phase_add_up() {
        let times = PhaseTimes::default();
        times.add(Phase::Plugins, WAIT);
        times.measure(Phase::Plugins, async { times.add(Phase::Body, WAIT) }).await;
        let timing = times.read();
        assert!(timing.us(Phase::Plugins) >= 5_000 && timing.us(Phase::Body) == 5_000, "{timing:?}");
    }
}

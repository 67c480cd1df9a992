//! Records the phases of one request while it is handled, and the time of its guest. Reads a clock
//! only if a guest pauses or a step is slow anyway. Never decides anything.

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

    /// Awaits a step, and adds its time to a phase.
    pub(crate) async fn measure<T>(&self, phase: Phase, step: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = step.await;
        self.add(phase, started.elapsed());
        done
    }

    /// Returns the times so far.
    pub(crate) fn read(&self) -> Timing {
        Timing::new(std::array::from_fn(|index| self.0[index].load(Ordering::Relaxed)))
    }
}

/// Measures the guest's part of a request, however it ends. Dropping it adds the CPU time and the
/// waits to the phases of the request.
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
        Observed { work, pauses: Pauses { waits: self.waits.clone(), current: None } }
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
        if let (Some((since, phase)), Some(waits)) = (self.current.take(), &self.waits) {
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
        this.pauses.end();
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
    use std::future::{pending, ready};

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
            let since = Instant::now();
            while since.elapsed() < WAIT {}
        });
        assert!(timing.us(Phase::Other) >= 5_000, "{timing:?}");
        assert_eq!(timing.phases().count(), 1, "{timing:?}");
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

//! The CPU time of an app: its account at the executor, and its recent use. Never decides what
//! runs.

use crate::runtime::limits;
use isopod_executor::{Account, Class, Executor, Weight};
use isopod_policy::{AppType, Cores};
use std::{
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// The CPU account of one app.
pub(super) struct AppCpu {
    account: Account,
    /// CPU use between the last two samples, in tenths of a percent of one processor.
    permille: AtomicU32,
    sample: Mutex<Option<(Instant, Duration)>>,
}

impl AppCpu {
    pub(super) fn new(executor: &Executor, app_type: AppType, cores: Cores) -> Self {
        Self {
            account: executor.account(weight(app_type), threads_max(cores)),
            permille: AtomicU32::new(0),
            sample: Mutex::default(),
        }
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn set_cores(&self, cores: Cores) {
        self.account.set_cores(threads_max(cores));
    }

    pub(super) fn set_type(&self, app_type: AppType) {
        self.account.set_weight(weight(app_type));
    }

    /// Returns the CPU time used since the host started.
    pub(super) fn time(&self) -> Duration {
        self.account.cpu(Class::Pull) + self.account.cpu(Class::Push)
    }

    /// Discards the sample: no release of the app is in memory.
    pub(super) fn reset_sample(&self) {
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.permille.store(0, Ordering::Relaxed);
    }

    /// Samples the CPU time, to compute the current use.
    pub(super) fn sample(&self, now: Instant) {
        let cpu = self.time();
        let previous = self.sample.lock().unwrap_or_else(PoisonError::into_inner).replace((now, cpu));
        let Some((then, cpu_then)) = previous else { return };
        let (passed, used) = (now.saturating_duration_since(then), cpu.saturating_sub(cpu_then));
        let permille = used.as_micros().saturating_mul(1_000) / passed.as_micros().max(1);
        self.permille.store(u32::try_from(permille).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Returns the recent use, in percent of one processor.
    pub(super) fn percent(&self) -> f64 {
        f64::from(self.permille.load(Ordering::Relaxed)) / 10.0
    }
}

/// Returns the weight of an app type. Production apps get a larger share of a contended CPU.
fn weight(app_type: AppType) -> Weight {
    let weight = match app_type {
        AppType::Dev | AppType::Staging => limits::WEIGHT_DEFAULT,
        AppType::Production => limits::WEIGHT_PRODUCTION,
    };
    Weight::new(weight).unwrap_or_default()
}

/// Returns the number of worker threads that the app may use concurrently. Admission limits the
/// cores of each queue.
fn threads_max(cores: Cores) -> NonZeroU32 {
    NonZeroU32::new(cores.pull.max(cores.push)).unwrap_or(NonZeroU32::MIN)
}

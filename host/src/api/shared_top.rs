//! The metrics of all active apps, which many event streams share. Never measures anything itself.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::{sync::Mutex, time::Instant};

use crate::api::limits;

/// The latest measurement as JSON. Many open pages cost one measurement.
#[derive(Default)]
pub(crate) struct SharedTop(Mutex<Option<(Instant, Arc<RawValue>)>>);

impl SharedTop {
    /// Returns the latest measurement, or that of `measure` if the latest is old.
    pub(super) async fn latest(&self, measure: impl FnOnce() -> Option<Arc<RawValue>>) -> Option<Arc<RawValue>> {
        let mut latest = self.0.lock().await;
        // Half of the interval, since the ticks of the streams are spread over it.
        let is_new = |measured: Instant| measured.elapsed() < limits::ALL_METRICS_INTERVAL / 2;
        if let Some((_, top)) = latest.as_ref().filter(|(measured, _)| is_new(*measured)) {
            return Some(Arc::clone(top));
        }
        let top = measure()?;
        *latest = Some((Instant::now(), Arc::clone(&top)));
        Some(top)
    }
}

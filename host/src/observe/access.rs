//! Owns recording answered requests: a line in the app's log, and the app's counters. Called by the threads that serve,
//! so it never waits; what it needs of an app is looked up once per thread.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use isopod_policy::AppName;

use super::{
    logs::{AppLog, Logs},
    metrics::{AppMetrics, Metrics},
};
use crate::{
    ingress::{AccessLine, AccessLog},
    limits,
};

/// The recorder of requests.
pub(crate) struct Access {
    logs: Logs,
    metrics: Metrics,
}

struct Cached {
    log: Arc<AppLog>,
    metrics: AppMetrics,
}

impl Cached {
    fn record(&self, line: &AccessLine<'_>) {
        self.metrics.request(line.status, line.duration);
        self.log.request(line);
    }
}

thread_local! {
    static APPS: RefCell<HashMap<AppName, Cached>> = RefCell::default();
}

impl Access {
    pub(crate) fn new(logs: Logs, metrics: Metrics) -> Self {
        Self { logs, metrics }
    }

    fn look_up(&self, app: &AppName) -> Option<Cached> {
        Some(Cached { log: self.logs.known(app)?, metrics: self.metrics.app(app) })
    }
}

impl AccessLog for Access {
    fn request(&self, line: AccessLine<'_>) {
        if let Some(fault) = line.counted_fault() {
            self.metrics.fault(line.app, fault);
        }
        APPS.with_borrow_mut(|apps| {
            // An app that was deleted, and perhaps made again, has another log.
            if let Some(cached) = apps.get(line.app).filter(|cached| !cached.log.is_forgotten()) {
                return cached.record(&line);
            }
            if apps.len() >= limits::ACCESS_APPS_CACHED {
                apps.clear();
            }
            let Some(cached) = self.look_up(line.app) else { return };
            cached.record(&line);
            apps.insert(line.app.clone(), cached);
        });
    }
}

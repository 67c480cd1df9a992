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

thread_local! {
    static APPS: RefCell<HashMap<AppName, Cached>> = RefCell::default();
}

impl Access {
    pub(crate) fn new(logs: Logs, metrics: Metrics) -> Self {
        Self { logs, metrics }
    }

    fn look_up(&self, app: &AppName) -> Cached {
        Cached { log: self.logs.app(app), metrics: self.metrics.app(app) }
    }
}

impl AccessLog for Access {
    fn request(&self, line: AccessLine<'_>) {
        if let Some(fault) = line.fault {
            self.metrics.fault(line.app, fault);
        }
        APPS.with_borrow_mut(|apps| {
            // An app that was deleted, and perhaps made again, has another log.
            if apps.get(line.app).is_none_or(|cached| cached.log.is_forgotten()) {
                if apps.len() >= limits::ACCESS_APPS_CACHED {
                    apps.clear();
                }
                apps.insert(line.app.clone(), self.look_up(line.app));
            }
            let Some(cached) = apps.get(line.app) else { return };
            cached.metrics.request(line.status, line.duration);
            cached.log.request(&line);
        });
    }
}

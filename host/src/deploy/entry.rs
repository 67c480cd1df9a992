//! Owns what is known of one app while the host runs: its facts, its turn, and its ways into traffic and log. Never
//! stores anything: the store is asked first, and the facts follow.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use isopod_policy::{AppEvent, AppName, AppState, AppType, ConfigVars, ProcessName, ReleaseNumber};
use isopod_store::{App, Intended};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::usage::Usage;
use crate::{dispatch, limits, observe::logs::AppLog};

/// One app.
pub(crate) struct Entry {
    pub(crate) name: AppName,
    pub(crate) created_at: Timestamp,
    pub(crate) log: Arc<AppLog>,
    pub(crate) traffic: Arc<dispatch::App>,
    /// Held by whoever changes the app: a push, a start, a stop. They come one after the other.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
    /// Held for the moment in which another release becomes the current one.
    pub(crate) commit: tokio::sync::Mutex<()>,
    /// Room for the app's waiting pushes.
    pub(crate) pushes: Arc<Semaphore>,
    /// Cancelled when the app is deleted, for those who work on it.
    pub(crate) gone: CancellationToken,
    pub(crate) usage: Usage,
    facts: Mutex<Facts>,
}

/// What changes about an app.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) app_type: AppType,
    pub(crate) state: AppState,
    /// What is behind the state `error`, for people.
    pub(crate) error_detail: Option<String>,
    pub(crate) intended: Intended,
    pub(crate) release: Option<ReleaseNumber>,
    /// The config vars that the next release gets.
    pub(crate) config: ConfigVars,
    /// When process types last fired by their schedules, as far as the host's start found it stored.
    pub(crate) fired: HashMap<ProcessName, Timestamp>,
    pub(crate) build_error: Option<BuildError>,
    /// The state that the app was in before the push under way, should that fail.
    pub(crate) before_deploy: (AppState, Option<String>),
    /// Set once the app is deleted, for those who still wait for their turn.
    pub(crate) deleted: bool,
}

/// What the compiler said when the newest code of a dev app could not be built.
#[derive(Debug, Clone)]
pub(crate) struct BuildError {
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

impl Entry {
    pub(crate) fn new(row: App, log: Arc<AppLog>, traffic: Arc<dispatch::App>) -> Self {
        let facts = Facts {
            app_type: row.app_type,
            state: AppState::Stopped,
            error_detail: None,
            intended: row.intended,
            release: row.release,
            config: row.config,
            fired: HashMap::new(),
            build_error: None,
            before_deploy: (AppState::Stopped, None),
            deleted: false,
        };
        Self {
            name: row.name,
            created_at: row.created_at,
            log,
            traffic,
            turn: Arc::default(),
            commit: tokio::sync::Mutex::new(()),
            pushes: Arc::new(Semaphore::new(limits::PUSHES_QUEUED_PER_APP)),
            gone: CancellationToken::new(),
            usage: Usage::default(),
            facts: Mutex::new(facts),
        }
    }

    /// The facts, for a moment: the lock is never held across a wait.
    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a step of the app's state machine. `detail` explains an error.
    pub(crate) fn step(&self, event: AppEvent, detail: Option<String>) -> Result<AppState, isopod_policy::Refused> {
        let mut facts = self.facts();
        let before = facts.state;
        facts.state = before.step(event)?;
        facts.error_detail = if facts.state.cause().is_some() { detail } else { None };
        tracing::info!(app = %self.name, from = %before, to = %facts.state, "the app's state changed");
        Ok(facts.state)
    }
}

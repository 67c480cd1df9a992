//! The commands to the task of an app, their replies, and the handle that sends them. Owns the
//! types that a change and the app's task exchange; never performs a command.

use std::sync::Arc;

use isopod_policy::{AppType, ChangeId, ConfigVars, Manifest, PushId, ReleaseCause, ReleaseNumber};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::control::{
    accepted_configs::AcceptedConfigs,
    app::AppRecord,
    error::{DeployError, Failure},
    mailbox::{Closed, Mailbox},
    plugin_users::UnusedPlugin,
    push::{
        progress::{LivePush, PushNow},
        request::{Accepted, PushRequest},
    },
    storing::Storing,
};
use crate::runtime::{ActiveRelease, CrashReport};

/// The reply to a request.
pub(in crate::control) type Reply<T> = oneshot::Sender<Result<T, DeployError>>;

/// A change of an app's type, about which the gates have decided.
pub(in crate::control) struct TypeChange {
    pub(in crate::control) app_type: AppType,
    /// The app's type and release when the gates were called.
    pub(in crate::control) from: AppType,
    pub(in crate::control) release: Option<ReleaseNumber>,
    /// Whether gates were skipped.
    pub(in crate::control) skips_gates: bool,
}

/// A command to the task of an app.
pub(in crate::control) enum Command {
    Start {
        by: String,
        reply: Reply<()>,
    },
    Stop {
        by: String,
        reply: Reply<()>,
    },
    SetType {
        change: TypeChange,
        by: String,
        reply: Reply<()>,
    },
    SetCores {
        change: Value,
        by: String,
        reply: Reply<()>,
    },
    SetCeiling {
        change: Value,
        by: String,
        reply: Reply<()>,
    },
    SetBuildError {
        message: Option<String>,
        reply: Reply<()>,
    },
    /// Sets the config of an app without a release, for the change that holds the permit.
    SetConfig {
        config: ConfigVars,
        keys: Vec<String>,
        by: String,
        reply: Reply<()>,
    },
    Destroy {
        by: String,
        /// The lock of a plugin, which prevents new uses.
        unused: Option<UnusedPlugin>,
        reply: Reply<()>,
    },
    Push {
        request: PushRequest,
        reply: Reply<Accepted>,
    },
    CancelPush {
        id: PushId,
        by: String,
        reply: Reply<PushNow>,
    },
    /// Queues a change. The reply is its permit, once the earlier changes have ended.
    AcquireChange {
        reply: oneshot::Sender<ChangePermit>,
    },
    DeployBegins {
        change: ChangeId,
        cause: String,
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    DeployEnds {
        change: ChangeId,
        cause: String,
        reply: oneshot::Sender<()>,
    },
    /// Commits a release, the last step of a change that can fail.
    Commit {
        change: ChangeId,
        booted: Box<Booted>,
        reply: oneshot::Sender<Result<Committed, Failure>>,
    },
    /// Loads the release of an app that is starting with the host. `done` is dropped once the
    /// result is known.
    Load {
        done: oneshot::Sender<()>,
    },
    /// A cold release was loaded for its first request. The reply is whether it serves.
    ColdLoaded {
        running: Arc<ActiveRelease>,
        reply: oneshot::Sender<bool>,
    },
    ColdFailed {
        release: ReleaseNumber,
        failure: Failure,
        reply: oneshot::Sender<()>,
    },
    Crashed(CrashReport),
}

/// The exclusive permit to change an app. When it is dropped, the next change runs.
pub(in crate::control) struct ChangePermit {
    pub(in crate::control) change: ChangeId,
    _ended: oneshot::Sender<()>,
}

impl ChangePermit {
    /// Returns the permit of a change, and a receiver that resolves when the permit is dropped.
    pub(in crate::control) fn new(change: ChangeId) -> (Self, oneshot::Receiver<()>) {
        let (_ended, ended) = oneshot::channel();
        (Self { change, _ended }, ended)
    }
}

/// Why a release is created, and by whom.
#[derive(Debug, Clone)]
pub(in crate::control) struct Origin {
    pub(in crate::control) kind: ReleaseCause,
    /// The cause, such as `push p-7f3k2m9q0z`.
    pub(in crate::control) cause: String,
    pub(in crate::control) by: String,
}

/// A release that passed its health checks and is ready for the commit.
pub(in crate::control) struct Booted {
    pub(in crate::control) number: ReleaseNumber,
    pub(in crate::control) origin: Origin,
    pub(in crate::control) manifest: Manifest,
    pub(in crate::control) config: ConfigVars,
    pub(in crate::control) size_bytes: u64,
    pub(in crate::control) running: ActiveRelease,
    /// The push job that delivered the release, if any.
    pub(in crate::control) push: Option<Arc<LivePush>>,
    pub(in crate::control) accepted: AcceptedConfigs,
    /// Release steps that are being stored.
    pub(in crate::control) storing: Vec<Storing>,
}

/// A release that is the app's current release. It is in service and under watch, unless the app is
/// stopped.
#[must_use]
pub(in crate::control) struct Committed {
    pub(in crate::control) number: ReleaseNumber,
}

/// The app's task did not reply.
#[derive(Debug)]
pub(in crate::control) enum NoReply {
    /// The app was destroyed. By now, its name may belong to a new app.
    Destroyed,
    /// The command panicked.
    Panicked,
}

impl From<NoReply> for Failure {
    fn from(no_reply: NoReply) -> Self {
        match no_reply {
            NoReply::Destroyed => Self::AppDeleted,
            NoReply::Panicked => Self::Internal("a command to the app panicked".to_owned()),
        }
    }
}

/// The record of an app, and the mailbox of its task. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct AppHandle {
    pub(in crate::control) record: Arc<AppRecord>,
    /// The task closes the mailbox when the app is destroyed.
    commands: Mailbox<Box<Command>>,
}

impl AppHandle {
    pub(in crate::control) fn new(record: Arc<AppRecord>, commands: Mailbox<Box<Command>>) -> Self {
        Self { record, commands }
    }

    /// Sends a command to the app's task, and waits for the reply. Waits while the queue of
    /// commands is full.
    pub(in crate::control) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, NoReply> {
        let (reply, replied) = oneshot::channel();
        self.send(command(reply)).await?;
        let no_reply = |_| if self.commands.is_closed() { NoReply::Destroyed } else { NoReply::Panicked };
        replied.await.map_err(no_reply)
    }

    /// Sends a request of a user to the app's task, and returns its result.
    pub(in crate::control) async fn request<T>(
        &self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, DeployError> {
        match self.ask(command).await {
            Ok(result) => result,
            Err(NoReply::Destroyed) => Err(self.unknown()),
            Err(NoReply::Panicked) => Err(DeployError::Interrupted(self.record.name.clone())),
        }
    }

    /// Sends a command without a reply.
    pub(in crate::control) async fn send(&self, command: Command) -> Result<(), NoReply> {
        self.commands.send(Box::new(command)).await.map_err(|Closed| NoReply::Destroyed)
    }

    /// Returns the mailbox of the app's task.
    pub(in crate::control) fn mailbox(&self) -> &Mailbox<Box<Command>> {
        &self.commands
    }

    /// Returns the error for a request to an app that was destroyed meanwhile.
    pub(in crate::control) fn unknown(&self) -> DeployError {
        DeployError::UnknownApp(self.record.name.clone())
    }
}

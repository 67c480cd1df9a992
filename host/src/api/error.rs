//! Owns the closed list of the API's errors, and maps each to its problem. Never handles a request.

mod drain;
mod event;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use isopod_policy::{AppName, FormationError, NameError};
use isopod_store::StoreError;
use jiff::Timestamp;

pub(crate) use self::event::EventError;
use super::{
    auth,
    bad_request::{BadRequest, EventPosition},
    broadcast_view::Broadcast,
    browser,
    push_view::PushView,
    token_end::EndedBy,
};
use crate::{
    api::limits,
    control::{
        DeployError,
        drains::{DrainError, DrainFailure},
    },
    http::problem::{self, Problem},
    observe::logs::LogsError,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Request(#[from] BadRequest),
    #[error(transparent)]
    Auth(#[from] auth::Refused),
    #[error(transparent)]
    Browser(#[from] browser::Refused),
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error(transparent)]
    Logs(#[from] LogsError),
    #[error("no route {method} {path}")]
    UnknownRoute { method: String, path: String },
    #[error("{path} doesn't support {method}")]
    WrongMethod { method: String, path: String },
    #[error("no app `{name}`: {why}")]
    NoSuchName { name: String, why: String },
    #[error("{0}")]
    BadName(NameError),
    #[error("{0}")]
    BadTokenName(NameError),
    #[error("invalid release `{given}`: write a release number as 3 or \"v3\"")]
    BadRelease { app: AppName, given: String },
    #[error("push {} is {}: {}", .0.id, .0.state, .0.reason.as_deref().unwrap_or("it was cancelled"))]
    PushFailed(Box<PushView>),
    #[error("the administrator's token {0}: its owner would lose access to the host")]
    AdminToken(&'static str),
    #[error("admin.token in the data folder is a symbolic link, so the host can't replace the secret in it")]
    LinkedAdminToken,
    #[error("`expires_at` is {at}, which has passed")]
    ExpiryPassed { at: Timestamp },
    #[error(
        "`grace_ms` is {grace_ms}; the maximum is {} ms (7 days)",
        limits::TOKEN_GRACE_MAX.as_millis()
    )]
    GraceTooLong { grace_ms: u64 },
    #[error("`apps` is an empty list, so the token would give access to no app")]
    NoApps,
    #[error("a policy can't limit the role `admin`")]
    PolicyOfAdmin,
    #[error("{} changes are already in progress", limits::CHANGES_MAX)]
    TooManyChanges,
    #[error(
        "{} changes with the token `{token}` are already in progress, which is its limit",
        limits::CHANGES_PER_TOKEN
    )]
    TooManyChangesOfToken { token: String },
    #[error("the request failed unexpectedly; see the host's own log for details")]
    Panicked,
    #[error("the host's limit of {} event streams is reached", limits::SUBSCRIBERS_MAX)]
    TooManySubscribers,
    #[error("the token `{token}` already has {} event streams, which is the limit", limits::SUBSCRIBERS_PER_TOKEN)]
    TooManyOfToken { token: String },
    #[error("{}", .0.detail)]
    Job(Box<Problem>),
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(transparent)]
    Drain(DrainError),
    /// The host refuses the rest of a broadcast.
    #[error("{error}")]
    Broadcast { stored: Broadcast, error: Box<Self> },
}

impl From<DrainFailure> for Error {
    fn from(failure: DrainFailure) -> Self {
        match failure {
            DrainFailure::Drain(error) => Self::Drain(error),
            DrainFailure::Other(error) => Self::Deploy(error),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Deploy(DeployError::Store(error))
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response<Body> {
        self.problem().into_response()
    }
}

impl Error {
    /// Token names follow the rules of app names.
    pub(crate) fn bad_token_name(error: NameError) -> Self {
        Self::BadTokenName(NameError { what: "token name", ..error })
    }

    pub(crate) fn problem(&self) -> Problem {
        let detail = self.to_string();
        match self {
            Self::Request(error) => request(error, detail),
            Self::Auth(why) => refused(why, detail),
            Self::Browser(why) => why.problem(detail),
            Self::Deploy(error) => deploy(error, detail),
            Self::Event(error) => event::problem(error, detail),
            Self::Drain(error) => drain::problem(error, detail),
            Self::Logs(LogsError::Unavailable) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "log-unavailable", "The log is unavailable", detail)
                    .retry_after(5)
            }
            Self::Logs(LogsError::Unreadable(_)) => {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "log-unreadable", "The log can't be read", detail)
            }
            Self::UnknownRoute { .. } => Problem::new(StatusCode::NOT_FOUND, "unknown-route", "No such route", detail)
                .hint("see GET /v1/openapi.json for all routes"),
            Self::WrongMethod { .. } => {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "Wrong method", detail)
                    .hint("see GET /v1/openapi.json for all routes and methods")
            }
            Self::NoSuchName { name, .. } => {
                Problem::new(StatusCode::NOT_FOUND, "unknown-app", "No such app", detail).app(name)
            }
            Self::BadName(error) => bad_name("bad-app-name", "Invalid app name", error),
            Self::BadTokenName(error) => bad_name("bad-token-name", "Invalid token name", error),
            Self::BadRelease { app, .. } => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-release", "Invalid release", detail)
                    .app(app)
                    .hint("list the releases with `isopod releases`")
            }
            Self::PushFailed(push) => {
                let push_json = serde_json::to_value(push).unwrap_or_default();
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "push-failed", "The push failed", detail)
                    .app(&push.app)
                    .member("push", push_json)
            }
            Self::AdminToken(_) => {
                Problem::new(StatusCode::CONFLICT, "admin-token", "The administrator's token is permanent", detail)
                    .hint("replace its secret with `isopod tokens rotate admin`")
            }
            Self::LinkedAdminToken => {
                Problem::new(StatusCode::CONFLICT, "admin-token", "The administrator's token file is a link", detail)
                    .hint("write a new secret to the file that it points to, and restart the host")
            }
            Self::ExpiryPassed { .. } => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-expiry", "Invalid expiry", detail)
                    .hint("give a time in the future; a new token without `expires_at` never expires")
            }
            Self::GraceTooLong { .. } => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-grace", "Invalid grace period", detail)
            }
            Self::NoApps => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no-apps", "The token has no apps", detail)
                .hint("name at least one app; without `apps` a token is for all apps"),
            Self::PolicyOfAdmin => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-policy", "Invalid ceiling", detail)
                    .hint("leave out the policy, or choose the role `deploy`")
            }
            Self::TooManyChanges => too_many_changes(StatusCode::SERVICE_UNAVAILABLE, detail),
            Self::TooManyChangesOfToken { .. } => too_many_changes(StatusCode::TOO_MANY_REQUESTS, detail),
            Self::Panicked => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The request failed", detail),
            Self::TooManySubscribers => too_many_followers(StatusCode::SERVICE_UNAVAILABLE, "", detail),
            Self::TooManyOfToken { .. } => too_many_followers(StatusCode::TOO_MANY_REQUESTS, " of this token", detail),
            Self::Job(problem) => Problem::clone(problem),
            Self::Broadcast { stored: Broadcast { accepted, duplicates }, error } => {
                error.problem().member("accepted", *accepted).member("duplicates", *duplicates)
            }
        }
    }
}

fn request(error: &BadRequest, detail: String) -> Problem {
    match error {
        BadRequest::Json { line, column, .. } => {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-json", "Invalid JSON body", detail);
            // An error about the whole body has no position.
            if *line == 0 { problem } else { problem.member("line", *line).member("column", *column) }
        }
        BadRequest::ContentType { wanted, .. } => {
            Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "wrong-content-type", "Wrong content type", detail)
                .hint(format!("send the header content-type: {wanted}"))
        }
        BadRequest::TooLarge { limit_bytes } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
                .member("limit_bytes", *limit_bytes)
                .header(header::CONNECTION, HeaderValue::from_static("close"))
        }
        BadRequest::TooMany => too_many_bodies(StatusCode::SERVICE_UNAVAILABLE, detail)
            .hint("retry the request, with fewer concurrent requests"),
        BadRequest::TooManyOfToken { .. } => too_many_bodies(StatusCode::TOO_MANY_REQUESTS, detail)
            .hint("retry the request, with fewer concurrent requests of this token"),
        BadRequest::TokenEnded(by) => unauthorised(
            match by {
                EndedBy::Revocation => "unknown-token",
                EndedBy::Expiry => "token-expired",
            },
            detail,
        )
        .header(header::CONNECTION, HeaderValue::from_static("close")),
        BadRequest::Truncated { .. } => {
            Problem::new(StatusCode::BAD_REQUEST, "truncated-body", "The body is incomplete", detail)
                .header(header::CONNECTION, HeaderValue::from_static("close"))
        }
        BadRequest::TooSlow => {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", "The body arrived too slowly", detail)
                .header(header::CONNECTION, HeaderValue::from_static("close"))
        }
        BadRequest::Path { .. } => Problem::new(StatusCode::BAD_REQUEST, "bad-path", "Invalid path", detail),
        BadRequest::Query { .. } => Problem::new(StatusCode::BAD_REQUEST, "bad-query", "Invalid query", detail),
        BadRequest::Cursor => Problem::new(StatusCode::BAD_REQUEST, "bad-cursor", "Invalid cursor", detail),
        BadRequest::Header { .. } => Problem::new(StatusCode::BAD_REQUEST, "bad-header", "Invalid header", detail),
        BadRequest::Event { position, attribute, .. } => {
            let hint = match attribute.as_deref() {
                Some("isopoddelay" | "isopodexpires") => "the expiry must be after the delay and within 366 days",
                _ => "a CloudEvent 1.0 has specversion, id, source and type; see https://cloudevents.io",
            };
            let problem = Problem::new(StatusCode::BAD_REQUEST, "bad-event", "Invalid CloudEvent", detail).hint(hint);
            let problem = match position {
                Some(EventPosition::Line(number)) => problem.member("line", *number),
                Some(EventPosition::Index(index)) => problem.member("index", *index),
                None => problem,
            };
            match attribute {
                Some(attribute) => problem.member("attribute", attribute.as_str()),
                None => problem,
            }
        }
        BadRequest::Text => Problem::new(StatusCode::BAD_REQUEST, "bad-text", "Invalid text", detail),
    }
}

fn bad_name(code: &'static str, title: &'static str, error: &NameError) -> Problem {
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, error.to_string());
    match &error.suggestion {
        Some(name) => problem.member("suggestion", name.as_str()),
        None => problem,
    }
}

fn too_many_followers(status: StatusCode, which: &str, detail: String) -> Problem {
    Problem::new(status, "too-many-followers", "Too many event streams", detail)
        .retry_after(10)
        .hint(format!("close other event streams{which}, or request without `follow=true`"))
}

fn too_many_changes(status: StatusCode, detail: String) -> Problem {
    Problem::new(status, "too-many-changes", "Too many concurrent changes", detail)
        .retry_after(limits::CHANGES_RETRY_AFTER.as_secs())
}

fn too_many_bodies(status: StatusCode, detail: String) -> Problem {
    Problem::new(status, "too-many-bodies", "Too many concurrent request bodies", detail)
        .retry_after(crate::http::limits::BODIES_RETRY_AFTER.as_secs())
}

const TOKEN_FILE: &str = "the administrator's token is in the file admin.token in the host's data folder";

/// Returns the response to an unknown, revoked or expired token.
fn unauthorised(code: &'static str, detail: String) -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"isopod\", error=\"invalid_token\"");
    let (title, hint) = match code {
        "token-expired" => ("The token has expired", "ask the administrator to rotate it: `isopod tokens rotate`"),
        _ => ("Unknown token", TOKEN_FILE),
    };
    Problem::new(StatusCode::UNAUTHORIZED, code, title, detail).hint(hint).header(header::WWW_AUTHENTICATE, challenge)
}

fn refused(refused: &auth::Refused, detail: String) -> Problem {
    match refused {
        auth::Refused::NoToken => Problem::new(StatusCode::UNAUTHORIZED, "no-token", "Missing token", detail)
            .hint(format!("send the header authorization: Bearer TOKEN; {TOKEN_FILE}"))
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"isopod\"")),
        auth::Refused::SeveralTokens => Problem::new(StatusCode::BAD_REQUEST, "bad-header", "Invalid header", detail)
            .hint("send the header authorization once"),
        auth::Refused::UnknownToken => unauthorised("unknown-token", detail),
        auth::Refused::Expired { .. } => unauthorised("token-expired", detail),
        auth::Refused::RoleTooSmall { .. } => role_too_small(detail),
        auth::Refused::OutOfScope { .. } => {
            Problem::new(StatusCode::FORBIDDEN, "out-of-scope", "Outside of the token's scope", detail)
                .hint("ask the administrator for a token for this app")
        }
    }
}

fn role_too_small(detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "role-too-small", "The token's role is insufficient", detail)
        .hint("ask the administrator for a token with that role")
}

#[expect(clippy::too_many_lines, reason = "one table of all errors of the control plane")]
fn deploy(error: &DeployError, detail: String) -> Problem {
    match error {
        DeployError::UnknownApp(app) => Problem::new(StatusCode::NOT_FOUND, "unknown-app", "No such app", detail)
            .app(app)
            .hint("list the apps with GET /v1/apps; POST /v1/apps or a first push creates an app"),
        DeployError::AppExists(app) => {
            Problem::new(StatusCode::CONFLICT, "app-exists", "The app already exists", detail)
                .app(app)
                .hint("choose another name")
        }
        DeployError::BeingDestroyed(app) => {
            Problem::new(StatusCode::CONFLICT, "being-destroyed", "The app is being destroyed", detail)
                .app(app)
                .retry_after(1)
                .hint("retry after it is destroyed: then its name is free")
        }
        DeployError::NotStopped { app, .. } => {
            Problem::new(StatusCode::CONFLICT, "not-stopped", "The app is not stopped", detail)
                .app(app)
                .hint(format!("stop it first: POST /v1/apps/{app}/stop, or `isopod apps stop --app {app}`"))
        }
        DeployError::NothingToStart(app) => {
            Problem::new(StatusCode::CONFLICT, "no-release", "The app has no release", detail)
                .app(app)
                .hint(format!("deploy a release: POST /v1/apps/{app}/pushes, or `isopod deploy --app {app}`"))
        }
        DeployError::UnknownPush { app, .. } => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-push", "No such push", detail).app(app)
        }
        DeployError::KeyReused { app, .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", "The idempotency key is already used", detail)
                .app(app)
                .hint("choose a new Idempotency-Key for a different bundle")
        }
        DeployError::UnknownRelease { app, .. } => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-release", "No such release", detail).app(app)
        }
        DeployError::UnknownInstance { app, .. } => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-instance", "No such instance", detail)
                .app(app)
                .hint("list the instances with `isopod ps`")
        }
        DeployError::UnknownProcess { app, .. } => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-process", "No such process type", detail).app(app)
        }
        DeployError::NotAllowed { app, excesses } => {
            let excesses: Vec<String> = excesses.iter().map(ToString::to_string).collect();
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "grant-not-allowed", "Beyond the ceiling", detail)
                .app(app)
                .member("excesses", excesses)
                .hint("ask the administrator to make this change, or to raise the ceiling: `isopod policy set`")
        }
        DeployError::NotWaiting { app, .. } => {
            Problem::new(StatusCode::CONFLICT, "not-waiting", "The release is not waiting for an approval", detail)
                .app(app)
                .hint("only a release that failed with `grant-not-allowed` can be approved")
        }
        DeployError::Ceiling { app, .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-policy", "Invalid ceiling", detail)
                .app(app)
                .hint("see docs/configuration.md for all settings; null resets a setting to the host's")
        }
        DeployError::RollbackRefused { app, .. } => {
            Problem::new(StatusCode::CONFLICT, "no-way-back", "Can't roll back to that release", detail)
                .app(app)
                .hint("list the releases and their states with `isopod releases`")
        }
        DeployError::NothingToChange(app) => {
            Problem::new(StatusCode::CONFLICT, "no-release", "The app has no release", detail)
                .app(app)
                .hint(format!("deploy a release: POST /v1/apps/{app}/pushes, or `isopod deploy --app {app}`"))
        }
        DeployError::Busy(app) => Problem::new(StatusCode::CONFLICT, "push-under-way", "A push is in progress", detail)
            .app(app)
            .retry_after(5)
            .hint("wait until the push has ended: `isopod activity -f`"),
        DeployError::Config { app, .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-config", "Invalid config", detail).app(app)
        }
        DeployError::Formation { app, error } => formation(app.as_ref(), error, detail),
        DeployError::Cores { app, .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-cores", "Invalid cores", detail)
                .app(app)
                .hint("write them as {\"pull\": 10, \"push\": 2}; null resets a queue to the host's default")
        }
        DeployError::Grants { app, .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-grants", "Invalid grants", detail)
                .app(app)
                .hint("see docs/manifest.md for all grants")
        }
        DeployError::NotRolledOut { failure, .. } if failure.is_of_full_disk() => disk_full(detail),
        DeployError::NotRolledOut { app, failure } if failure.is_of_gate() => {
            let title = "A gate did not allow the release";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, failure.code(), title, detail).app(app).hint(
                "nothing has changed; an administrator can skip the gates of a deploy, a rollback or a change of the \
                 type",
            )
        }
        DeployError::NotRolledOut { app, failure } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, failure.code(), "The change was not rolled out", detail)
                .app(app)
                .hint("the previous release is still active; see the app's log for details: `isopod logs`")
        }
        DeployError::Refused { app, refused } => {
            Problem::new(StatusCode::CONFLICT, "wrong-state", "Not possible in this state", detail)
                .app(app)
                .member("state", refused.state)
        }
        DeployError::NotDev { app, .. } => {
            Problem::new(StatusCode::CONFLICT, "not-dev", "Not a dev app", detail).app(app)
        }
        DeployError::UnknownPlugin(plugin) => {
            Problem::new(StatusCode::NOT_FOUND, "unknown-plugin", "No such plugin", detail)
                .member("plugin", plugin.as_str())
                .hint("list the plugins with GET /v1/plugins, or `isopod plugins`")
        }
        DeployError::PluginInUse { plugin, users } => {
            let apps: Vec<&str> = users.apps.iter().chain(&users.on_standby).map(AppName::as_str).collect();
            let hint = match (users.is_required, apps.is_empty()) {
                (true, true) => {
                    "first remove its [[middleware]] or [[gates]] table from the host's settings, and restart the host"
                }
                (true, false) => {
                    "first remove its [[middleware]] or [[gates]] table from the host's settings, restart the host, \
                     and remove the plugin from the isopod.toml of these apps"
                }
                (false, _) if users.apps.is_empty() => {
                    "wait for the end of the rollout watch of these apps, about 10 seconds after their last change, \
                          and try again"
                }
                (false, _) => {
                    "first remove its [[middleware]] table or its interfaces from the isopod.toml of these apps, \
                          and deploy them"
                }
            };
            Problem::new(StatusCode::CONFLICT, "plugin-in-use", "The plugin is in use", detail)
                .member("plugin", plugin.as_str())
                .member("used_by", apps)
                .hint(hint)
        }
        DeployError::ReservedName(app) => {
            Problem::new(StatusCode::CONFLICT, "reserved-name", "The name is reserved for a plugin", detail)
                .app(app)
                .hint("choose another name")
        }
        DeployError::PluginNeedsAdmin { plugin, .. } => role_too_small(detail).member("plugin", plugin.as_str()),
        DeployError::IsPlugin { plugin, .. } => {
            Problem::new(StatusCode::CONFLICT, "is-plugin", "Not possible for a plugin", detail)
                .member("plugin", plugin.as_str())
        }
        DeployError::TooMany { retry_after, .. } => {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-pushes", "Too many pushes", detail)
                .retry_after(retry_after.as_secs().max(1))
                .hint("retry after a push has ended")
        }
        DeployError::TooManyUploads { of, retry_after, .. } => {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-pushes", "Too many uploads", detail)
                .retry_after(retry_after.as_secs())
                .hint(format!("retry after an upload{of} has ended; slow uploads are cut off"))
        }
        DeployError::Unusable(failure) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, failure.code(), "Invalid bundle", detail)
                .member("reason", format!("{}: {failure}", failure.code()))
        }
        DeployError::Interrupted(app) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The request failed", detail).app(app)
        }
        DeployError::Stopping => problem::stopping(detail),
        DeployError::Store(error) => store(error, detail),
        DeployError::Disk { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => disk_full(detail),
        DeployError::Disk { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
            read_only(detail)
        }
        DeployError::Disk { .. } => disk_failed(detail),
    }
}

fn store(error: &StoreError, detail: String) -> Problem {
    use StoreError as E;
    let problem = |status, code, title| Problem::new(status, code, title, detail.clone());
    match error {
        E::DiskFull { .. } => disk_full(detail),
        E::ReadOnly { .. } => read_only(detail),
        E::DiskFailed { .. } => disk_failed(detail),
        E::Closed => problem(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The host is stopping").retry_after(5),
        E::AppExists { name } => problem(StatusCode::CONFLICT, "app-exists", "The app already exists").app(name),
        E::FolderInTheWay { .. } => problem(StatusCode::CONFLICT, "folder-exists", "The app's folder already exists"),
        E::UnknownApp { name } => problem(StatusCode::NOT_FOUND, "unknown-app", "No such app").app(name),
        E::UnknownPush { .. } => problem(StatusCode::NOT_FOUND, "unknown-push", "No such push"),
        E::UnknownRelease { app, .. } => problem(StatusCode::NOT_FOUND, "unknown-release", "No such release").app(app),
        E::NoMoreReleases { app } => problem(StatusCode::CONFLICT, "no-more-releases", "Too many releases").app(app),
        E::ReleaseServes { app, .. } => {
            problem(StatusCode::CONFLICT, "release-serves", "The release is active").app(app)
        }
        E::NotCurrent { app, .. } => problem(StatusCode::CONFLICT, "not-current", "Not the current release").app(app),
        E::BadIdempotencyKey { .. } => problem(StatusCode::BAD_REQUEST, "bad-key", "Invalid idempotency key"),
        E::SecretOfOtherKey { app, .. } | E::SecretChanged { app, .. } => {
            problem(StatusCode::CONFLICT, "secret-unreadable", "A secret can't be read").app(app)
        }
        E::Refused(refused) => {
            problem(StatusCode::CONFLICT, "wrong-state", "Not possible in this state").member("state", refused.state)
        }
        E::BadCursor { .. } => problem(StatusCode::BAD_REQUEST, "bad-cursor", "Invalid cursor"),
        E::TokenExists { .. } => problem(StatusCode::CONFLICT, "token-exists", "The token already exists"),
        E::UnknownToken { .. } => problem(StatusCode::NOT_FOUND, "unknown-token", "No such token"),
        E::TokenExpired { .. } => problem(StatusCode::UNPROCESSABLE_ENTITY, "bad-expiry", "Invalid expiry"),
        E::TooManyTokens => problem(StatusCode::CONFLICT, "too-many-tokens", "Too many tokens"),
        E::LinkedFolder { .. } => {
            problem(StatusCode::CONFLICT, "folder-is-link", "The app's folder is a symbolic link")
        }
        E::EventQueueFull => problem(StatusCode::TOO_MANY_REQUESTS, "queue-full", "The event queue is full")
            .retry_after(limits::EVENT_QUEUE_RETRY_AFTER.as_secs()),
        E::EventTooLarge { .. } | E::EventBatchTooLarge { .. } => {
            problem(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The event is too large")
        }
        E::InUse { .. }
        | E::JournalOfOther { .. }
        | E::ControlChanged { .. }
        | E::AppsWithoutDatabase { .. }
        | E::OtherDatabase { .. }
        | E::DatabaseWithoutApps { .. }
        | E::BadFolderId { .. }
        | E::File { .. }
        | E::TooNew { .. }
        | E::Panicked { .. }
        | E::SketchTooLarge { .. }
        | E::KeyFileOpen { .. }
        | E::KeyFileSize { .. }
        | E::Database { .. }
        | E::Damaged { .. }
        | E::AppDataDamaged { .. }
        | E::PushExists { .. }
        | E::BadDigest { .. }
        | E::UnknownBlob { .. }
        | E::BadKey { .. }
        | E::BadBucket { .. }
        | E::ValueTooLarge { .. }
        | E::KeyValueFull
        | E::NotANumber { .. } => problem(StatusCode::INTERNAL_SERVER_ERROR, "store", "The store failed"),
    }
}

fn formation(app: &str, error: &FormationError, detail: String) -> Problem {
    use FormationError as E;
    let (status, code, title) = match error {
        E::NoSuchProcess { .. } => (StatusCode::NOT_FOUND, "unknown-process", "No such process type"),
        E::Exists { .. } => (StatusCode::CONFLICT, "process-exists", "The process type already exists"),
        E::NothingLeft { .. } => (StatusCode::CONFLICT, "last-process", "The app needs a process type"),
        E::MinAboveMax { .. }
        | E::AboveLimit { .. }
        | E::MaxZero { .. }
        | E::NotACount { .. }
        | E::Inapplicable { .. }
        | E::Health { .. }
        | E::Schedule { .. }
        | E::TimeZone { .. }
        | E::Retry { .. }
        | E::BadArguments { .. }
        | E::TooManyProcesses { .. }
        | E::EntryNotExported { .. }
        | E::EntryFixed { .. }
        | E::Name(_)
        | E::UnknownKey { .. }
        | E::Missing { .. }
        | E::UnknownWord { .. }
        | E::WrongType { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad-formation", "Invalid formation"),
    };
    Problem::new(status, code, title, detail).app(app)
}

fn disk_full(detail: String) -> Problem {
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", "The disk is full", detail)
        .hint("free space on the disk of the data folder; apps continue to serve, and no data is lost")
}

fn read_only(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "disk-read-only", "The disk is read-only", detail)
        .hint("make the file system of the data folder writable; apps continue to serve, and no data is lost")
}

fn disk_failed(detail: String) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "disk", "The disk failed", detail)
}

//! Owns the API's routes and what its handlers share. Never does a handler's work: each resource has its own file.

mod activity;
mod admin_token;
mod advice;
mod apps;
pub(crate) mod auth;
mod build_error;
pub(crate) mod changes;
mod cloud_event;
mod config;
mod cores;
mod edge;
mod error;
mod events;
mod formation;
mod index;
mod instances;
mod logs;
mod metrics;
mod openapi;
mod pushes;
mod releases;
mod request;
pub(crate) mod server;
mod sse;
mod status;
mod tokens;

use std::sync::{Arc, atomic::AtomicBool};

use axum::{
    Router,
    extract::Request,
    middleware,
    routing::{delete, get, post, put},
};
use isopod_policy::AppName;
use isopod_policy::RequestId;
use isopod_store::Store;
use tokio_util::sync::CancellationToken;

pub(crate) use self::admin_token::{TokenError, load as load_tokens};
use self::error::Error;
pub(crate) use self::sse::Followers;
use crate::{
    budget::Budget,
    deploy::Deployer,
    limits,
    liveness::Liveness,
    observe::{logs::Logs, machine, metrics::Metrics},
};

/// What the handlers work with.
pub(crate) struct Api {
    pub(crate) deployer: Deployer,
    pub(crate) store: Store,
    pub(crate) logs: Logs,
    pub(crate) metrics: Metrics,
    pub(crate) tokens: auth::Tokens,
    /// How apps are reached: the domain and the port of the traffic address.
    pub(crate) urls: Urls,
    /// Whether all apps are brought back.
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) followers: Arc<Followers>,
    pub(crate) changes: changes::Changes,
    /// What the bodies hold that are being read into memory.
    pub(crate) bodies: Budget,
    /// Ends what would otherwise be followed for ever.
    pub(crate) stop: CancellationToken,
    /// Asks the host's own threads.
    pub(crate) liveness: Arc<Liveness>,
    /// What is seen of the machine.
    pub(crate) machine: Arc<machine::Watch>,
    pub(crate) started_at: jiff::Timestamp,
}

impl Api {
    /// The id of the app that has this name now; none while it is being destroyed.
    pub(crate) fn app_id(&self, app: &AppName) -> Option<String> {
        self.deployer.app(app).ok().map(|entry| entry.id.clone())
    }
}

/// Where apps are reached.
#[derive(Debug, Clone)]
pub(crate) struct Urls {
    pub(crate) domain: String,
    pub(crate) port: u16,
}

impl Urls {
    /// The address of an app, or of a part of one; none where the name is longer than DNS lets it be.
    pub(crate) fn of(&self, label: &str) -> Option<String> {
        let port = if self.port == 80 { String::new() } else { format!(":{}", self.port) };
        (label.len() <= limits::DNS_LABEL_BYTES_MAX).then(|| format!("http://{label}.{}{port}/", self.domain))
    }
}

/// All routes. `openapi` describes the same ones, which a test holds together.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let routes = Router::new()
        .route("/", get(index::show))
        .route("/livez", get(status::live))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/v1/openapi.json", get(openapi::show))
        .route("/v1/status", get(status::host))
        .route("/v1/metrics", get(metrics::list))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{name}", delete(tokens::delete))
        .route("/v1/apps", get(apps::list).post(apps::create))
        .route("/v1/apps/{app}", get(apps::show).patch(apps::change).delete(apps::delete))
        .route("/v1/apps/{app}/start", post(apps::start))
        .route("/v1/apps/{app}/stop", post(apps::stop))
        .route("/v1/apps/{app}/status", get(status::app))
        .route("/v1/apps/{app}/build-error", put(build_error::set).delete(build_error::clear))
        .route("/v1/apps/{app}/pushes", get(pushes::list).post(pushes::create))
        .route("/v1/apps/{app}/pushes/{id}", get(pushes::show))
        .route("/v1/apps/{app}/pushes/{id}/cancel", post(pushes::cancel))
        .route("/v1/apps/{app}/releases", get(releases::list))
        .route("/v1/apps/{app}/releases/{release}", get(releases::show))
        .route("/v1/apps/{app}/releases/{release}/diff", get(releases::diff))
        .route("/v1/apps/{app}/rollback", post(releases::rollback))
        .route("/v1/apps/{app}/formation", get(formation::show).patch(formation::change).post(formation::create))
        .route("/v1/apps/{app}/formation/{process}", delete(formation::delete))
        .route("/v1/apps/{app}/instances", get(instances::list))
        .route("/v1/apps/{app}/instances/{id}/restart", post(instances::restart))
        .route("/v1/apps/{app}/advice", get(advice::show))
        .route("/v1/apps/{app}/config", get(config::show).patch(config::change))
        .route("/v1/apps/{app}/grants", get(config::grants).patch(config::change_grants))
        .route("/v1/apps/{app}/cores", get(cores::show).patch(cores::change))
        .route("/v1/apps/{app}/metrics", get(metrics::show))
        .route("/v1/apps/{app}/broadcasts", post(events::broadcast))
        .route("/v1/apps/{app}/logs", get(logs::show))
        .route("/v1/apps/{app}/activity", get(activity::show))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), changes::carry_through))
        // An app's work, which is ended with its sender like that on any other request, and so is not carried through.
        .route("/v1/apps/{app}/events", post(events::send))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method);
    routes
        .layer(middleware::from_fn_with_state(Arc::clone(&api), edge::authorise))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), edge::identify))
        .with_state(api)
}

async fn unknown_route(request: Request) -> Error {
    Error::UnknownRoute { method: request.method().to_string(), path: request.uri().path().to_owned() }
}

async fn wrong_method(request: Request) -> Error {
    Error::WrongMethod { method: request.method().to_string(), path: request.uri().path().to_owned() }
}

fn new_request_id() -> String {
    RequestId::from_random(rand::random()).to_string()
}

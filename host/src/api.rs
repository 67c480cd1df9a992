//! Owns the API's routes. Never handles a request: each resource has its own file.

#![allow(unused_qualifications, reason = "the descriptions of handlers expand to qualified names of their parameters")]

mod activity;
mod admin_token;
mod advice;
mod alerts;
mod apps;
pub(crate) mod auth;
pub(crate) mod bad_request;
mod body;
mod broadcast_view;
mod broadcasts;
mod browser;
mod build_error;
mod caller;
pub(crate) mod changes;
pub(crate) mod cloud_event;
mod config;
mod cores;
mod dashboard;
mod dead_letters;
mod drains;
mod edge;
mod error;
mod events;
mod failure_log;
mod formation;
mod instances;
pub(crate) mod limits;
mod log_filter;
mod logs;
mod metrics;
pub(crate) mod ndjson;
mod openapi;
mod path;
mod plugins;
mod policy;
mod public_status;
mod push_view;
mod pushes;
mod query;
mod refused_calls;
mod releases;
mod request;
mod route_roles;
mod schedules;
pub(crate) mod server;
mod session;
mod shared_top;
mod sign_in;
mod sse;
mod state;
mod status;
mod status_page;
mod stored_events;
mod stream;
mod timing_tokens;
mod token_end;
mod token_upkeep;
mod tokens;
mod urls;

use std::sync::Arc;

use axum::{Extension, Router, extract::Request, middleware};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use self::admin_token::{TokenError, load as load_tokens};
pub(crate) use self::browser::AdminNames;
pub(crate) use self::public_status::{StatusPage, StatusPageConfig};
use self::{error::Error, query::KnownQueries};
pub(crate) use self::{
    failure_log::FailureLog, refused_calls::RefusedCalls, shared_top::SharedTop, state::Api,
    timing_tokens::TimingTokens, token_upkeep::Service as TokenUpkeep, urls::Urls,
};

/// Returns all routes and their description. A handler without a description does not compile here.
fn described() -> (Router<Arc<Api>>, Router<Arc<Api>>, OpenApi) {
    let (routes, mut description) = OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(dashboard::show))
        .routes(routes!(status::live))
        .routes(routes!(status::ready))
        .routes(routes!(status::metrics))
        .routes(routes!(status_page::page))
        .routes(routes!(status_page::app))
        .routes(routes!(openapi::show))
        .routes(routes!(status::host))
        .routes(routes!(alerts::list))
        .routes(routes!(metrics::list))
        .routes(routes!(stream::show))
        .routes(routes!(sign_in::show, sign_in::create, sign_in::delete))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::delete))
        .routes(routes!(tokens::rotate))
        .routes(routes!(plugins::list, plugins::install))
        .routes(routes!(plugins::show, plugins::remove))
        .routes(routes!(apps::list, apps::create))
        .routes(routes!(apps::show, apps::change, apps::delete))
        .routes(routes!(apps::start))
        .routes(routes!(apps::stop))
        .routes(routes!(status::app))
        .routes(routes!(build_error::set, build_error::clear))
        .routes(routes!(pushes::list, pushes::create))
        .routes(routes!(pushes::show))
        .routes(routes!(pushes::cancel))
        .routes(routes!(releases::list))
        .routes(routes!(releases::show))
        .routes(routes!(releases::diff))
        .routes(routes!(releases::rollback))
        .routes(routes!(releases::approve))
        .routes(routes!(formation::show, formation::change, formation::create))
        .routes(routes!(formation::delete))
        .routes(routes!(instances::list))
        .routes(routes!(instances::restart))
        .routes(routes!(advice::show))
        .routes(routes!(config::show, config::change))
        .routes(routes!(config::grants, config::change_grants))
        .routes(routes!(cores::show, cores::change))
        .routes(routes!(policy::show_host))
        .routes(routes!(policy::show, policy::change))
        .routes(routes!(metrics::show))
        .routes(routes!(broadcasts::send))
        .routes(routes!(stored_events::list))
        .routes(routes!(stored_events::show))
        .routes(routes!(stored_events::cancel))
        .routes(routes!(dead_letters::list, dead_letters::drop_all))
        .routes(routes!(dead_letters::redrive))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::run))
        .routes(routes!(logs::show))
        .routes(routes!(drains::list, drains::add))
        .routes(routes!(drains::remove))
        .routes(routes!(activity::show))
        .routes(routes!(activity::list))
        .split_for_parts();
    let (events, described) = OpenApiRouter::new().routes(routes!(events::send)).split_for_parts();
    description.merge(described);
    (routes, events, openapi::completed(description))
}

pub(crate) fn router(api: Arc<Api>) -> Router {
    let (routes, events, description) = described();
    let routes = routes
        .layer(middleware::from_fn_with_state(api.changes.clone(), changes::run_to_completion))
        // An event ends when its sender disconnects, as any request to an app does, so it doesn't
        // run to completion.
        .merge(events)
        .layer(middleware::from_fn_with_state(Arc::new(KnownQueries::of(&description)), query::only_known))
        .layer(Extension(Arc::new(openapi::Document::new(|| described().2))))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method);
    routes
        .layer(middleware::from_fn_with_state(Arc::clone(&api), edge::authorise))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), dashboard::serve))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), edge::identify))
        .with_state(api)
}

async fn unknown_route(request: Request) -> Error {
    Error::UnknownRoute { method: request.method().to_string(), path: request.uri().path().to_owned() }
}

async fn wrong_method(request: Request) -> Error {
    Error::WrongMethod { method: request.method().to_string(), path: request.uri().path().to_owned() }
}

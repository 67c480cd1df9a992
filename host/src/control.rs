//! The control plane: owns the apps' records, turns bundles into serving releases, and runs the
//! lifecycle of apps (create, push, start, stop, destroy). Never contains policy rules, guest code
//! or SQL: the crates `policy`, `engine` and `store` do.

mod accepted_configs;
mod app;
mod app_command;
mod app_table;
mod app_task;
mod app_usage;
mod apps;
mod background;
pub(crate) mod data_folder;
mod data_gate;
mod error;
pub(crate) mod events;
pub(crate) mod failpoint;
pub(crate) mod key_value;
pub(crate) mod limits;
mod mailbox;
mod plugin_users;
mod plugins;
mod push;
mod push_jobs;
mod push_runner;
mod queries;
mod release;
mod requester;
mod service;
mod settings;
mod shutdown;
mod startup;
mod storing;

pub(crate) use self::{
    app::{APP_DESTROYED, AppRecord, Fields},
    background::alerts,
    background::drains,
    background::scheduler as schedules,
    error::{DeployError, Failure},
    plugins::{Plugin, PluginProblem, PluginRelease},
    push::progress::PushNow,
    push::pushes::PushLimits,
    push::request::Accepted,
    push::upload::Received,
    queries::EventHandlers,
    requester::{Authority, Requester},
    service::{ControlPlane, Options, Service},
    settings::Change,
    startup::Restored,
};

//! Finds the app and the part of the app that a host name selects. Never reads a request's path or
//! fields.

#![expect(clippy::result_large_err, reason = "a problem is rare, and is answered where it is made")]

use super::{
    config::Config,
    last_host::LastHost,
    router::{Route, is_domain, route},
};
use crate::{
    http::problem::Problem,
    invoke_problem::no_such_part,
    runtime::{App, Directory},
};
use http::{StatusCode, uri::Authority};
use isopod_policy::{InstanceId, ReleaseNumber};
use std::sync::Arc;

/// The part of an app that a request is for.
pub(super) enum Part {
    /// The active release.
    Serving,
    Release(ReleaseNumber),
    Instance(InstanceId),
}

impl Part {
    /// Parses the label before the `--` of a host name.
    fn read(label: &str) -> Option<Self> {
        let label = label.to_ascii_lowercase();
        let release = label.strip_prefix('v').and_then(|number| number.parse().ok());
        release.map(Self::Release).or_else(|| label.parse().ok().map(Self::Instance))
    }
}

/// Returns the app and the part that a host name selects. `last` is the connection's last host.
pub(super) fn find(
    last: &LastHost,
    host: Option<&Authority>,
    config: &Config,
    directory: &Directory,
) -> Result<(Arc<App>, Part), Problem> {
    let version = directory.version();
    if let Some(app) = host.and_then(|host| last.app(host, version)) {
        return Ok((app, Part::Serving));
    }
    let (app, part) = select(host.map_or("", Authority::as_str), config, directory)?;
    if let (Part::Serving, Some(host)) = (&part, host) {
        last.set_app(host, &app, version);
    }
    Ok((app, part))
}

fn select(host: &str, config: &Config, directory: &Directory) -> Result<(Arc<App>, Part), Problem> {
    let unknown = |detail: String| {
        let port = host.rsplit_once(':').map(|(_, port)| format!(":{port}")).unwrap_or_default();
        let hint = format!("the URL of an app is http://APP.{}{port}/", config.domain);
        let problem = Problem::new(StatusCode::NOT_FOUND, "unknown-app", "No such app", detail).hint(hint);
        // Shows a client of the API that this is not the admin address.
        problem.member("address", "traffic")
    };
    if let Some(only) = &config.only_app {
        let app = directory.get(only).ok_or_else(|| unknown(format!("there is no app `{only}`")))?;
        return Ok((app, Part::Serving));
    }
    let (name, part) = match route(host, &config.domain) {
        Route::App(name) => (name, Some(Part::Serving)),
        Route::Part { part, app } => (app, Part::read(part)),
        Route::Elsewhere if is_domain(host, &config.domain) => {
            let port = host.rsplit_once(':').map(|(_, port)| format!(":{port}")).unwrap_or_default();
            let domain = &config.domain;
            return Err(unknown(format!(
                "the host name has no app: put the app's name first, as in http://hello.{domain}{port}/"
            )));
        }
        Route::Elsewhere => {
            return Err(unknown(format!("`{host}` does not have the form APP.{}", config.domain)));
        }
    };
    let found = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        false => directory.get(name),
        true => directory.get(&name.to_ascii_lowercase()),
    };
    let app =
        found.filter(|app| !app.is_plugin()).ok_or_else(|| unknown(format!("there is no app `{name}`")).app(name))?;
    let no_part = || no_such_part(format!("`{host}` is not a release or an instance of `{name}`")).app(name);
    Ok((app, part.ok_or_else(no_part)?))
}

//! The role that each route of the API needs. Never sees a token.

use axum::http::Method;
use isopod_policy::{AppName, Role};
use percent_encoding::percent_decode_str;

/// The authorisation that a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// No token.
    Nothing,
    /// A token with one of these roles: for this app, or for any app if `app` is `None`.
    Role { any_of: &'static [Role], app: Option<String>, all_apps: bool },
}

impl Need {
    /// Raises the role of a change of a plugin to `admin` on every route. A plugin sees and answers
    /// requests to all apps that use it, so a role for one app must not change it.
    pub(crate) fn for_kind(self, method: &Method, is_plugin: impl FnOnce(&AppName) -> bool) -> Self {
        match self {
            Self::Role { app: Some(app), all_apps, .. }
                if !is_read(method) && decoded(&app).is_some_and(|app| is_plugin(&app)) =>
            {
                Self::Role { any_of: &[Role::Admin], app: Some(app), all_apps }
            }
            need => need,
        }
    }
}

/// Returns the app that a path segment names. The routes decode their segments too.
fn decoded(segment: &str) -> Option<AppName> {
    percent_decode_str(segment).decode_utf8().ok()?.parse().ok()
}

fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Returns the authorisation that a route needs. Unknown routes need a role too.
pub(crate) fn needed(method: &Method, path: &str) -> Need {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let reads = is_read(method);
    let need = |any_of, app: Option<&str>, all_apps| Need::Role { any_of, app: app.map(str::to_owned), all_apps };
    match segments.as_slice() {
        ["livez" | "readyz"] => Need::Nothing,
        // The handlers show only what the operator made public.
        ["status"] | ["status", _] if reads => Need::Nothing,
        // A session has the role of its token.
        ["v1", "session"] => need(&[Role::Read, Role::Send], None, false),
        ["v1", "tokens", ..] => need(&[Role::Admin], None, true),
        // A token for some apps may list apps: the list contains only its apps.
        ["v1", "apps"] if reads => need(&[Role::Read], None, false),
        ["v1", "apps"] => need(&[Role::Deploy], None, true),
        ["v1", "apps", app] if *method == Method::DELETE => need(&[Role::Admin], Some(app), false),
        // Only the operator divides the machine among apps.
        ["v1", "apps", app, "cores" | "policy"] if !reads => need(&[Role::Admin], Some(app), false),
        ["v1", "apps", app, "releases", _, "approve"] => need(&[Role::Admin], Some(app), false),
        // The sender of an event may read its state. The response to a repeated event shows it too.
        ["v1", "apps", app, "events", _] if reads => need(&[Role::Read, Role::Send], Some(app), false),
        ["v1", "apps", app, ..] if reads => need(&[Role::Read], Some(app), false),
        ["v1", "apps", app, "events" | "broadcasts"] => need(&[Role::Send], Some(app), false),
        // A change of the formation that does more than scale needs the role `deploy`, which its
        // handler checks.
        ["v1", "apps", app, "formation"] if *method == Method::PATCH => need(&[Role::Operate], Some(app), false),
        ["v1", "apps", app, "start" | "stop" | "instances" | "events" | "dead-letters" | "schedules", ..] => {
            need(&[Role::Operate], Some(app), false)
        }
        ["v1", "apps", app, ..] => need(&[Role::Deploy], Some(app), false),
        ["metrics"] | ["v1", "status" | "activity"] => need(&[Role::Read], None, true),
        _ if reads => need(&[Role::Read], None, false),
        _ => need(&[Role::Admin], None, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_but_liveness_and_readiness_needs_a_role() {
        for path in ["/", "/metrics", "/v1/apps", "/v1/apps/x/logs", "/v1/openapi.json", "/nonsense", "//livez"] {
            assert_ne!(needed(&Method::GET, path), Need::Nothing, "{path}");
        }
        assert_eq!(needed(&Method::GET, "/livez"), Need::Nothing);
        assert_eq!(needed(&Method::GET, "/readyz"), Need::Nothing);
        for path in ["/status", "/status/shop"] {
            assert_eq!(needed(&Method::GET, path), Need::Nothing);
            assert_ne!(needed(&Method::POST, path), Need::Nothing);
        }
    }

    #[test]
    fn each_operation_of_an_app_needs_its_role() {
        let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
        let rows = [
            (&get, "logs", "read operate deploy admin"),
            (&get, "events", "read operate deploy admin"),
            (&get, "events/42", "read send operate deploy admin"),
            (&get, "events/42/cancel", "read operate deploy admin"),
            (&get, "broadcasts", "read operate deploy admin"),
            (&post, "events", "send operate deploy admin"),
            (&post, "broadcasts", "send operate deploy admin"),
            (&post, "events/42/cancel", "operate deploy admin"),
            (&post, "dead-letters/redrive", "operate deploy admin"),
            (&delete, "dead-letters", "operate deploy admin"),
            (&post, "schedules/nightly/run", "operate deploy admin"),
            (&post, "start", "operate deploy admin"),
            (&post, "stop", "operate deploy admin"),
            (&post, "instances/web-7f3k2/restart", "operate deploy admin"),
            (&patch, "formation", "operate deploy admin"),
            (&post, "formation", "deploy admin"),
            (&delete, "formation/web", "deploy admin"),
            (&post, "pushes", "deploy admin"),
            (&post, "pushes/p-1/cancel", "deploy admin"),
            (&post, "rollback", "deploy admin"),
            (&patch, "config", "deploy admin"),
            (&patch, "grants", "deploy admin"),
            (&patch, "cores", "admin"),
            (&patch, "policy", "admin"),
            (&get, "policy", "read operate deploy admin"),
            (&post, "releases/v7/approve", "admin"),
            (&patch, "events/42", "operate deploy admin"),
            (&post, "anything-else", "deploy admin"),
        ];
        for (method, path, roles) in rows {
            let need = needed(method, &format!("/v1/apps/mine/{path}"));
            let Need::Role { any_of, app: Some(_), all_apps: false } = need else { panic!("{method} {path}") };
            let may = |role: &Role| any_of.iter().any(|needed| role.includes(*needed));
            let allowed: Vec<&str> = Role::ALL.into_iter().filter(may).map(Role::as_str).collect();
            assert_eq!(allowed.join(" "), roles, "{method} {path}");
        }
        for (method, path) in [(&post, "/v1/apps"), (&patch, "/v1/apps/mine")] {
            let need = needed(method, path);
            assert!(matches!(need, Need::Role { any_of: [Role::Deploy], .. }), "{method} {path}: {need:?}");
        }
    }

    #[test]
    fn every_change_of_a_plugin_needs_the_role_admin() {
        let is_plugin = |app: &AppName| app.as_str() == "cors";
        let any_of = |method: &Method, path: &str| match needed(method, path).for_kind(method, is_plugin) {
            Need::Role { any_of, .. } => any_of,
            Need::Nothing => panic!("{method} {path}"),
        };
        for path in ["", "/pushes", "/stop", "/events", "/instances/plugin-7f3k2/restart", "/config", "/anything-else"]
        {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
                for name in ["cors", "c%6Frs", "%63%6f%72%73"] {
                    assert_eq!(any_of(&method, &format!("/v1/apps/{name}{path}")), [Role::Admin], "{method} {path}");
                }
                let of_app = format!("/v1/apps/shop{path}");
                let Need::Role { any_of: expected, .. } = needed(&method, &of_app) else { panic!("{of_app}") };
                assert_eq!(any_of(&method, &of_app), expected, "{method} {path}");
            }
            assert_eq!(any_of(&Method::GET, &format!("/v1/apps/cors{path}"))[0], Role::Read, "{path}");
        }
    }
}

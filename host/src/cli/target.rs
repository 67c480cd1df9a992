//! The shared arguments of every command about one app, and requests to that app's part of the API.
//! Never knows a command or formats a result.

use clap::Args;
use isopod_policy::AppName;
use serde_json::Value;
use ureq::http::Method;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::output;
use super::progress::Step;
use super::project::AppArgs;

/// The app, its host, and the output format.
#[derive(Args, Debug, Clone)]
pub(crate) struct Target {
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

impl Target {
    /// Returns whether the command prints JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Returns the app for a command that only reads.
    pub(crate) fn look(&self) -> Result<RemoteApp, Failure> {
        let name = self.app.resolve()?;
        Ok(RemoteApp { client: Client::near_project(&self.host)?, name, json: self.json })
    }

    /// Returns the app for a command that changes it. In the folder of a project that `isopod dev`
    /// runs, this is the app on that host, and a note says so, since `isopod deploy` uses another
    /// host.
    pub(crate) fn change(&self) -> Result<RemoteApp, Failure> {
        let app = self.look()?;
        if app.client.is_of_dev(&self.host) {
            let address = app.client.address();
            output::note(&format!("using the host of `isopod dev` at {address}; name another with --host"));
        }
        Ok(app)
    }
}

/// One app on a host.
pub(crate) struct RemoteApp {
    pub(crate) client: Client,
    pub(crate) name: AppName,
    json: bool,
}

impl RemoteApp {
    /// Returns an app of the given host, printing for people.
    #[cfg(test)]
    pub(crate) fn at(client: Client, name: &str) -> RemoteApp {
        RemoteApp { client, name: name.parse().unwrap(), json: false }
    }

    /// Returns the path of a resource of the app, such as `/releases`; an empty `rest` gives the
    /// app itself.
    fn path(&self, rest: &str) -> String {
        format!("/v1/apps/{}{rest}", self.name)
    }

    /// Returns whether the command prints JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn get(&self, rest: &str) -> Result<Value, Failure> {
        self.client.get(&self.path(rest))?.success()
    }

    /// Requests a list of the app as one answer of at most `items_max` items.
    pub(crate) fn all(&self, rest: &str, items_max: usize) -> Result<Value, Failure> {
        self.client.all(&self.path(rest), items_max)
    }

    pub(crate) fn post(&self, rest: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.client.send(Method::POST, &self.path(rest), body)?.success()
    }

    pub(crate) fn patch(&self, rest: &str, body: &Value) -> Result<Value, Failure> {
        self.client.send(Method::PATCH, &self.path(rest), Some(body))?.success()
    }

    pub(crate) fn delete(&self, rest: &str) -> Result<Value, Failure> {
        self.client.delete(&self.path(rest))?.success()
    }

    /// Runs a change that the host answers after its rollout, with a progress display.
    pub(crate) fn rolling_out<T>(&self, change: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let step = Step::spinner(&format!("changing {}", self.name));
        let outcome = change();
        step.finish();
        outcome
    }

    /// Prints an answer: JSON for programs, otherwise `text`.
    pub(crate) fn show(&self, answer: &Value, text: impl FnOnce() -> Result<String, Failure>) -> Result<(), Failure> {
        if self.json {
            output::json(answer);
        } else {
            output::emit(&text()?);
        }
        Ok(())
    }

    /// Prints like [`RemoteApp::show`], but unchanged text, since a program may read it.
    pub(crate) fn show_exact(
        &self,
        answer: &Value,
        text: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        if self.json {
            output::json(answer);
        } else {
            output::emit_exact(&text()?);
        }
        Ok(())
    }

    /// Reports a change and the release that serves it. Prints nothing with `--json`: programs read
    /// the app.
    pub(crate) fn done(&self, what: &str) {
        if self.json {
            return;
        }
        // The change succeeded, so a failure to read the app isn't reported.
        let effect = self.get("").map(|app| self.effect(&app)).unwrap_or_default();
        output::note(&output::done(&format!("{what}{effect}")));
    }

    /// Returns which release serves after a change, as the end of a sentence.
    fn effect(&self, app: &Value) -> String {
        match output::release(app, "release").as_str() {
            "" => "; it applies to the first release".to_owned(),
            release if is_stopped(app) => {
                format!("; {} is stopped and serves {release} after a start", self.name)
            }
            release => format!("; {} serves {release}", self.name),
        }
    }
}

/// Returns whether an app is stopped, so that only a start makes it serve.
pub(crate) fn is_stopped(app: &Value) -> bool {
    output::field(app, "state") == "stopped"
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use serde_json::json;

    #[test]
    fn a_stopped_app_is_not_reported_as_serving() {
        let host = FakeHost::responding([]);
        let effect = |state: &str| host.app("shop").effect(&json!({"state": state, "release": 4}));
        assert_eq!(effect("running"), "; shop serves v4");
        assert_eq!(effect("stopped"), "; shop is stopped and serves v4 after a start");
        assert_eq!(host.app("shop").effect(&json!({"state": "stopped"})), "; it applies to the first release");
    }
}

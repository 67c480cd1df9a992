//! What every command about one app takes, and the app's part of the API that it leads to.
//! It knows no command: what to ask and how to show the answer is theirs.

use clap::Args;
use isopod_policy::AppName;
use serde_json::Value;
use ureq::http::Method;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::output;
use super::progress::Step;
use super::project::AppArgs;

/// The app that is meant, its host, and how to print.
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
    /// The app, for a command that only looks.
    pub(crate) fn look(&self) -> Result<RemoteApp, Failure> {
        let name = self.app.resolve()?;
        Ok(RemoteApp { client: Client::near_project(&self.host)?, name, json: self.json })
    }

    /// The app, for a command that changes it. In the folder of a project that `isopod dev` runs this is the app of that
    /// host, which is said, since `isopod deploy` sends elsewhere.
    pub(crate) fn change(&self) -> Result<RemoteApp, Failure> {
        let app = self.look()?;
        if app.client.is_of_dev(&self.host) {
            let address = app.client.address();
            output::note(&format!("on the host of `isopod dev`, {address}; --host names another"));
        }
        Ok(app)
    }
}

/// One app at a host.
pub(crate) struct RemoteApp {
    pub(crate) client: Client,
    pub(crate) name: AppName,
    json: bool,
}

impl RemoteApp {
    /// An app of a host that is already known, printing for people.
    #[cfg(test)]
    pub(crate) fn at(client: Client, name: &str) -> RemoteApp {
        RemoteApp { client, name: name.parse().unwrap(), json: false }
    }

    /// Where something of the app is found, such as its `/releases`; the app itself for nothing.
    fn path(&self, rest: &str) -> String {
        format!("/v1/apps/{}{rest}", self.name)
    }

    pub(crate) fn get(&self, rest: &str) -> Result<Value, Failure> {
        self.client.get(&self.path(rest))?.success()
    }

    /// A list of the app, as one answer of up to so many items.
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

    /// Makes a change that the host answers once it is rolled out, and shows that it is waited for.
    pub(crate) fn rolling_out<T>(&self, change: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let step = Step::spinner(&format!("changing {}", self.name));
        let outcome = change();
        step.finish();
        outcome
    }

    /// Prints an answer: as it came for programs, else as the text that is made of it.
    pub(crate) fn show(&self, answer: &Value, text: impl FnOnce() -> Result<String, Failure>) -> Result<(), Failure> {
        if self.json {
            output::json(answer);
        } else {
            output::emit(&text()?);
        }
        Ok(())
    }

    /// As above, for text that a program may need unchanged.
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

    /// Says that something is done and which release serves since. Programs find that in the app, so they are told nothing.
    pub(crate) fn done(&self, what: &str) {
        if self.json {
            return;
        }
        // The change is made, so an answer that fails to come is no failure of it.
        let since = self.get("").map(|app| self.since(&app)).unwrap_or_default();
        output::note(&output::done(&format!("{what}{since}")));
    }

    /// Which release serves since a change, as the end of a sentence about it.
    fn since(&self, app: &Value) -> String {
        match output::release(app, "release").as_str() {
            "" => "; its first release will have it".to_owned(),
            release if is_stopped(app) => {
                format!("; {} is stopped, and serves {release} once it is started", self.name)
            }
            release => format!("; {} serves {release}", self.name),
        }
    }
}

/// Whether an app, as the host shows it, waits for somebody to start it.
pub(crate) fn is_stopped(app: &Value) -> bool {
    output::field(app, "state") == "stopped"
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use serde_json::json;

    #[test]
    fn a_stopped_app_is_not_said_to_serve() {
        let host = FakeHost::answering([]);
        let since = |state: &str| host.app("shop").since(&json!({"state": state, "release": 4}));
        assert_eq!(since("running"), "; shop serves v4");
        assert_eq!(since("stopped"), "; shop is stopped, and serves v4 once it is started");
        assert_eq!(host.app("shop").since(&json!({"state": "stopped"})), "; its first release will have it");
    }
}

//! Asks gates about releases: plugins that may refuse the activation of a release. A call runs in
//! an instance of the gate's release that serves, on the gate's CPU account. Never decides what
//! happens after a refusal or a failure.

use super::{
    app::App, directory::Directory, invoke::Input, plugin_call::PluginFailureReason, plugin_use::PluginOutcome,
};
use isopod_engine::{GateDecision, GatedRelease};
use isopod_policy::{Entry, GateUse};

/// Asks a gate about a release of an app.
pub(crate) async fn ask_gate(
    directory: &Directory,
    app: &App,
    used: &GateUse,
    release: GatedRelease,
) -> Result<GateDecision, PluginFailureReason> {
    let calls = app.resources().plugin_calls(&used.plugin.name);
    // The number of gates is limited, and so is the number of counters that an app keeps.
    calls.keep();
    let call = async {
        let plugin = directory.get(used.plugin.name.as_str()).filter(|app| app.is_plugin());
        let plugin = plugin.ok_or(PluginFailureReason::Missing)?;
        let running = directory.serving(&plugin).await.map_err(PluginFailureReason::Unavailable)?;
        running.ensure_accepted(&used.plugin)?;
        let config = used.config.text();
        let work = move |instance: Box<isopod_engine::Instance>| async move {
            instance.before_activate(&config, &release).await
        };
        Ok(running.call_plugin(Entry::Gate, app.resources(), &calls, (&"", &Input::none()), work).await?)
    };
    let decided = call.await;
    calls.count(match &decided {
        Ok(GateDecision::Allow) => PluginOutcome::Pass,
        Ok(GateDecision::Refuse(_)) => PluginOutcome::Refuse,
        Err(_) => PluginOutcome::Failure,
    });
    decided
}

//! Formats the output of `isopod apps advise`: the type recommended for an app, based on its users
//! of the last month. Never requests the advice.

use serde_json::Value;

use super::output::{self, field};

/// Returns the advice as text, with the commands that apply it.
pub(crate) fn text(app: &Value, advice: &Value) -> String {
    let (name, present, advised) = (field(app, "name"), field(app, "type"), field(advice, "advice"));
    let mut text = output::pairs(&[
        ("app", name.clone()),
        ("type", present.clone()),
        ("advised", advised.clone()),
        ("why", field(advice, "reason")),
        ("month", field(advice, "month")),
        ("users", field(advice, "monthly_users")),
        ("events per user", field(advice, "events_per_user")),
    ]);
    if !advised.is_empty() && advised != present {
        // The type can change only while the app is stopped.
        let commands = ["stop --wait", &format!("type {advised}"), "start"];
        let commands = commands.map(|command| format!("isopod apps {command} --app {name}"));
        text.push_str(&format!("\n{}\n", commands.join(" && ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_recommended_type_is_shown_with_the_commands_that_apply_it() {
        let advice = json!({"advice": "staging", "reason": "12 users, 3.5 events each", "monthly_users": 12,
            "events_per_user": 3.5, "month": "2026-11"});
        let text = text(&json!({"name": "shop", "type": "dev"}), &advice);
        assert!(text.contains("events per user  3.5\n"), "{text}");
        let commands = "isopod apps stop --wait --app shop && isopod apps type staging --app shop && \
                        isopod apps start --app shop\n";
        assert!(text.ends_with(commands), "{text}");
    }

    #[test]
    fn a_fitting_type_needs_no_command() {
        let text = text(&json!({"name": "shop", "type": "dev"}), &json!({"advice": "dev"}));
        assert!(!text.contains("isopod apps"), "{text}");
    }
}

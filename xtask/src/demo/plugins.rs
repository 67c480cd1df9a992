//! The demo of the shipped plugins: their settings, an app that uses four plugins, and what each
//! plugin does with requests, a deploy and the activity of apps. The demo fails if a plugin behaves
//! differently.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use isopod_toolchain::guest_file;

use super::answers::{self, Answer};
use super::ask::{Ask, TOKEN};
use super::running::RunningHost;
use crate::step;
use crate::webhook::Webhook;

/// The app that uses four of the plugins. Its component is that of the example `hello`.
pub(super) const SHOP: &str = "shop";

/// The gate refuses the releases of this app.
const PAYROLL: &str = "payroll";

/// The secret with which [`TOKEN`] is signed.
const SECRET: &str = "a-secret-of-the-demo-with-40-characters.";

/// An origin that the shop permits.
const ORIGIN: &str = "https://app.example.org";

/// The maximum number of requests until one is refused; the shop permits 3 per minute.
const REQUESTS_MAX: usize = 5;

/// The timeout of a hook's message.
const MESSAGE_WITHIN: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(100);

const DAY_SECONDS: u64 = 24 * 3600;

/// Returns the settings of the demo's host: a gate that allows releases of an app on another day of
/// the week only.
pub(super) fn settings(now: SystemTime) -> String {
    let days = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY_SECONDS;
    // 1970 began on a Thursday. The day after tomorrow doesn't begin during the demo.
    let day = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"][(days + 2) as usize % 7];
    let allowed = format!("{{ days = \"{day}\", from = \"09:00\", to = \"17:00\" }}");
    format!("[[gates]]\nuse = \"deploy-window@^0.1\"\nconfig = {{ allow = [{allowed}] }}\napps = [\"{PAYROLL}\"]\n")
}

/// Sets the config vars and grants of the plugins.
pub(super) fn configure(host: &RunningHost, webhook: &Webhook, advice: &str) -> Result<()> {
    step::announce("setting the config vars and grants of the plugins");
    let (address, url) = (webhook.address().to_string(), format!("WEBHOOK_URL={}", webhook.url()));
    let secret = format!("JWT_SECRET={SECRET}");
    for words in [
        ["grants", "set", "--http", &address, "--app", "notify"].as_slice(),
        &["config", "set", "FORMAT=slack", &url, "--app", "notify"],
        &["config", "set", &secret, "--secret", "--app", "require-jwt"],
    ] {
        step::run_quietly(&mut host.command(words)?, advice)?;
    }
    Ok(())
}

/// Writes the project of the shop and returns its folder.
pub(super) fn write_shop(host: &RunningHost) -> Result<PathBuf> {
    let folder = host.data().join(SHOP);
    let written = || {
        fs::create_dir_all(folder.join("static"))?;
        fs::write(folder.join("isopod.toml"), include_str!("shop/isopod.toml"))?;
        fs::write(folder.join("static/index.html"), include_str!("shop/static/index.html"))?;
        fs::copy(guest_file(&step::root(), "hello"), folder.join("hello.wasm"))
    };
    written().with_context(|| format!("cannot write {}", folder.display()))?;
    Ok(folder)
}

/// Returns the list of the installed plugins.
pub(super) fn introduction(host: &RunningHost) -> Result<String> {
    let output = host.command(&["plugins"])?.output().context("cannot list the plugins")?;
    let list: String = String::from_utf8_lossy(&output.stdout).lines().map(|line| format!("    {line}\n")).collect();
    let shop = host.data().join(SHOP).join("isopod.toml");
    Ok(format!(
        "Plugins, each installed with `isopod plugins install plugins/NAME`:\n{list}\
         The app {SHOP} uses four plugins as middleware: {}\n",
        shop.display()
    ))
}

/// Returns the exchanges that show the effect of a plugin, in order.
pub(super) fn answers(host: &RunningHost, webhook: &Webhook, plugin: &str) -> Result<Vec<Answer>> {
    match plugin {
        "static-files" => static_files(host),
        "cors" => cors(host),
        "require-jwt" => require_jwt(host),
        "rate-limit" => rate_limit(host),
        "feature-flags" => feature_flags(host),
        "deploy-window" => deploy_window(host),
        "notify" => notify(host, webhook),
        other => bail!("the demo has no request for the plugin {other}"),
    }
}

fn static_files(host: &RunningHost) -> Result<Vec<Answer>> {
    let ask = Ask::get(SHOP, "/");
    let response = ask.send(host)?;
    let tag = response.headers().get("etag").context("the file has no ETag")?.to_str()?.to_owned();
    let known = Ask::get(SHOP, "/").header("if-none-match", tag);
    Ok(vec![exchange(host, &ask, 200, &["etag"])?, exchange(host, &known, 304, &[])?])
}

fn cors(host: &RunningHost) -> Result<Vec<Answer>> {
    let preflight = |origin: &str| {
        let ask = Ask::new(SHOP, "OPTIONS", "/echo").header("origin", origin);
        ask.header("access-control-request-method", "PUT")
    };
    let permitted = ["access-control-allow-origin", "access-control-allow-methods"];
    let (own, other) = (preflight(ORIGIN), preflight("https://other.example"));
    if other.send(host)?.headers().contains_key(permitted[0]) {
        bail!("cors permits an unknown origin");
    }
    let mut refused = exchange(host, &other, 204, &[])?;
    refused.text.push_str(", without these fields: the browser doesn't send the request");
    Ok(vec![exchange(host, &own, 204, &permitted)?, refused])
}

fn order() -> Ask<'static> {
    Ask::new(SHOP, "PUT", "/echo").body("text/plain", "an order")
}

fn order_of_ada() -> Ask<'static> {
    order().header("authorization", format!("Bearer {TOKEN}"))
}

fn require_jwt(host: &RunningHost) -> Result<Vec<Answer>> {
    let token = Answer { question: format!("TOKEN={TOKEN}"), text: String::new() };
    let refused = exchange(host, &order(), 401, &["www-authenticate"])?;
    Ok(vec![refused, token, exchange(host, &order_of_ada(), 200, &[])?])
}

fn rate_limit(host: &RunningHost) -> Result<Vec<Answer>> {
    let ask = order_of_ada();
    let mut statuses = Vec::new();
    while statuses.len() < REQUESTS_MAX {
        let response = ask.send(host)?;
        statuses.push(response.status().to_string());
        if response.status() == 429 {
            let after = response.headers().get("retry-after").context("no retry-after")?.to_str()?;
            let (question, statuses) = (format!("{} (repeated)", ask.curl(host)), statuses.join(", "));
            return Ok(vec![Answer { question, text: format!("{statuses}\nretry-after: {after}") }]);
        }
    }
    bail!("rate-limit has not refused any of {REQUESTS_MAX} requests: {}", statuses.join(", "))
}

fn feature_flags(host: &RunningHost) -> Result<Vec<Answer>> {
    let page = |expected: &str| -> Result<Answer> {
        let ask = Ask::get("flagged", "/");
        let text = answers::page(host, &ask)?;
        if text != expected {
            bail!("flagged responded with {text:?} instead of {expected:?}");
        }
        Ok(Answer { question: format!("http://flagged.localhost:{}/", host.listen.port()), text })
    };
    let before = page("the old checkout")?;
    let words = ["config", "set", "FLAG_NEW_CHECKOUT=on", "--app", "feature-flags"];
    step::run_quietly(&mut host.command(&words)?, &format!("the host's log is {}", host.log().display()))?;
    let change = Answer { question: format!("isopod {}", words.join(" ")), text: String::new() };
    Ok(vec![before, change, page("the new checkout")?])
}

fn deploy_window(host: &RunningHost) -> Result<Vec<Answer>> {
    let words = ["deploy", "examples/hello", "--no-build", "--app", PAYROLL];
    let output = host.command(&words)?.current_dir(step::root()).output().context("cannot start a deploy")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() || !said.contains("refused the release") {
        bail!("the gate has not refused the release of {PAYROLL}: {said}");
    }
    let is_reason = |line: &&str| ["why:", "next:"].iter().any(|label| line.trim_start().starts_with(label));
    let text: Vec<&str> = said.lines().filter(is_reason).map(str::trim).collect();
    Ok(vec![Answer { question: format!("isopod {}", words.join(" ")), text: text.join("\n") }])
}

/// Waits until the webhook has received the messages about the deploy of the shop and the refused
/// deploy.
fn notify(host: &RunningHost, webhook: &Webhook) -> Result<Vec<Answer>> {
    let began = Instant::now();
    let (shop, payroll) = (format!("{SHOP}: v1 "), format!(":warning: {PAYROLL}: "));
    loop {
        let texts: Vec<String> = webhook.posts().iter().filter_map(|post| text_of(&post.body)).collect();
        let find = |start: &str| texts.iter().find(|text| text.starts_with(start));
        if let (Some(deployed), Some(refused)) = (find(&shop), find(&payroll)) {
            let question = format!("the webhook {} has received {} messages, such as:", webhook.url(), texts.len());
            return Ok(vec![Answer { question, text: format!("{deployed}\n{refused}") }]);
        }
        if began.elapsed() > MESSAGE_WITHIN {
            bail!("notify has not posted the deploys; the host's log is {}", host.log().display());
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Returns the text of a message for Slack.
fn text_of(message: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message["text"].as_str().map(str::to_owned)
}

/// Sends a request and requires this status of the response. Shows the status, these header fields
/// and the body.
fn exchange(host: &RunningHost, ask: &Ask<'_>, status: u16, fields: &[&str]) -> Result<Answer> {
    let response = ask.send(host)?;
    let question = ask.curl(host);
    if response.status() != status {
        bail!("{question} returned {} instead of {status}: {}", response.status(), response.body().trim());
    }
    let mut lines = vec![response.status().to_string()];
    for field in fields {
        let value = response.headers().get(*field).with_context(|| format!("{question} returned no {field}"))?;
        lines.push(format!("{field}: {}", value.to_str()?));
    }
    lines.extend(response.body().lines().map(str::to_owned));
    Ok(Answer { question, text: lines.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_allows_releases_on_the_day_after_tomorrow() {
        let settings = settings(UNIX_EPOCH + Duration::from_secs(DAY_SECONDS * 7 + 1));
        let settings: toml::Table = settings.parse().expect("TOML");
        let gate = &settings["gates"][0];
        assert_eq!(gate["config"]["allow"][0]["days"].as_str(), Some("sat"));
        assert_eq!(gate["apps"][0].as_str(), Some(PAYROLL));
    }

    #[test]
    fn the_text_of_a_slack_message_is_shown() {
        assert_eq!(text_of(r#"{"text":"shop: v1 deployed by admin"}"#).as_deref(), Some("shop: v1 deployed by admin"));
        assert_eq!(text_of("nonsense"), None);
    }
}

//! Measures how many events per second the host delivers to the hook `notify`, which posts each to
//! a webhook on this machine. Never measures the creation of the events, during which the hook is
//! stopped.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use xtask::{step, webhook::Webhook};

use crate::folder;
use crate::host::Host;

/// The app whose activity the hook receives. Without a release, a change of its config vars is one
/// activity and nothing else.
const APP: &str = "quiet";

const HOOK: &str = "notify";

/// The timeout of all deliveries.
const DELIVERED_WITHIN: Duration = Duration::from_secs(300);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The deliveries of a hook from the first request of the webhook to the last.
pub(super) struct Deliveries {
    events: usize,
    seconds: f64,
}

pub(super) fn measure(isopod: &Path, hook: &Path, events: u32) -> Result<Deliveries> {
    step::announce(&format!("{events} events for a hook"));
    let webhook = Webhook::start()?;
    let host = Host::start(isopod, &folder::fresh("hooks")?, "")?;
    host.install(HOOK, &manifest(&webhook), hook)?;
    let api = host.api();
    api.create(APP, "dev")?;
    api.switch(HOOK, "stop", "stopped")?;
    for number in 0..events {
        api.set_config(APP, "NUMBER", &number.to_string())?;
    }
    api.switch(HOOK, "start", "running")?;
    let began = Instant::now();
    while webhook.count() < events as usize {
        if began.elapsed() > DELIVERED_WITHIN {
            bail!("the hook has posted {} of {events} events within {DELIVERED_WITHIN:?}", webhook.count());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    host.stop()?;
    let posts = webhook.posts();
    let seconds = match posts.as_slice() {
        [first, .., last] => last.at.duration_since(first.at).as_secs_f64(),
        _ => f64::NAN,
    };
    Ok(Deliveries { events: posts.len(), seconds })
}

fn manifest(webhook: &Webhook) -> String {
    format!(
        "kind = \"plugin\"\n\
         [plugin]\nversion = \"1.0.0\"\nsubscribe = {{ events = [\"isopod.app.config-changed\"] }}\n\
         [grants]\nhttp = [\"{}\"]\n\
         [config]\nWEBHOOK_URL = \"{}\"\n",
        webhook.address(),
        webhook.url()
    )
}

impl Deliveries {
    fn per_second(&self) -> f64 {
        self.events.saturating_sub(1) as f64 / self.seconds
    }

    pub(super) fn show(&self) {
        println!("\nhook: {} events posted to a webhook, {:.0} per second", self.events, self.per_second());
    }

    pub(super) fn json(&self) -> Value {
        json!({ "events": self.events, "per_second": self.per_second() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_deliveries_after_the_first() {
        assert_eq!(Deliveries { events: 11, seconds: 2.0 }.per_second(), 5.0);
    }
}

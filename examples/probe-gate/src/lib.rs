//! A gate for the tests of the host. Its config selects what it does with the releases of each app:
//! any possible decision or failure.

use std::collections::BTreeMap;
use std::time::Duration;

use isopod_sdk::plugin::gate::{Decision, Release};
use isopod_sdk::prelude::*;
use serde::Deserialize;

isopod_sdk::gate!(decide);

/// What to do with a release, by `app/cause`, such as `shop/rollback`, or by `app`. All other
/// releases are allowed.
#[derive(Deserialize)]
#[serde(transparent)]
struct Settings(BTreeMap<String, Act>);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Act {
    Allow,
    Refuse(String),
    /// Refuses with a reason of this many bytes.
    Long(usize),
    /// Refuses with all fields of the release as the reason.
    Show,
    Error(String),
    Trap,
    Spin,
    /// Waits for this many milliseconds.
    Sleep(u64),
}

async fn decide(release: &Release, settings: &Settings) -> Result<Decision> {
    let cause = format!("{}/{:?}", release.app, release.cause).to_lowercase();
    let act = settings.0.get(&cause).or_else(|| settings.0.get(&release.app));
    Ok(match act {
        None | Some(Act::Allow) => Decision::Allow,
        Some(Act::Refuse(reason)) => Decision::refuse(reason.clone()),
        Some(Act::Long(bytes)) => Decision::refuse("r".repeat(*bytes)),
        Some(Act::Show) => Decision::refuse(format!("{release:?}")),
        Some(Act::Error(text)) => return Err(Error::msg(text.clone())),
        Some(Act::Trap) => panic!("the probe was asked to panic"),
        Some(Act::Spin) => loop {
            std::hint::black_box(0);
        },
        Some(Act::Sleep(ms)) => {
            sleep(Duration::from_millis(*ms)).await;
            Decision::Allow
        }
    })
}

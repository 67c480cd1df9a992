//! Tests the gc: it removes releases beyond the retention rule, and the files that only they used.

use isopod_tests::{Bundle, Host, bundle::QUICK_WEB, guest_noted, wait_for};
use rusqlite::params;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Returns a bundle with a unique component.
fn unlike_others(number: u8, health: &str) -> Bundle {
    let manifest = format!("name = \"shop\"\n{QUICK_WEB}[config]\nGREETING = \"of {number}\"\nHEALTH = \"{health}\"\n");
    Bundle::archive(&manifest, &guest_noted("shapes", number))
}

/// Returns the files of a bundle: the bundle itself, and its compiled code.
fn files_of(data: &Path, digest: &str) -> Vec<PathBuf> {
    all_files(data).into_iter().filter(|path| path.to_string_lossy().contains(digest)).collect()
}

fn all_files(data: &Path) -> Vec<PathBuf> {
    let files = ["blobs", "cache"].map(|folder| fs::read_dir(data.join(folder)).expect("the host has made it"));
    files.into_iter().flatten().map(|entry| entry.expect("it can be read").path()).collect()
}

/// Simulates a downtime of the host: moves all times in its data into the past.
fn days_go_by(host: &Host, days: u32, of_releases: &[u32]) {
    for number in of_releases {
        host.change_rows(
            "UPDATE releases SET last_current_at = strftime('%Y-%m-%dT%H:%M:%SZ', last_current_at, ?1) \
             WHERE number = ?2",
            params![format!("-{days} days"), number],
        );
    }
    let then = SystemTime::now() - days * DAY;
    for path in all_files(host.data()) {
        let file = File::options().append(true).open(&path).expect("it can be written");
        file.set_modified(then).expect("its time can be set");
    }
}

/// The last twenty releases are kept, and every release that was current within thirty days.
#[test]
fn releases_beyond_the_retention_rule_are_removed_with_their_files() {
    let host = Host::start();
    for number in 1..=25 {
        match number {
            3 => drop(host.deploy_failing("shop", &unlike_others(number, "fails"))),
            _ => drop(host.deploy("shop", unlike_others(number, "well"))),
        }
    }
    let digest = |number: u64| host.release("shop", number)["bundle"].as_str().expect("it has one").to_owned();
    let digests: Vec<String> = (1..=25).map(digest).collect();
    let host = host.restart_after(|host| {
        days_go_by(host, 31, &[1, 2, 6]);
        days_go_by(host, 29, &[4]);
    });
    let number = |release: &serde_json::Value| release["release"].as_u64();
    let kept: Vec<u64> = wait_for("the removal of the old releases", || {
        Some(host.releases("shop").iter().filter_map(number).collect()).filter(|kept: &Vec<u64>| kept.len() < 25)
    });
    let rest: Vec<u64> = (4..=25).collect();
    assert_eq!(kept, rest, "v1 and v2 were current too long ago, v3 never; v4 and v5 lately; v6 is among the last");
    let has_files = |number: u64| !files_of(host.data(), &digests[number as usize - 1]).is_empty();
    wait_for("the removal of their files", || (![1, 2, 3].into_iter().any(has_files)).then_some(()));
    for gone in [1, 2, 3] {
        host.rollback("shop", gone).problem_of("shop", 404, "unknown-release");
        host.get(&format!("v{gone}--shop"), "/").problem_of("shop", 404, "unknown-part");
    }
    assert!(rest.iter().all(|number| has_files(*number)));
    assert_eq!(host.get("shop", "/").expect(200).text(), "v25 of 25");
    assert_eq!(host.get("v6--shop", "/").expect(200).text(), "v6 of 6");
    host.rollback("shop", 4).expect(200);
    assert_eq!(host.get("shop", "/").expect(200).text(), "v26 of 4");
}

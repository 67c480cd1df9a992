//! Tests the age limit of logs: `kept_for` also applies to apps that write nothing.

use isopod_tests::{Bundle, Host, guest, wait_for};
use std::{
    fs::{self, File},
    time::{Duration, SystemTime},
};

#[test]
fn the_log_of_an_inactive_app_is_removed_by_age() {
    let host = Host::start_with("", "[logs]\nkept_for = \"1h\"\n");
    let is_request = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains("GET /"));
    for app in ["quiet", "lately"] {
        host.deploy(app, Bundle::component(guest("hello")));
        host.get(app, "/").expect(200);
        host.log_line(app, "its request", is_request);
    }
    let host = host.restart_after(|host| {
        let logs = host.data().join("apps/quiet/logs");
        for segment in fs::read_dir(logs).expect("it has some") {
            let file =
                File::options().append(true).open(segment.expect("it can be read").path()).expect("it is a file");
            file.set_modified(SystemTime::now() - Duration::from_secs(2 * 3600)).expect("its time can be set");
        }
    });
    wait_for("the removal of the old log", || host.log("quiet").is_empty().then_some(()));
    assert!(!host.log("lately").is_empty());
    host.get("quiet", "/").expect(200);
    host.log_line("quiet", "a new request", is_request);
    assert_eq!(host.log("quiet").iter().filter(|line| is_request(line)).count(), 1);
}

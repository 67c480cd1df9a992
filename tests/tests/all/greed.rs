//! I4: tests guests that use as much CPU, memory, stack, handles, storage and log as they can get.
//! Each reaches its limit, and the neighbour is not affected.

use isopod_tests::{Ask, Bundle, Host, Neighbour, guest, wait_for};
use serde_json::Value;

fn host_with_greedy(limits: &str) -> Host {
    with_greedy(Host::start(), limits)
}

fn with_greedy(host: Host, limits: &str) -> Host {
    let manifest = format!("name = \"greedy\"\n[grants]\nkeyvalue = true\n[limits]\n{limits}\n");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
    host
}

fn assert_healthy(host: &Host) {
    assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok");
    assert_eq!(host.state("greedy"), "running");
}

/// More spinning requests than the machine has cores, in all slots of the app.
#[test]
fn spinning_guests_leave_the_cpu_to_others() {
    let host = host_with_greedy("request_timeout = \"700ms\"\ninstances_max = 8");
    let neighbour = Neighbour::beside(&host);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let spinners: Vec<_> = (0..16).map(|_| scope.spawn(|| host.get("greedy", "/spin").status)).collect();
        spinners.into_iter().map(|spinner| spinner.join().expect("asking does not panic")).collect()
    });
    assert!(statuses.iter().all(|status| *status == 504), "{statuses:?}");
    assert_healthy(&host);
    neighbour.finish();
}

#[test]
fn memory_stack_and_handles_are_bounded() {
    let host = host_with_greedy("memory = \"32MiB\"\nrequest_timeout = \"10s\"");
    let neighbour = Neighbour::beside(&host);
    for (path, words) in [("/allocate", "out-of-memory"), ("/recurse", "trap"), ("/handles", "out-of-memory")] {
        for _ in 0..3 {
            let problem = host.get("greedy", path).problem_of("greedy", 502, "app-failed");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{path}: {problem}");
            assert_healthy(&host);
        }
    }
    let said = host.log_line("greedy", "the memory's limit", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("ran out of memory"))
    });
    assert!(said["message"].as_str().is_some_and(|text| text.contains("32 MiB")), "{said}");
    neighbour.finish();
}

#[test]
fn many_concurrent_greedy_requests_harm_only_their_app() {
    let host = host_with_greedy("memory = \"32MiB\"\nrequest_timeout = \"2s\"");
    let neighbour = Neighbour::beside(&host);
    let paths =
        ["/allocate", "/recurse", "/handles", "/panic", "/poll-storm", "/log-flood?lines=20000", "/reply-flood"];
    std::thread::scope(|scope| {
        for path in paths {
            for _ in 0..3 {
                let host = &host;
                // Their responses don't matter here, only that each request ends.
                scope.spawn(move || drop(host.try_app("greedy", Ask::get(path))));
            }
        }
    });
    assert_healthy(&host);
    neighbour.finish();
}

#[test]
fn a_flood_of_log_lines_is_dropped_and_counted() {
    // The log's thread is slower than the guest on every machine.
    let host = with_greedy(Host::start_pausing("log-writer=sleep(250)"), "request_timeout = \"1m\"");
    let neighbour = Neighbour::beside(&host);
    host.get("greedy", "/log-flood?lines=20000").expect(200);
    let dropped = host.api(Ask::get("/v1/status")).json()["log_lines_dropped"].as_u64().expect("it is counted");
    assert!(dropped > 0, "all lines were kept");
    assert_healthy(&host);
    // The log continues after the flood, and counts the dropped lines.
    wait_for("a line after the flood", || {
        host.get("greedy", "/log-line?text=after-the-flood").expect(200);
        host.log("greedy").iter().any(|line| line["message"] == "after-the-flood").then_some(())
    });
    // The neighbour loses no log lines.
    assert!(host.log("neighbour").iter().any(|line| line["stream"] == "access"));
    neighbour.finish();
}

#[test]
fn a_long_line_is_truncated() {
    let host = host_with_greedy("log_line = \"256B\"");
    host.get("greedy", "/log-flood?lines=1&bytes=100000").expect(200);
    let line = host.log_line("greedy", "the long line", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("out 0 xxx"))
    });
    assert!(line["message"].as_str().is_some_and(|text| text.len() < 400), "{line}");
}

#[test]
fn storage_is_bounded() {
    let host = host_with_greedy("request_timeout = \"1m\"");
    let neighbour = Neighbour::beside(&host);
    // A value above the size limit.
    let said = host.get("greedy", "/kv-flood?bytes=1100000").expect(200).text();
    assert!(said.starts_with("0 keys, then:"), "{said}");
    assert_healthy(&host);
    neighbour.finish();
}

/// Metrics count the faults of an app by kind.
#[test]
fn faults_are_counted_by_kind() {
    let host = host_with_greedy("memory = \"32MiB\"\nrequest_timeout = \"3s\"");
    for path in ["/panic", "/panic", "/never", "/allocate", "/exit"] {
        host.get("greedy", path);
    }
    let count = |fault: &str| host.metric(&format!("isopod_faults_total{{app=\"greedy\",fault=\"{fault}\"}}"));
    assert_eq!((count("trap"), count("timeout"), count("out-of-memory"), count("exited")), (2.0, 1.0, 1.0, 1.0));
    let listed: Value = host.api(Ask::get("/v1/apps/greedy/status")).expect(200).json();
    assert_eq!(listed["status"], "up");
}

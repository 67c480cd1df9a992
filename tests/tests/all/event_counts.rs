//! G3, J5: tests that the numbers of stored events are exact, and that a restarted host knows them
//! before the app is used.

use isopod_tests::{Ask, Bundle, Host, Queue, guest, program, wait_for};

fn deploy_greedy(host: &Host) {
    let manifest = "name = \"greedy\"\n[processes.web]\nentry = \"http\"\nmin = 0\n\
        [processes.worker]\nentry = \"events\"\nmin = 0\n[limits]\nrequest_timeout = \"10m\"\n";
    host.create("greedy", "production");
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
}

#[test]
fn stored_events_are_counted_after_a_restart_while_their_app_sleeps() {
    let host = Host::start();
    deploy_greedy(&host);
    for _ in 0..2 {
        let failed = host.push_event("greedy", "fail");
        host.until_event("greedy", &failed, "dead");
    }
    let host = host.kill_and_restart();
    let series = "isopod_events_stored{app=\"greedy\",state=\"dead\"} ";
    wait_for("the number of dead letters", || (host.metric(series) == 2.0).then_some(()));
    assert_eq!(host.metrics("greedy")["push"]["dead_letters"], 2);
    assert_eq!(host.instances("greedy").len(), 0, "the app is not loaded for it");
    let admin = format!("http://{}", host.admin);
    let mut shown = program::command(&["ps", "--app", "greedy", "--host", &admin]);
    let output = shown.env("ISOPOD_TOKEN", &host.token).output().expect("it can be run");
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("2 dead"), "{notes}");
    // The numbers that were read at the start don't replace later ones.
    host.api(Ask::new("DELETE", "/v1/apps/greedy/dead-letters")).expect(200);
    wait_for("no dead letters", || (host.metric(series) == 0.0).then_some(()));
}

#[test]
fn top_shows_the_stored_events_of_an_app() {
    let host = Host::start();
    deploy_greedy(&host);
    let failed = host.push_event("greedy", "fail");
    host.until_event("greedy", &failed, "dead");
    host.api_raw(&host.event("greedy", "hello", Queue::Push).header("isopod-delay", "1h")).expect(202);
    let admin = format!("http://{}", host.admin);
    wait_for("the column of stored events", || {
        let mut top = program::command(&["top", "--once", "--host", &admin]);
        let output = top.env("ISOPOD_TOKEN", &host.token).output().expect("it can be run");
        let table = String::from_utf8(output.stdout).expect("text");
        (table.contains("STORED") && table.contains("OLDEST") && table.contains("1 +1 dead")).then_some(())
    });
}

/// An acceptance and the claim of earlier events overlap.
#[test]
fn events_that_senders_store_at_the_same_time_are_buffered_once_each() {
    let host = Host::start();
    deploy_greedy(&host);
    let (cores, senders, each) = (4, 8, 25);
    std::thread::scope(|scope| {
        for _ in 0..senders {
            scope.spawn(|| (0..each).for_each(|_| drop(host.push_event("greedy", "never"))));
        }
    });
    host.until_queue("greedy", Queue::Push, cores, senders * each - cores);
}

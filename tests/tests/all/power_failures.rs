//! Tests power failures, which lose unsynced writes: all changes that the host has acknowledged
//! survive, in every file.

use isopod_tests::{
    Ask, DiskError, Host, Loss,
    limits::PATIENCE,
    outbox::{ask_to_store, event_of_steps, outbox},
    wait_for,
};
use serde_json::json;

/// Kills a host, and starts it again without a part of its unsynced writes.
fn lose(mut host: Host, loss: Loss) -> Host {
    host.kill();
    println!("{loss:?}: {:?}", host.lose_unsynced(Some(loss), &[]));
    host.again()
}

#[test]
fn what_was_acknowledged_survives_power_failures() {
    let mut host = Host::start_with_faults("");
    for round in 0..6_u64 {
        let (app, token) = (format!("app-{round}"), format!("token-{round}"));
        host.deploy(&app, outbox(&app, "", ""));
        host.api(Ask::post("/v1/tokens").json(&json!({ "name": token, "role": "read" }))).expect(201);
        host.set_config(&app, &json!({ "GREETING": format!("hello {round}") })).expect(200);
        host.run_steps(&app, &json!([["set", "key", format!("value {round}")]]));
        let event = host.push_steps(&app, None, &json!([["increment", "handled"]]));
        host = lose(host, if round == 0 { Loss::All } else { Loss::Some { seed: round } });
        host.until_event(&app, &event, "done");
        for earlier in 0..=round {
            let app = format!("app-{earlier}");
            // The outcome of a delivery may be lost; then the event is delivered again.
            host.until_no_event_waits(&app, PATIENCE);
            assert_eq!(host.values(&app, ["key", "handled"]), [format!("value {earlier}"), "1".to_owned()]);
            assert_eq!(host.config(&app), json!({ "GREETING": format!("hello {earlier}") }));
            let tokens = host.api(Ask::get("/v1/tokens")).expect(200).text();
            assert!(tokens.contains(&format!("token-{earlier}")), "{tokens}");
            let activity = host.activity(&app);
            assert!(activity.iter().all(|entry| entry["kind"] != "data-damaged"), "{activity:?}");
        }
    }
}

#[test]
fn torn_compiled_code_is_compiled_again() {
    let mut host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    for seed in 0..4 {
        host = lose(host, Loss::Some { seed });
        host.run_steps("outbox", &json!([["set", "key", seed.to_string()]]));
        assert_eq!(host.value("outbox", "key"), seed.to_string());
    }
}

/// The outcomes of deliveries are synced only by a checkpoint. If its sync fails, they are lost,
/// and SQLite can't read the events that are accepted after them.
#[test]
fn events_accepted_after_a_failed_checkpoint_survive_a_power_failure() {
    let mut host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    let faults = host.faults();
    wait_for("a failed checkpoint", || {
        let failed = faults.failed();
        // The effects of the handler fill a journal, in an unsynced commit.
        let event = host.push_steps("outbox", None, &json!([["sleep", 1_000], ["fill", 80, 60_000]]));
        faults.fail(DiskError::Sync);
        host.until_event("outbox", &event, "done");
        (faults.failed() > failed).then_some(())
    });
    // Syncs of the journal succeed, and no checkpoint is completed.
    faults.fail(DiskError::SyncOfDatabase);
    let after = event_of_steps("after", None, &json!([["increment", "handled"]]));
    wait_for("an accepted event", || (host.api(ask_to_store("outbox", &after)).status == 202).then_some(()));
    host.kill();
    host.faults().end_errors();
    let host = lose(host, Loss::All);
    host.until_event("outbox", "after", "done");
}

//! F4, G3, J5: tests the durable events of an app: a push event is answered once it is stored, is
//! delivered at least once, is retried after a failure, and can be listed, cancelled and redriven.

use std::time::{Duration, Instant};

use isopod_tests::{Ask, Bundle, Host, Queue, Wire, guest, outbox::outbox, wait_for};
use serde_json::{Value, json};

/// Deploys `greedy` with these settings of its worker.
fn deploy_greedy(host: &Host, worker: &str) {
    let processes = format!("[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n{worker}\n");
    let limits = "[limits]\nrequest_timeout = \"10m\"\n";
    host.create("greedy", "production");
    host.deploy("greedy", Bundle::archive(&format!("name = \"greedy\"\n{processes}{limits}"), &guest("greedy")));
}

const QUICK_RETRIES: &str = "retry = { attempts = 4, first = \"100ms\", max = \"200ms\" }";

/// Returns the ids of the events that a query lists.
#[track_caller]
fn listed(host: &Host, query: &str) -> Vec<String> {
    let page = host.api(Ask::get(format!("/v1/apps/greedy/events?{query}"))).expect(200).json();
    let items = page["items"].as_array().expect("a page has items");
    items.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_push_event_is_answered_with_its_place_once_it_is_stored() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let asynchronous = host.event("greedy", "hello", Queue::Pull).header("prefer", "wait=10, Respond-Async");
    for ask in [host.event("greedy", "hello", Queue::Push), asynchronous] {
        let answer = host.api_raw(&ask).expect(202);
        let stored = answer.json();
        let id = stored["id"].as_str().expect("an id");
        assert_eq!(answer.header("location"), Some(&*format!("/v1/apps/greedy/events/{id}?source=%2Ftest")));
        for (name, value) in [("source", "/test"), ("type", "hello"), ("queue", "push"), ("process", "worker")] {
            assert_eq!(stored[name], value, "{stored}");
        }
        let done = host.until_event("greedy", id, "done");
        assert_eq!((&done["attempt"], &done["error"]), (&json!(1), &Value::Null), "{done}");
        assert!(done["ended_at"].is_string(), "{done}");
    }
    host.api(Ask::post("/v1/apps/greedy/events?queue=urgent")).problem(400, "bad-query");
}

/// Returns a request with an event that `greedy` prints. In the binary mode, each part of the body
/// is a valid one.
fn printed(host: &Host, id: &str, query: &str, mode: &str) -> Ask {
    let ask = Ask::post(format!("/v1/apps/greedy/events{query}"));
    let ask = ask.header("authorization", format!("Bearer {}", host.token));
    let attributes = [("specversion", "1.0"), ("id", id), ("source", "/test"), ("type", "print")];
    let data = "a text ".repeat(100);
    if mode == "binary" {
        let with_header = |ask: Ask, (name, value): (&str, &str)| ask.header(&format!("ce-{name}"), value);
        return attributes.into_iter().fold(ask, with_header).body("text/plain", data);
    }
    let mut event: Value = attributes.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    event["data"] = json!(data);
    ask.body("application/cloudevents+json", event.to_string())
}

/// Sends a request with half of its body, and then ends the sending direction.
fn break_off(host: &Host, ask: &Ask, framing: &str) {
    let mut wire = Wire::open(host.admin).expect("the API accepts connections");
    let half = &ask.body[..ask.body.len() / 2];
    let sent = if framing == "chunked" {
        let chunked = ask.clone().header("transfer-encoding", "chunked");
        wire.send(chunked.head().as_bytes()).and_then(|()| wire.send_chunk(half))
    } else {
        wire.send(ask.head().as_bytes()).and_then(|()| wire.send(half))
    };
    sent.and_then(|()| wire.end_sending()).expect("it can be sent");
    match wire.answer() {
        Ok(answer) => drop(answer.problem(400, "truncated-body")),
        Err(_) => drop(wire.until_closed().expect("the host closes the connection")),
    }
}

#[test]
fn an_event_whose_upload_breaks_off_is_not_stored() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let mut stored = Vec::new();
    for query in ["?queue=push", ""] {
        for framing in ["length", "chunked"] {
            for mode in ["structured", "binary"] {
                let id = format!("{query}-{framing}-{mode}").replace("?queue=", "");
                break_off(&host, &printed(&host, &id, query, mode), framing);
                assert_eq!(listed(&host, ""), stored, "{id}");
                host.api_raw(&printed(&host, &id, "?queue=push", mode)).expect(202);
                let done = host.until_event("greedy", &id, "done");
                assert_eq!(done["attempt"], 1, "{done}");
                stored.insert(0, id);
            }
        }
    }
    let handled = || -> Vec<String> {
        let text =
            |line: Value| line["message"].as_str().and_then(|text| text.strip_prefix("greedy handles ")?.parse().ok());
        host.log("greedy").into_iter().filter_map(text).collect()
    };
    wait_for("a line of the last event", || handled().contains(&stored[0]).then_some(()));
    let mut handled = handled();
    handled.reverse();
    assert_eq!(handled, stored, "each event is handled once, and no part of one");
}

#[test]
fn an_event_with_a_known_source_and_id_is_not_stored_again() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let ask = host.event("greedy", "hello", Queue::Push);
    let accepted = host.api_raw(&ask).expect(202);
    let first = accepted.json();
    let id = first["id"].as_str().expect("an id");
    host.until_event("greedy", id, "done");
    let repeated = host.api_raw(&ask).expect(202);
    let second = repeated.json();
    assert_eq!((&second["state"], &second["accepted_at"]), (&json!("done"), &first["accepted_at"]));
    let location = repeated.header("location").expect("a duplicate has the location of the first event");
    assert_eq!(Some(location), accepted.header("location"));
    assert_eq!(host.api(Ask::get(location)).expect(200).json()["accepted_at"], first["accepted_at"]);
    assert_eq!(listed(&host, ""), [id]);
}

/// Events of several sources may have the same id.
#[test]
fn the_place_of_an_event_is_that_of_its_source() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let places = ["/shop?a=b&c", "urn:bücher"].map(|source| {
        let event = json!({ "specversion": "1.0", "id": "a/b?c", "source": source, "type": "print" });
        let ask = Ask::post("/v1/apps/greedy/events?queue=push");
        let stored = host.api(ask.body("application/cloudevents+json", event.to_string())).expect(202);
        (source, stored.header("location").expect("a place").to_owned())
    });
    for (source, place) in places {
        let shown = host.api(Ask::get(&place)).expect(200).json();
        assert_eq!((&shown["id"], &shown["source"]), (&json!("a/b?c"), &json!(source)), "{place}");
    }
}

#[test]
fn the_location_of_an_event_leads_to_it_for_any_id() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let send = |id: &str| {
        let event = json!({ "specversion": "1.0", "id": id, "source": "/test", "type": "print", "isopoddelay": "1h" });
        let ask = Ask::post("/v1/apps/greedy/events?queue=push");
        host.api(ask.body("application/cloudevents+json", event.to_string()))
    };
    for id in ["a/b", "/", "%2f", "%", "?", "#", "a?source=b", "a b+c", "...", "a/..", "../x", "cancel", "\\", "ü"] {
        let stored = send(id).expect(202);
        let place = stored.header("location").expect("a place");
        let shown = host.api(Ask::get(place)).expect(200).json();
        assert_eq!((&shown["id"], &shown["state"]), (&json!(id), &json!("delayed")), "{place}");
        let cancel = place.replacen("?", "/cancel?", 1);
        let cancelled = host.api(Ask::post(&cancel)).expect(200).json();
        assert_eq!((&cancelled["id"], &cancelled["state"]), (&json!(id), &json!("cancelled")), "{cancel}");
    }
    for id in [".", "..", ""] {
        let refused = send(id).problem(400, "bad-event");
        assert_eq!(refused["attribute"], "id", "{refused}");
    }
}

#[test]
fn an_event_with_a_short_delay_does_not_wait_for_those_with_longer_ones() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let send = |id: &str, delay: &str| {
        let event = json!({ "specversion": "1.0", "id": id, "source": "/test", "type": "print", "isopoddelay": delay });
        let ask = Ask::post("/v1/apps/greedy/events?queue=push");
        host.api(ask.body("application/cloudevents+json", event.to_string())).expect(202);
    };
    let began = Instant::now();
    for (id, delay) in [("hour", "1h"), ("day", "1d"), ("short", "50ms"), ("longer", "300ms"), ("minute", "1m")] {
        send(id, delay);
    }
    for id in ["short", "longer"] {
        host.until_event("greedy", id, "done");
    }
    // Without the wake-up by an event that is due earlier, the host would check the queue 20 s
    // later.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(host.stored_event("greedy", "minute")["state"], "delayed");
}

#[test]
fn a_failed_event_is_retried_and_becomes_a_dead_letter() {
    let host = Host::start();
    deploy_greedy(&host, QUICK_RETRIES);
    let refused = host.push_event("greedy", "fail");
    let dead = host.until_event("greedy", &refused, "dead");
    assert_eq!((&dead["attempt"], &dead["error"]), (&json!(1), &json!("greedy was asked to fail")), "{dead}");
    let later = host.push_event("greedy", "retry");
    let delayed = host.until_event("greedy", &later, "delayed");
    assert_eq!(delayed["error"], "greedy was asked to put it off", "{delayed}");
    assert!(delayed["due_at"].is_string(), "{delayed}");
    let poison = host.push_event("greedy", "panic");
    let dead = host.until_event("greedy", &poison, "dead");
    assert_eq!(dead["attempt"], 3, "the same trap is not retried more often: {dead}");
    let error = dead["error"].as_str().expect("an error");
    assert!(error.contains("trapped") && error.contains("\n    at isopod:app/event-handler"), "{error}");
    let hello = host.push_event("greedy", "hello");
    host.until_event("greedy", &hello, "done");
    assert_eq!(listed(&host, "state=dead"), [poison.clone(), refused.clone()]);
    assert_eq!(listed(&host, "state=dead&type=fail"), [refused]);
    assert_eq!(listed(&host, "state=delayed"), [later]);
    host.api(Ask::get("/v1/apps/greedy/events?state=lost")).problem(400, "bad-query");
}

#[test]
fn the_delays_between_the_attempts_are_those_of_the_manifest() {
    let host = Host::start();
    deploy_greedy(&host, "retry = { attempts = 3, first = \"2h\", max = \"3h\" }");
    let event = host.push_event("greedy", "retry");
    host.until_event("greedy", &event, "delayed");
    let sql = "SELECT due_at - since FROM events WHERE id = ?1";
    let delay_ms: i64 = host.database_of("greedy").query_row(sql, [&event], |row| row.get(0)).expect("it can be read");
    // Between half of the first delay and all of it. The handler asked for 7 s at least.
    assert!((3_600_000..=7_200_000).contains(&delay_ms), "{delay_ms} ms");
}

/// `attempts` limits the counted deliveries only.
#[test]
fn a_stored_event_may_be_snoozed_more_often_than_its_attempts() {
    let host = Host::start();
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "retry = { attempts = 2, first = \"100ms\", max = \"200ms\" }", ""));
    // The snooze discards the handler's own changes, but not those of the handler that it asks.
    let count = json!(["ask", { "steps": [["increment", "deliveries"]] }, 60_000]);
    let snoozed = host.push_steps("outbox", None, &json!([count, ["fail", "snooze", "not yet", 100]]));
    wait_for("three times as many deliveries as attempts", || {
        let deliveries = host.value("outbox", "deliveries");
        (deliveries.as_str()?.parse::<u32>().expect("a number") >= 6).then_some(())
    });
    let event = host.until_event("outbox", &snoozed, "delayed");
    assert_eq!((&event["attempt"], &event["attempts_max"]), (&json!(0), &json!(2)), "{event}");
    assert_eq!(event["error"], "not yet", "{event}");
}

#[test]
fn an_event_for_a_full_queue_is_refused_until_there_is_room() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let first = host.push_event("greedy", "hello");
    host.until_event("greedy", &first, "done");
    let host = host.restart_after(|host| host.fill_event_queue("greedy", 0));
    let asynchronous = host.event("greedy", "hello", Queue::Pull).header("prefer", "respond-async");
    for ask in [host.event("greedy", "hello", Queue::Push), asynchronous] {
        let full = host.api_raw(&ask);
        full.problem(429, "queue-full");
        assert_eq!(full.header("retry-after"), Some("10"), "{full}");
    }
    assert_eq!(listed(&host, ""), [first], "a refused event is not stored");
    host.send_event("greedy", "hello", Queue::Pull).expect(200);
    host.empty_event_queue("greedy");
    let stored = host.push_event("greedy", "hello");
    host.until_event("greedy", &stored, "done");
}

#[test]
fn dead_letters_are_redriven_and_dropped() {
    let host = Host::start();
    deploy_greedy(&host, QUICK_RETRIES);
    let events: Vec<String> = (0..3).map(|_| host.push_event("greedy", "fail")).collect();
    for event in &events {
        host.until_event("greedy", event, "dead");
    }
    let redrive = |filter: Value| {
        let ask = Ask::post("/v1/apps/greedy/dead-letters/redrive").body("application/json", filter.to_string());
        host.api(ask).expect(200).json()["events"].clone()
    };
    assert_eq!(redrive(json!({ "id": events[0] })), 1);
    wait_for("a second dead letter of the event", || {
        let event = host.stored_event("greedy", &events[0]);
        (event["state"] == "dead" && event["attempt"] == 1).then_some(())
    });
    assert_eq!(redrive(json!({ "type": "other" })), 0);
    let nulls =
        ["type", "subject", "id", "source", "process", "limit"].map(|member| json!({ member: null }).to_string());
    for refused in nulls.iter().map(String::as_str).chain(["[]", "null"]) {
        let ask = Ask::post("/v1/apps/greedy/dead-letters/redrive").body("application/json", refused);
        host.api(ask).problem(400, "bad-json");
    }
    let dropped = |query: &str| host.api(Ask::new("DELETE", format!("/v1/apps/greedy/dead-letters?{query}")));
    assert_eq!(dropped(&format!("id={}", events[1])).expect(200).json()["events"], 1);
    assert_eq!(dropped("").expect(200).json()["events"], 2);
    let left = host.api(Ask::get("/v1/apps/greedy/dead-letters")).expect(200).json();
    assert_eq!(left["items"], json!([]));
    host.api(Ask::get(format!("/v1/apps/greedy/events/{}", events[1]))).problem_of("greedy", 404, "unknown-event");
}

#[test]
fn an_event_that_waits_can_be_cancelled_and_a_running_one_can_not() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let running: Vec<String> = (0..4).map(|_| host.push_event("greedy", "never")).collect();
    host.until_queue("greedy", Queue::Push, 4, 0);
    let delayed = host.push_event("greedy", "retry");
    let cancel = |id: &str| host.api(Ask::post(format!("/v1/apps/greedy/events/{id}/cancel")));
    cancel(&running[0]).problem_of("greedy", 409, "event-running");
    assert_eq!(host.stored_event("greedy", &running[0])["state"], "leased");
    wait_for("a cancelled event", || (cancel(&delayed).status == 200).then_some(()));
    cancel(&delayed).problem_of("greedy", 409, "event-ended");
    cancel("unknown").problem_of("greedy", 404, "unknown-event");
}

#[test]
fn stored_events_wait_while_the_app_is_stopped_and_the_host_is_down() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let running: Vec<String> = (0..4).map(|_| host.push_event("greedy", "never")).collect();
    host.until_queue("greedy", Queue::Push, 4, 0);
    let waiting: Vec<String> = (0..20).map(|_| host.push_event("greedy", "hello")).collect();
    let host = host.kill_and_restart();
    // The killed host's leases are void: the events that ran are delivered again.
    host.until_queue("greedy", Queue::Push, 4, 20);
    for event in &running {
        assert_eq!(host.stored_event("greedy", event)["attempt"], 2);
    }
    host.stop_app("greedy");
    host.api_raw(&host.event("greedy", "hello", Queue::Push)).problem_of("greedy", 503, "app-unavailable");
    assert!(waiting.iter().all(|event| host.stored_event("greedy", event)["state"] != "done"));
    assert_eq!(listed(&host, "limit=2").len(), 2);
}

/// A destroyed app leaves no event to a new app of the same name.
#[test]
fn the_events_of_a_destroyed_app_are_gone() {
    let host = Host::start();
    deploy_greedy(&host, "");
    let delayed = host.push_event("greedy", "retry");
    host.until_event("greedy", &delayed, "delayed");
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    deploy_greedy(&host, "");
    assert_eq!(listed(&host, ""), [""; 0]);
    let hello = host.push_event("greedy", "hello");
    host.until_event("greedy", &hello, "done");
}

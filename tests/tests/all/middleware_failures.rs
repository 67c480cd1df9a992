//! Tests hostile and failing middleware. The manifest of the app decides what happens to its
//! requests, and no request of a neighbour fails.

use std::process::Stdio;

use isopod_tests::{
    Answer, Ask, Bundle, Host, Neighbour, guest,
    middleware::{probe_plugin, used, with_middleware},
    program, wait_for,
};

/// What the plugin does, by the path of the request.
const HOSTILE: [(&str, &str); 11] = [
    ("spin", "\"spin\""),
    ("trap", "\"trap\""),
    ("allocate", "\"allocate\""),
    ("huge-headers", "{ headers = [500000, 1000] }"),
    ("many-headers", "{ headers = [129, 1] }"),
    ("huge-body", "{ body = 50000000 }"),
    ("host", "{ set = [\"host\", \"evil.example\"] }"),
    ("transfer-encoding", "{ append = [\"transfer-encoding\", \"chunked\"] }"),
    ("never", "{ sleep = 3600000 }"),
    ("error", "{ error = \"the secret is 42\" }"),
    ("status", "{ respond = [101, \"\"] }"),
];

/// The hostile acts, each for requests to its own path.
fn hostile(on_failure: &str) -> Vec<String> {
    let uses = HOSTILE.iter().map(|(path, act)| {
        used(&format!("{{ request = {act} }}"), &format!("paths = [\"/act/{path}\"]\non_failure = \"{on_failure}\""))
    });
    uses.collect()
}

fn host_with_probe() -> Host {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", ""));
    host
}

fn app(name: &str, uses: &[String]) -> Bundle {
    Bundle::archive(&format!("name = \"{name}\"\n{}", uses.concat()), &guest("hello"))
}

#[test]
fn a_hostile_middleware_fails_only_its_own_requests() {
    let host = host_with_probe();
    host.deploy("refusing", with_middleware("probe-flat", &hostile("refuse")));
    host.deploy("passing", with_middleware("probe-flat", &hostile("pass")));
    let neighbour = Neighbour::beside(&host);
    for (path, _) in HOSTILE {
        let answer = host.get("refusing", &format!("/act/{path}"));
        let problem = answer.problem_of("refusing", 502, "plugin-failed");
        assert_eq!(problem["plugin"], "probe", "{path}: {problem}");
        assert_eq!(answer.header("x-isopod-error-source"), Some("host"), "{path}");
        let line = host.log_line("refusing", path, |line| line["path"] == format!("/act/{path}"));
        assert_eq!((line["fault"].as_str(), line["plugin"].as_str()), (Some("plugin-failed"), Some("probe")), "{line}");
        host.get("passing", &format!("/act/{path}")).expect(200);
        host.get("refusing", "/show").expect(200);
    }
    let failures = |app: &str| {
        let labels = format!("app=\"{app}\",plugin=\"probe\",outcome=\"failure\"");
        host.metric(&format!("isopod_app_plugin_calls_total{{{labels}}}"))
    };
    assert_eq!((failures("refusing"), failures("passing")), (HOSTILE.len() as f64, HOSTILE.len() as f64));
    neighbour.finish();
}

#[test]
fn a_middleware_that_fails_on_the_response_refuses_or_passes_it() {
    let host = host_with_probe();
    let acts: Vec<_> = HOSTILE.iter().filter(|(path, _)| *path != "status").collect();
    for on_failure in ["refuse", "pass"] {
        let uses = acts.iter().map(|(path, act)| {
            let more = format!("paths = [\"/act/{path}\"]\non_failure = \"{on_failure}\"");
            used(&format!("{{ request = \"pass\", response = {act} }}"), &more)
        });
        host.deploy(on_failure, with_middleware("probe-wasi02", &uses.collect::<Vec<_>>()));
    }
    let neighbour = Neighbour::beside(&host);
    for (path, _) in acts {
        host.get("refuse", &format!("/act/{path}")).problem_of("refuse", 502, "plugin-failed");
        let answer = host.get("pass", &format!("/act/{path}")).expect(200);
        assert_eq!(answer.header("host"), None, "{answer}");
    }
    neighbour.finish();
}

/// The text of a plugin may contain secrets: only a developer sees it in the response.
#[test]
fn a_visitor_does_not_see_the_error_text_of_a_plugin() {
    let host = host_with_probe();
    let uses = hostile("refuse");
    host.create("live", "production");
    host.deploy("live", app("live", &uses));
    let problem = host.get("live", "/act/error").problem_of("live", 502, "plugin-failed");
    assert!(!problem.to_string().contains("secret") && problem.to_string().contains("`probe`"), "{problem}");
    let said =
        |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains("the secret is 42"));
    let line = host.log_line("probe", "what the plugin said", said);
    assert_eq!(line["request_id"], problem["request_id"], "{line}");
}

/// More spinning requests than the plugin has instances. The other app uses the same plugin.
#[test]
fn an_app_cannot_occupy_all_instances_of_a_plugin() {
    let host = host_with_probe();
    host.deploy("noisy", app("noisy", &[used("{ request = \"spin\" }", "")]));
    host.deploy("quiet", app("quiet", &[used("{ request = \"pass\" }", "")]));
    let quiet = Neighbour::asking(host.listen, "quiet", |answer| answer == "Hello, world!");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..24).map(|_| scope.spawn(|| host.get("noisy", "/").status)).collect();
        asking.into_iter().map(|asking| asking.join().expect("asking does not panic")).collect()
    });
    assert!(statuses.iter().all(|status| [502, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&502), "{statuses:?}");
    quiet.finish();
}

#[test]
fn a_request_that_needs_a_busy_plugin_gets_503_with_retry_after() {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", "[limits]\ninstances_max = 1\n"));
    host.deploy("shop", app("shop", &[used("{ request = { sleep = 3600000 } }", "")]));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| host.get("shop", "/"))).collect();
        asking.into_iter().map(|asking| asking.join().expect("asking does not panic")).collect()
    });
    let busy = answers.iter().find(|answer| answer.status == 503).expect("the plugin has one instance");
    let problem = busy.problem_of("shop", 503, "plugin-busy");
    assert_eq!((problem["plugin"].as_str(), busy.header("retry-after")), (Some("probe"), Some("1")), "{busy}");
}

#[test]
fn a_stopped_plugin_fails_requests_only_where_it_is_required() {
    let host = host_with_probe();
    host.deploy("refusing", app("refusing", &[used("{ request = \"pass\" }", "")]));
    host.deploy("passing", app("passing", &[used("{ request = \"pass\" }", "on_failure = \"pass\"")]));
    host.stop_app("probe");
    let answer = host.get("refusing", "/");
    let problem = answer.problem_of("refusing", 503, "plugin-unavailable");
    assert!(problem["detail"].as_str().expect("a detail").contains("unavailable"), "{problem}");
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer}");
    assert_eq!(host.get("passing", "/").expect(200).text(), "Hello, world!");
    host.start_app("probe");
    host.get("refusing", "/").expect(200);
}

/// A host with the plugin, whose calls may take long.
fn host_with_slow_probe() -> Host {
    let host = Host::start();
    let manifest = "name = \"probe\"\nkind = \"plugin\"\nplugin = { version = \"1.0.0\", time_limit = \"10s\" }\n";
    host.installed(&Bundle::archive(manifest, &guest("probe-plugin")));
    host
}

fn busy_instances(host: &Host) -> usize {
    host.instances("probe").iter().filter(|seen| seen["state"] == "busy").count()
}

/// Destroys apps while a request to each is in a middleware, once the calls have `begun`. Returns
/// the responses, and the number of calls in progress when the apps were destroyed.
fn destroyed_in_a_call(host: &Host, apps: &[&str], begun: impl Fn() -> bool) -> (Vec<Answer>, usize) {
    std::thread::scope(|scope| {
        let asking: Vec<_> = apps.iter().map(|app| scope.spawn(move || host.get(app, "/"))).collect();
        wait_for("the calls of the plugin", || (busy_instances(host) == apps.len() && begun()).then_some(()));
        let destroy = |app: &&str| {
            let ask = Ask::new("DELETE", format!("/v1/apps/{app}"));
            scope.spawn(move || drop(host.api(ask).expect(204)))
        };
        let destroying: Vec<_> = apps.iter().map(destroy).collect();
        destroying.into_iter().for_each(|asked| asked.join().expect("asking does not panic"));
        let busy = busy_instances(host);
        (asking.into_iter().map(|asked| asked.join().expect("asking does not panic")).collect(), busy)
    })
}

/// All calls together take much longer than a destroy waits for accepted work.
#[test]
fn the_calls_of_a_destroyed_app_are_cancelled() {
    let host = host_with_slow_probe();
    let apps = ["refuse", "pass"];
    for on_failure in apps {
        let slow = used("{ request = { sleep = 9000 } }", &format!("on_failure = \"{on_failure}\""));
        host.deploy(on_failure, app(on_failure, &vec![slow; 5]));
    }
    let (answers, busy) = destroyed_in_a_call(&host, &apps, || true);
    assert!(answers.iter().all(|answer| answer.status == 503), "{answers:?}");
    assert_eq!(busy, 0, "no call continues");
}

#[test]
fn a_response_in_a_middleware_is_sent_before_its_app_is_destroyed() {
    let host = host_with_slow_probe();
    host.deploy("shop", app("shop", &[used("{ request = \"pass\", response = { sleep = 1000 } }", "")]));
    let calls = "isopod_app_plugin_calls_total{app=\"shop\",plugin=\"probe\",outcome=\"change\"}";
    // The first call, with the request, has ended.
    let begun = || host.metric(calls) >= 1.0 && busy_instances(&host) == 1;
    let (answers, _) = destroyed_in_a_call(&host, &["shop"], begun);
    answers.into_iter().for_each(|answer| assert_eq!(answer.expect(200).text(), "Hello, world!"));
}

/// The body arrives between the two calls of the middleware, when no instance is occupied.
#[test]
fn a_request_whose_body_a_middleware_awaits_completes_before_its_app_is_destroyed() {
    let host = host_with_probe();
    host.deploy("shop", app("shop", &[used("{ request_body = 1000, request = \"pass\" }", "")]));
    let mut wire = host.begin("shop", Ask::post("/echo").header("transfer-encoding", "chunked"));
    wire.send_chunk(b"slo").expect("it can be sent");
    let asked = "isopod_app_plugin_calls_total{app=\"shop\",plugin=\"probe\",outcome=\"ask\"}";
    wait_for("the middleware has asked for the body", || (host.metric(asked) == 1.0).then_some(()));
    std::thread::scope(|scope| {
        let destroying = scope.spawn(|| host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204));
        let gone = || host.try_app("shop", Ask::get("/")).is_ok_and(|answer| answer.status == 404);
        wait_for("the app takes no further requests", || gone().then_some(()));
        assert!(!destroying.is_finished(), "the destroy waits for the request");
        wire.send_chunk(b"w").and_then(|()| wire.send_chunk(b"")).expect("it can be sent");
        assert_eq!(wire.answer().expect("an answer").expect(200).text(), "slow");
        destroying.join().expect("asking does not panic");
    });
}

/// The app is cold after a start of the host, so it would serve before its plugin is loaded.
#[test]
fn no_request_arrives_before_the_plugins_are_loaded() {
    let mut host = host_with_probe();
    host.deploy("shop", app("shop", &[used("{ request = \"pass\" }", "")]));
    host.stop();
    let (listen, admin) = (host.listen.to_string(), host.admin.to_string());
    let mut again = program::command(&["up", "--listen", &listen, "--admin", &admin]);
    again.arg("--data").arg(host.data()).env("FAILPOINTS", "release-loads=1*sleep(2000)->off");
    let mut again = again.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the host can be started");
    let answer = wait_for("an answer", || host.try_app("shop", Ask::get("/")).ok());
    again.kill().and_then(|()| again.wait()).expect("the host can be killed");
    assert_eq!(answer.expect(200).text(), "Hello, world!");
}

/// Each call of the plugin calls the app, whose middleware is the plugin again.
#[test]
fn a_loop_of_calls_between_a_plugin_and_its_app_ends() {
    let host = Host::start();
    let port = host.listen.port();
    host.installed(&probe_plugin("1.0.0", &format!("[grants]\nhttp = [\"shop.localhost:{port}\", \"127.0.0.1\"]\n")));
    let fetch = format!("{{ request = {{ fetch = \"http://shop.localhost:{port}/\" }} }}");
    host.deploy("shop", app("shop", &[used(&fetch, "paths = [\"/\"]")]));
    let neighbour = Neighbour::beside(&host);
    for _ in 0..3 {
        let answer = host.get("shop", "/");
        assert!([502, 503].contains(&answer.status), "{answer}");
    }
    wait_for("an instance of the plugin", || (host.get("shop", "/other").status == 404).then_some(()));
    neighbour.finish();
}

#[test]
fn a_config_that_the_plugin_rejects_fails_the_deploy() {
    let host = host_with_probe();
    let (code, reason) = host.deploy_failing("shop", &app("shop", &[used("{ request = \"dance\" }", "")]));
    assert_eq!(code, "plugin-config", "{reason}");
    assert!(reason.contains("`config.request`: unknown variant `dance`") && !reason.contains("column"), "{reason}");
}

#[test]
fn a_huge_config_is_refused_with_its_manifest() {
    let host = host_with_probe();
    let config = format!("{{ request = \"pass\", padding = \"{}\" }}", "x".repeat(10 << 20));
    let answer = host.upload("shop", &app("shop", &[used(&config, "")]), "?wait=true");
    assert!(answer.status >= 400 || answer.json()["state"] == "failed", "{answer}");
    host.deploy(
        "shop",
        app("shop", &[used(&format!("{{ request = \"pass\", padding = \"{}\" }}", "x".repeat(60_000)), "")]),
    );
    assert_eq!(host.app("shop", Ask::get("/")).expect(200).text(), "Hello, world!");
}

//! Tests unusable uploads: each gets a clear problem, creates no app, and leaves a running app
//! unchanged.

use isopod_tests::{Ask, Bundle, Host, Neighbour, Wire, guest};

/// Compiles a component's text form.
fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's own component is well-formed")
}

struct Bad {
    what: &'static str,
    bundle: Bundle,
    code: &'static str,
    /// Words that the reason must contain.
    names: &'static [&'static str],
}

fn bad_bundles() -> Vec<Bad> {
    let bad = |what, bytes: Vec<u8>, code, names| Bad { what, bundle: Bundle::component(bytes), code, names };
    let archive = |what, files: &[(&str, &[u8])], names| Bad {
        what,
        bundle: Bundle::archive_of(files),
        code: "invalid-bundle",
        names,
    };
    let hello = guest("hello");
    let half = hello[..hello.len() / 2].to_vec();
    let mut scribbled = hello.clone();
    scribbled[hello.len() / 3..][..4_000].fill(0xff);
    vec![
        bad("text", b"hello".to_vec(), "invalid-component", &["not WebAssembly"]),
        bad("nothing", Vec::new(), "invalid-bundle", &["empty"]),
        bad("a core module", wat("(module)"), "invalid-component", &["core module", "wasm32-wasip2"]),
        bad("half a component", half, "invalid-component", &["damaged"]),
        bad("a component with bytes overwritten", scribbled, "invalid-component", &["invalid"]),
        bad(
            "an unknown import",
            wat(r#"(component (import "fermyon:spin/key-value@2.0.0" (instance)))"#),
            "unknown-import",
            &["fermyon:spin/key-value@2.0.0", "wasi:keyvalue"],
        ),
        bad(
            "an import from an unknown package",
            wat(r#"(component (import "acme:rockets/launch@1.0.0" (instance)))"#),
            "unknown-import",
            &["acme:rockets/launch@1.0.0"],
        ),
        bad("no exports", wat("(component)"), "nothing-to-run", &["exports nothing", "isopod_sdk::http!"]),
        bad("only a command", guest("command"), "invalid-formation", &["isopod run"]),
        archive("an archive without a component", &[("isopod.toml", b"name = \"x\"\n")], &["component"]),
        archive(
            "a manifest with a misspelt key",
            &[("isopod.toml", b"name = \"x\"\nlimit = 1\n"), ("component.wasm", &hello)],
            &["limit", "limits", "line 2"],
        ),
        archive("a way out of the archive", &[("../../evil.wasm", &hello)], &[".."]),
        archive("an absolute path", &[("/tmp/evil.wasm", &hello)], &["/tmp/evil.wasm"]),
        Bad {
            what: "an invalid archive",
            bundle: Bundle { content_type: "application/gzip", bytes: b"hello".to_vec() },
            code: "invalid-bundle",
            names: &["not a gzipped tar archive", "plain text"],
        },
        Bad {
            what: "a component that is sent as an archive",
            bundle: Bundle { content_type: "application/gzip", bytes: hello.clone() },
            code: "invalid-bundle",
            names: &["content-type: application/wasm"],
        },
        Bad {
            what: "an archive that is sent as a component",
            bundle: Bundle::component(Bundle::archive("name = \"x\"\n", &hello).bytes),
            code: "invalid-bundle",
            names: &["content-type: application/gzip"],
        },
        Bad {
            what: "half an archive",
            bundle: {
                let whole = Bundle::archive("name = \"x\"\n", &hello);
                Bundle { bytes: whole.bytes[..whole.bytes.len() / 2].to_vec(), ..whole }
            },
            code: "invalid-bundle",
            names: &[],
        },
    ]
}

#[test]
fn a_bad_bundle_is_rejected_with_its_reason_and_creates_no_app() {
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    for Bad { what, bundle, code, names } in bad_bundles() {
        let answer = host.upload("victim", &bundle, "");
        let problem = answer.problem(422, code);
        let detail = problem["detail"].as_str().expect("a problem has a detail");
        for name in names {
            assert!(detail.contains(name), "{what}: missing {name:?} in: {detail}");
        }
        host.api(Ask::get("/v1/apps/victim")).problem_of("victim", 404, "unknown-app");
    }
    neighbour.finish();
}

#[test]
fn a_failed_push_leaves_the_former_release_in_service() {
    let host = Host::start();
    host.deploy("victim", Bundle::component(guest("hello")));
    let asking = Neighbour::asking(host.listen, "victim", |text| text == "Hello, world!");
    for Bad { what, bundle, code, .. } in bad_bundles() {
        let push = host.ended(&host.push("victim", &bundle));
        assert_eq!((push.state.as_str(), push.reason_code.as_deref()), ("failed", Some(code)), "{what}: {push:?}");
        assert!(push.reason.is_some_and(|reason| reason.len() > code.len() + 2), "{what}: the reason is empty");
        assert_eq!(host.state("victim"), "running", "{what}");
    }
    assert_eq!(host.show("victim")["release"], 1);
    let waited = host.upload("victim", &Bundle::component("hello"), "?wait=true");
    let problem = waited.problem_of("victim", 422, "push-failed");
    assert_eq!(problem["push"]["state"], "failed", "{problem}");
    asking.finish();
}

/// Returns a component with the types of an HTTP handler. `core` is the body of its module.
pub(crate) fn http_component(core: &str) -> Vec<u8> {
    wat(&format!(
        r#"(component
            (import "wasi:http/types@0.2.0" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $out))
            (core module $core {core} (func (export "handle") (param i32 i32)))
            (core instance $core (instantiate $core))
            (func $handle (param "request" (own $request)) (param "response-out" (own $out))
                (canon lift (core func $core "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    ))
}

/// A valid component that can't be started is rejected by its first boot, before it receives a
/// request.
#[test]
fn a_guest_that_fails_at_its_start_never_gets_traffic() {
    let host = Host::start();
    host.deploy("victim", Bundle::component(guest("greedy")));
    let asking = Neighbour::asking(host.listen, "victim", |text| text == "ok");
    for (what, core) in [
        ("a trap", "(func $start unreachable) (start $start)"),
        ("a recursion", "(func $start call $start) (start $start)"),
        ("more memory than its limit", "(memory 2000)"),
        ("more table space than its limit", "(table 30000 funcref)"),
    ] {
        let push = host.ended(&host.push("victim", &Bundle::component(http_component(core))));
        assert_eq!(push.reason_code.as_deref(), Some("start-failed"), "{what}: {push:?}");
        assert_eq!(host.state("victim"), "running", "{what}");
    }
    // Rust's constructors run during the start, so their faults are faults of the start.
    for how in ["trap", "allocate"] {
        let manifest = format!("name = \"victim\"\n[config]\nGREEDY_START = \"{how}\"\n");
        let push = host.ended(&host.push("victim", &Bundle::archive(&manifest, &guest("greedy"))));
        assert_eq!(push.reason_code.as_deref(), Some("start-failed"), "{how}: {push:?}");
        assert_eq!(host.state("victim"), "running", "{how}");
    }
    let unwell = "name = \"victim\"\n[processes.web]\nhealth = \"/error\"\n";
    let push = host.ended(&host.push("victim", &Bundle::archive(unwell, &guest("greedy"))));
    assert_eq!(push.reason_code.as_deref(), Some("health-check"), "{push:?}");
    assert!(push.reason.is_some_and(|reason| reason.contains("/error")));
    assert_eq!(host.show("victim")["release"], 1);
    asking.finish();
}

#[test]
fn a_guest_that_returns_without_a_response_is_a_failure() {
    let host = Host::start();
    host.deploy("mute", Bundle::component(http_component("")));
    for _ in 0..3 {
        let problem = host.get("mute", "/").problem_of("mute", 502, "app-failed");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("no-answer")), "{problem}");
    }
    assert_eq!(host.state("mute"), "running");
}

fn upload_head(host: &Host, more: &str) -> Wire {
    let mut wire = Wire::open(host.admin).expect("the API accepts connections");
    let head = format!(
        "POST /v1/apps/victim/pushes HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/wasm\r\n{more}\r\n\r\n",
        host.token
    );
    wire.send(head.as_bytes()).expect("it can be sent");
    wire
}

#[test]
fn a_truncated_upload_is_rejected_and_leaves_nothing_behind() {
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    let component = guest("hello");
    let half = &component[..component.len() / 2];
    // Half of the announced bytes, then the end of the stream.
    let mut wire = upload_head(&host, &format!("content-length: {}", component.len()));
    wire.send(half).expect("it can be sent");
    wire.end_sending().expect("it can be ended");
    if let Ok(answer) = wire.answer() {
        answer.problem(400, "truncated-body");
    }
    // A chunked body without its last chunk.
    let mut wire = upload_head(&host, "transfer-encoding: chunked");
    wire.send_chunk(half).expect("it can be sent");
    wire.end_sending().expect("it can be ended");
    if let Ok(answer) = wire.answer() {
        answer.problem(400, "truncated-body");
    }
    // A client that disconnects.
    let mut wire = upload_head(&host, "transfer-encoding: chunked");
    wire.send_chunk(half).expect("it can be sent");
    drop(wire);
    host.api(Ask::get("/v1/apps/victim")).problem_of("victim", 404, "unknown-app");
    isopod_tests::wait_for("the removal of the temporary files", || {
        let left = std::fs::read_dir(host.data().join("tmp")).expect("the folder exists").count();
        (left == 0).then_some(())
    });
    neighbour.finish();
}

/// The largest bundle is 64 MiB.
#[test]
fn an_upload_over_the_limit_is_rejected() {
    const MIB: usize = 1 << 20;
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    // With a `content-length`, the host rejects the upload before it reads a byte.
    let mut wire = upload_head(&host, &format!("content-length: {}", 64 * MIB + 1));
    wire.answer().expect("an answer").problem(413, "too-large");
    // Without, the host rejects the upload when it crosses the limit.
    let mut wire = upload_head(&host, "transfer-encoding: chunked");
    let piece = vec![0; MIB];
    for _ in 0..65 {
        if wire.send_chunk(&piece).is_err() {
            break;
        }
    }
    if let Ok(answer) = wire.answer() {
        answer.problem(413, "too-large");
    }
    host.api(Ask::get("/v1/apps/victim")).problem_of("victim", 404, "unknown-app");
    neighbour.finish();
}

#[test]
fn an_archive_that_expands_beyond_the_limit_is_rejected() {
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    let zeros = vec![0; 80 << 20];
    let bomb = Bundle::archive("name = \"bomb\"\n", &zeros);
    assert!(bomb.bytes.len() < 2 << 20, "a bomb is small");
    host.upload("bomb", &bomb, "").problem(422, "invalid-bundle");
    neighbour.finish();
}

/// D2: the build detects a function that the host's version of an interface doesn't have.
#[test]
fn an_unknown_function_is_a_build_error() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("hello")));
    let mut component = guest("hello-wasi02");
    let (known, unknown) = (b"wasi:io/streams", b"wasi:io/strxams");
    while let Some(at) = component.windows(known.len()).position(|bytes| bytes == known) {
        component[at..at + known.len()].copy_from_slice(unknown);
    }
    let (code, reason) = host.deploy_failing("shop", &Bundle::component(component));
    assert_eq!(code, "unknown-import", "{reason}");
    assert!(reason.contains("strxams"), "{reason}");
    let release = host.release("shop", 2);
    assert_eq!((&release["state"], &release["reason"]["code"]), (&"build_error".into(), &"unknown-import".into()));
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

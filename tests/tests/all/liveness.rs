//! Tests failures of the host's own threads: a panic ends one connection, a lost thread ends the
//! process, and liveness checks each thread.

use isopod_tests::{
    Ask, Bundle, Host, Wire, guest,
    program::{self, Running},
};

fn host_failing(steps: &str) -> Host {
    let host = Host::start_pausing(steps);
    host.deploy("hello", Bundle::component(guest("hello")));
    host
}

#[test]
fn a_panic_on_a_connection_ends_that_connection_only() {
    let host = host_failing("traffic-request=4*panic->off");
    for _ in 0..4 {
        let broken = host.try_app("hello", Ask::get("/")).expect_err("its connection ends");
        assert!(broken.answer.is_none(), "{broken}");
    }
    for _ in 0..4 {
        host.get("hello", "/").expect(200);
    }
    host.api_raw(&Ask::get("/livez")).expect(200);
}

#[test]
fn liveness_names_an_unresponsive_io_thread() {
    let host = host_failing("traffic-request=1*pause->off");
    host.api_raw(&Ask::get("/livez")).expect(200);
    let _stuck = host.begin("hello", Ask::get("/"));
    let stuck = isopod_tests::wait_for("a stuck thread", || {
        Some(host.api_raw(&Ask::get("/livez"))).filter(|answer| answer.status != 200)
    });
    let said = stuck.expect(503).json();
    assert!(said["threads"].to_string().contains("isopod-io-"), "{said}");
    assert_eq!(said["threads"].as_array().map(Vec::len), Some(1), "{said}");
}

#[test]
fn a_lost_io_thread_ends_the_process() {
    let mut host = Host::start_pausing("io-accepted=panic");
    let _lost = Wire::open(host.listen);
    assert!(!host.until_ended().success());
    assert!(host.said().contains("isopod-io-") && host.said().contains("is lost"), "{}", host.said());
}

#[test]
fn a_lost_worker_thread_ends_the_process() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut command = program::command(&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.arg("--data").arg(folder.path().join("data")).env("FAILPOINTS", "worker-thread=panic");
    let mut running = Running::start(command);
    assert!(!running.end().success());
    assert!(running.said().contains("isopod-work-") && running.said().contains("is lost"), "{}", running.said());
}

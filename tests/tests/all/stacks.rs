//! Tests that calls in progress on all slots of some apps leave other apps the stacks for their
//! calls.

use isopod_tests::{Ask, Bundle, Host, Queue, Wire, guest};

/// The maximum number of guests of an app at the same time.
const CORES: u64 = 10;
const SLOTS: u64 = 23;

fn deploy(host: &Host, app: &str, component: &str) {
    let manifest = format!(
        "name = \"{app}\"\ntype = \"production\"\n[processes.web]\nentry = \"http\"\nmax = {CORES}\n[limits]\n\
         request_timeout = \"1m\"\n"
    );
    host.create(app, "production");
    host.deploy(app, Bundle::archive(&manifest, &guest(component)));
}

/// Starts calls that don't end, each on its own instance.
fn hang(host: &Host, app: &str, path: &str, count: u64) -> Vec<Wire> {
    let hanging = (0..count).map(|_| host.begin(app, Ask::get(path))).collect();
    host.until_queue(app, Queue::Pull, count, 0);
    hanging
}

/// The engine's unit tests count the stacks of components with several component instances. Here
/// every slot of the host has a call in progress.
#[test]
fn every_slot_has_the_stacks_that_its_instance_needs() {
    let host = Host::start_with("", &format!("instances_max = {SLOTS}\napp_instances_max = {CORES}"));
    for app in ["one", "two", "other"] {
        deploy(&host, app, "probe-wasi03");
    }
    // Each instance keeps a stack for its next call before all calls run concurrently.
    for app in ["one", "two"] {
        let warm: Vec<_> = (0..CORES).map(|_| host.begin(app, Ask::get("/respond?chunk=1"))).collect();
        for mut wire in warm {
            wire.answer().expect("an answer").expect(200);
        }
    }
    let _hanging = [hang(&host, "one", "/hang", CORES), hang(&host, "two", "/hang", CORES)];
    for _ in 0..3 {
        host.get("other", "/respond?chunk=1").expect(200);
    }
    let _last = hang(&host, "other", "/hang", SLOTS - 2 * CORES);
}

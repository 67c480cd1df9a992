//! Tests the destruction of an app whose creation has not completed: no part of the app remains.

use isopod_tests::{Ask, Host, wait_for};

#[test]
fn an_app_that_is_destroyed_during_its_creation_is_unknown() {
    let host = Host::start_pausing("app-registered=1*sleep(600)");
    std::thread::scope(|scope| {
        let created = scope.spawn(|| host.create("shop", "dev"));
        let destroyed = wait_for("the app", || {
            Some(host.api(Ask::new("DELETE", "/v1/apps/shop"))).filter(|answer| answer.status != 404)
        });
        destroyed.expect(204);
        created.join().expect("the request gets a response");
    });
    host.api(Ask::get("/v1/apps/shop")).problem_of("shop", 404, "unknown-app");
    host.get("shop", "/").problem_of("shop", 404, "unknown-app");
    host.create("shop", "dev");
    host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
}

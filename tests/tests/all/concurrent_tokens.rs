//! Tests concurrent changes of tokens with one name: the host accepts exactly the stored token,
//! also if the earlier change completes late.

use isopod_tests::{Answer, Ask, Host, wait_for};
use serde_json::json;

fn create(host: &Host) -> Answer {
    host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "read" })))
}

fn delete(host: &Host) -> Answer {
    host.api(Ask::new("DELETE", "/v1/tokens/ci"))
}

fn secret(created: &Answer) -> String {
    created.json()["token"].as_str().expect("it is shown once").to_owned()
}

fn is_stored(host: &Host) -> bool {
    let page = host.api(Ask::get("/v1/tokens")).expect(200).json();
    page["items"].as_array().expect("a page has items").iter().any(|token| token["name"] == "ci")
}

#[test]
fn a_token_created_during_a_deletion_of_its_name_is_accepted() {
    let host = Host::start_pausing("tokens-stored=1*off->1*sleep(600)");
    let old = secret(&create(&host).expect(201));
    let new = std::thread::scope(|scope| {
        let deleted = scope.spawn(|| delete(&host));
        wait_for("the deletion in the store", || (!is_stored(&host)).then_some(()));
        let created = create(&host).expect(201);
        deleted.join().expect("the request gets a response").expect(204);
        secret(&created)
    });
    assert!(is_stored(&host));
    host.api_with(&new, Ask::get("/v1/apps")).expect(200);
    host.api_with(&old, Ask::get("/v1/apps")).problem(401, "unknown-token");
}

#[test]
fn a_token_deleted_during_its_creation_is_refused() {
    let host = Host::start_pausing("tokens-stored=1*sleep(600)");
    let created = std::thread::scope(|scope| {
        let created = scope.spawn(|| create(&host));
        wait_for("the creation in the store", || is_stored(&host).then_some(()));
        delete(&host).expect(204);
        created.join().expect("the request gets a response").expect(201)
    });
    assert!(!is_stored(&host));
    host.api_with(&secret(&created), Ask::get("/v1/apps")).problem(401, "unknown-token");
}

//! The manifests of hooks. Never reads a file.

use isopod_policy::{Manifest, limits};

#[test]
fn a_hook_subscribes_to_events_and_orders_and_retries_them() {
    let text = "name = \"notify\"\nkind = \"plugin\"\n[plugin]\nversion = \"1.0.0\"\n\
                subscribe = { events = [\"isopod.app.*\"], apps = [\"shop\"] }\n\
                [processes.plugin]\norder = \"subject\"\nretry = { attempts = 3 }\n";
    let manifest = Manifest::parse(text).expect("the manifest is valid");
    let subscription = &manifest.plugin.as_ref().expect("a plugin").subscribe;
    let [shop, wiki] = ["shop", "wiki"].map(|name| name.parse().expect("a valid name"));
    let includes = |app| subscription.includes("isopod.app.alert", Some(app));
    assert!(includes(&shop) && !includes(&wiki));
    assert_eq!(Manifest::parse(&manifest.to_toml()).expect("it reads back"), manifest);
    let many = format!("apps = [{}]", "\"a\", ".repeat(limits::SUBSCRIPTION_ITEMS_MAX + 1));
    for (wrong, words) in [
        (many.as_str(), "65 entries; the maximum is 64"),
        ("events = \"isopod.app.*\"", "a list"),
        ("apps = []", "empty"),
    ] {
        let text =
            format!("name = \"a\"\nkind = \"plugin\"\n[plugin]\nversion = \"1.0.0\"\n[plugin.subscribe]\n{wrong}\n");
        let error = Manifest::parse(&text).expect_err(wrong).to_string();
        assert!(error.contains(words), "{error}");
    }
}

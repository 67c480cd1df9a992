//! The exports of the provider. Never decides whether a flag is on.

wit_bindgen::generate!({
    path: ["../../sdk/wit/plugin", "wit"],
    world: "isopod-plugins:feature-flags/provider",
    generate_all,
});

use exports::isopod_plugins::feature_flags::reader::Guest;

struct Flags;

export!(Flags);

impl Guest for Flags {
    fn is_on(name: String, key: Option<String>) -> bool {
        crate::is_on(&name, isopod::plugin::caller::app().as_deref(), key.as_deref())
    }
}

//! A shop whose new checkout is behind a feature flag. The provider `plugins/feature-flags` says
//! for whom it is on.

use isopod_sdk::prelude::*;

wit_bindgen::generate!({
    path: ["../../sdk/wit/plugin", "../../plugins/feature-flags/wit"],
    world: "isopod-plugins:feature-flags/app",
    generate_all,
});

use isopod_plugins::feature_flags::reader;

isopod_sdk::http!(checkout);

async fn checkout(request: Request) -> Result<Response> {
    let user = request.query_param("user");
    let is_new = reader::is_on("new-checkout", user.as_deref());
    Ok(Response::text(if is_new { "the new checkout" } else { "the old checkout" }))
}

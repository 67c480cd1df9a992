//! Owns the page at the admin address's root, which names the API. Never holds data.

use axum::response::Html;

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Isopod</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}code{background:#eee;padding:.1em .3em}</style>
<h1>Isopod</h1>
<p>This is the admin address of an Isopod host. Its API is described by <a href="/v1/openapi.json"><code>/v1/openapi.json</code></a>;
each call carries the header <code>Authorization: Bearer TOKEN</code>.</p>
<ul>
<li><code>GET /v1/apps</code>: the apps</li>
<li><code>POST /v1/apps/{app}/pushes</code>: deploy a component</li>
<li><code>GET /v1/apps/{app}/logs?follow=true</code>: what an app says</li>
<li><code>GET /v1/status</code>: whether all is well</li>
</ul>
<p>The command line does the same: <code>isopod apps</code>, <code>isopod deploy</code>, <code>isopod logs -f</code>.</p>
</html>
"#;

/// What a browser without a token is shown.
pub(super) const UNAUTHORISED: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Isopod</title>
<h1>Isopod</h1>
<p>This is the admin address of an Isopod host. It answers calls with the header <code>Authorization: Bearer TOKEN</code>;
the token is in the file <code>admin.token</code> in the host's data folder.</p>
</html>
"#;

#[utoipa::path(
    get,
    path = "/",
    operation_id = "show_index",
    summary = "Shows a page that names the API",
    responses(
        (status = 200, description = "A page for people", content((String = "text/html"))),
    )
)]
pub(super) async fn show() -> Html<&'static str> {
    Html(PAGE)
}

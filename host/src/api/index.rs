//! Owns the page at the root of the admin address, which introduces the API. Never holds data.

use axum::response::Html;

const PAGE: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Isopod</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}
code{background:#eee;padding:.1em .3em}
</style>
<h1>Isopod</h1>
<p>This is the admin address of an Isopod host.
<a href="/v1/openapi.json"><code>/v1/openapi.json</code></a> describes its API.
Each request needs the header <code>Authorization: Bearer TOKEN</code>.</p>
<ul>
<li><code>GET /v1/apps</code>: the apps</li>
<li><code>POST /v1/apps/{app}/pushes</code>: deploy a component</li>
<li><code>GET /v1/apps/{app}/logs?follow=true</code>: the log of an app</li>
<li><code>GET /v1/status</code>: the status of the host</li>
</ul>
<p>The command line uses the same API:
<code>isopod apps</code>, <code>isopod deploy</code>, <code>isopod logs -f</code>.</p>
</html>
"#;

/// The page for a browser without a token.
pub(super) const UNAUTHORISED: &str = r#"<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Isopod</title>
<h1>Isopod</h1>
<p>This is the admin address of an Isopod host.
Each request needs the header <code>Authorization: Bearer TOKEN</code>.
The token is in the file <code>admin.token</code> in the host's data folder.</p>
</html>
"#;

#[utoipa::path(
    get,
    path = "/",
    operation_id = "show_index",
    summary = "Shows a page that introduces the API",
    responses(
        (status = 200, description = "An HTML page", content((String = "text/html"))),
    )
)]
pub(super) async fn show() -> Html<&'static str> {
    Html(PAGE)
}

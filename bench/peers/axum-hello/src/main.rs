//! A native greeting over HTTP, as one writes it with axum: what an app could have at best. Only the benchmarks use it;
//! it knows nothing of the product.

use axum::{Router, routing::get, serve::ListenerExt};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let Some(address) = std::env::args().nth(1) else {
        eprintln!("usage: axum-hello ADDRESS");
        std::process::exit(2);
    };
    let app = Router::new().route("/", get(|| async { "Hello, world!" }));
    // Small answers are to leave at once, as they do with the servers it is compared with.
    let listener = tokio::net::TcpListener::bind(address).await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

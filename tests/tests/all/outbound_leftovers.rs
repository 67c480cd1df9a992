//! Tests that bytes which an upstream sends without a request never become the response of a later
//! request.

use isopod_tests::{
    Ask, Bundle, Host, guest,
    upstream::{Then, Upstream, response},
};

#[test]
fn unrequested_bytes_of_an_upstream_never_become_a_response() {
    for leftovers in [
        "HTTP/1.1 299 Other\r\ncontent-length: 6\r\n\r\nothers",
        "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "\r\n",
    ] {
        let upstream = Upstream::start(move |_| Then::Send([response("ok"), leftovers.into()].concat()));
        let host = Host::start();
        for app in ["probe-wasi02", "probe-wasi03"] {
            let manifest = format!("name = \"{app}\"\n[grants]\nhttp = [\"{}\"]\n", upstream.address);
            host.deploy(app, Bundle::archive(&manifest, &guest(app)));
            for method in ["GET", "GET", "POST", "PUT"] {
                let path = format!("/fetch?authority={}&method={method}", upstream.address);
                let fetched = host.app(app, Ask::get(path)).expect(200).json();
                assert_eq!(fetched["status"], 200, "{app}: {method} after {leftovers:?}: {fetched}");
                assert_eq!(fetched["body_bytes"], 2, "{app}: {method} after {leftovers:?}: {fetched}");
            }
        }
    }
}

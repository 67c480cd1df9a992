//! Tests HTTP/1.0 clients, for which the end of the connection ends a body without a length, and
//! connections that are idle for long.

use isopod_tests::{Bundle, Host, guest};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

fn connection(host: &Host, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host.listen).expect("the host accepts connections");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket has timeouts");
    stream.write_all(head.as_bytes()).expect("the head is sent");
    stream
}

/// The whole response up to the end of the connection, or the kind of the error.
fn response(host: &Host, app: &str, query: &str) -> Result<String, ErrorKind> {
    let head = format!("GET /respond?{query} HTTP/1.0\r\nhost: {app}.localhost\r\n\r\n");
    let mut text = String::new();
    connection(host, &head).read_to_string(&mut text).map(|_| text).map_err(|error| error.kind())
}

#[test]
fn an_incomplete_response_to_http_10_is_reset() {
    let host = Host::start();
    for app in ["probe-wasi02", "probe-wasi03"] {
        host.deploy(app, Bundle::component(guest(app)));
        let whole = response(&host, app, "n=2&chunk=41&ms=300").expect("a whole response ends without a reset");
        assert!(whole.ends_with(&"x".repeat(82)), "{whole}");
        for end in ["trap", "leak", "abandon"] {
            let incomplete = response(&host, app, &format!("n=2&chunk=41&ms=300&end={end}"));
            assert_eq!(incomplete, Err(ErrorKind::ConnectionReset), "{app} {end}");
        }
    }
}

/// hyper's default timeout of 30 s must not apply. The read ends early if the host closes the
/// connection.
#[test]
fn an_idle_connection_outlasts_the_default_timeout_of_hyper() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let head = "GET / HTTP/1.1\r\nhost: hello.localhost\r\n\r\n";
    let mut stream = connection(&host, head);
    let mut part = [0; 4096];
    assert!(stream.read(&mut part).expect("the first response") > 0);
    stream.set_read_timeout(Some(Duration::from_secs(32))).expect("a socket has timeouts");
    let closed = stream.read(&mut part).map_err(|error| error.kind());
    assert_eq!(closed, Err(ErrorKind::WouldBlock), "the host closed an idle connection");
    stream.write_all(head.as_bytes()).expect("the second request is sent");
    let read = stream.read(&mut part).expect("the second response");
    assert!(part[..read].starts_with(b"HTTP/1.1 200 "), "the connection was closed");
}

//! Tests commands whose `--host` is not the API of a host: they fail with any response of the
//! server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};

use isopod_tests::{Ask, Host, program};

/// Starts a server that sends this response to every request.
fn server(response: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let reader = BufReader::new(stream.try_clone().expect("can be cloned"));
            let _ = reader.lines().map_while(Result::ok).find(String::is_empty);
            let _ = stream.write_all(response.as_bytes());
        }
    });
    address
}

#[test]
fn a_command_to_another_server_fails() {
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n",
    ] {
        let address = format!("http://{}", server(response));
        for args in [
            &["apps"][..],
            &["apps", "destroy", "shop", "--yes"],
            &["config", "set", "A=1", "--app", "shop"],
            &["logs", "-f", "--app", "shop"],
        ] {
            let output = program::run(&[args, &["--host", &address, "--token", "t"]].concat());
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{args:?}: {response}: {error}");
            assert!(error.contains(&format!("the server at {address} is not an Isopod host")), "{args:?}: {error}");
            assert!(error.contains("ISOPOD_HOST") && output.stdout.is_empty(), "{args:?}: {output:?}");
        }
    }
}

#[test]
fn every_response_of_the_api_has_its_mark() {
    let host = Host::start();
    host.create("shop", "dev");
    for (ask, status) in [
        (Ask::get("/v1/apps"), 200),
        (Ask::get("/livez"), 200),
        (Ask::get("/v1/none"), 404),
        (Ask::new("DELETE", "/v1/apps/shop"), 204),
    ] {
        assert_eq!(host.api(ask).expect(status).header("x-isopod-api"), Some("v1"), "{status}");
    }
}

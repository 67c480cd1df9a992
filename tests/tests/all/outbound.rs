//! I4: tests the network access of a guest: only granted hosts, and never the host itself.

use isopod_tests::{Ask, Bundle, Host, Neighbour, guest};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

/// A server that guests may or may not reach. It counts the connections.
pub(crate) struct Elsewhere {
    pub(crate) address: SocketAddr,
    visits: Arc<AtomicU32>,
}

impl Elsewhere {
    /// Starts the server. It runs until the test's process ends.
    pub(crate) fn start() -> Self {
        Self::serving(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    /// Starts the server on an existing listener.
    pub(crate) fn serving(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("it has an address");
        let visits = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&visits);
        std::thread::spawn(move || Self::answer(&listener, &counted));
        Self { address, visits }
    }

    /// Responds to each client.
    fn answer(listener: &TcpListener, visits: &AtomicU32) {
        for visitor in listener.incoming() {
            let Ok(mut visitor) = visitor else { return };
            visits.fetch_add(1, Ordering::AcqRel);
            let _ = visitor.read(&mut [0; 4096]);
            let _ = visitor.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nreached");
        }
    }

    pub(crate) fn visits(&self) -> u32 {
        self.visits.load(Ordering::Acquire)
    }
}

fn deploy(host: &Host, grants: &[String]) {
    let manifest = format!("name = \"greedy\"\n[grants]\nhttp = {grants:?}\n");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
}

fn fetch(host: &Host, url: &str) -> (u16, String) {
    let answer = host.get("greedy", &format!("/fetch?url={url}"));
    (answer.status, answer.text())
}

#[test]
fn only_granted_hosts_are_reached() {
    let host = Host::start();
    let elsewhere = Elsewhere::start();
    let neighbour = Neighbour::beside(&host);
    let (address, port) = (elsewhere.address, elsewhere.address.port());
    // A wildcard or a name grants only public addresses.
    for grants in [vec![], vec!["*".to_owned()], vec![format!("*:{port}")], vec!["example.org".to_owned()]] {
        deploy(&host, &grants);
        for name in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "127.1"] {
            let (status, said) = fetch(&host, &format!("http://{name}:{port}/"));
            assert_eq!(status, 502, "{name} with {grants:?}: {said}");
        }
        assert!(host.get("greedy", &format!("/connect?address={address}")).text().starts_with("refused"));
    }
    assert_eq!(elsewhere.visits(), 0, "a guest reached a forbidden server");
    host.log_line("greedy", "the reason of the rejection", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("not granted"))
    });
    // A grant of an address applies to this address only.
    deploy(&host, &[address.to_string()]);
    assert_eq!(fetch(&host, &format!("http://{address}/")), (200, "reached".to_owned()));
    let visits = elsewhere.visits();
    assert_eq!(fetch(&host, &format!("http://localhost:{port}/")).0, 502);
    assert!(host.get("greedy", &format!("/connect?address={address}")).text().starts_with("refused"));
    assert_eq!(elsewhere.visits(), visits);
    deploy(&host, &[format!("localhost:{port}")]);
    assert_eq!(fetch(&host, &format!("http://localhost:{port}/")), (200, "reached".to_owned()));
    neighbour.finish();
}

/// A grant can't open the host's own addresses: an app must not administer the host, or send
/// requests to itself in a loop.
#[test]
fn the_host_itself_is_never_reachable() {
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    for address in [host.admin, host.listen] {
        let port = address.port();
        deploy(&host, &[format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")]);
        for name in ["127.0.0.1", "localhost", "[::1]"] {
            let (status, said) = fetch(&host, &format!("http://{name}:{port}/livez"));
            assert_eq!(status, 502, "{name}:{port}: {said}");
        }
        assert!(host.get("greedy", &format!("/connect?address={address}")).text().starts_with("refused"));
    }
    host.log_line("greedy", "the reason of the rejection", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("belongs to this host itself"))
    });
    assert_eq!(host.api(Ask::get("/v1/apps/greedy/status")).expect(200).json()["status"], "up");
    neighbour.finish();
}

#[test]
fn invalid_urls_are_rejected() {
    let host = Host::start();
    deploy(&host, &["*".to_owned()]);
    for url in [
        "",
        "ftp://example.org/",
        "http://",
        "http:///x",
        "file:///etc/passwd",
        "http://a%20b/",
        "http://nowhere.invalid/",
    ] {
        let answer = host.get("greedy", &format!("/fetch?url={url}"));
        assert!(answer.status >= 400, "{url}: {answer}");
        assert!(!answer.text().contains("root:"), "{url}: {answer}");
    }
    assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok");
}

//! Tests that name lookups of outbound requests need no thread each, time out, and are shared
//! between requests.

use isopod_tests::{
    Ask, Bundle, Host, Upstream,
    dns::{NameServer, Says},
    guest,
    upstream::{Then, response},
    wait_for,
};
use std::time::{Duration, Instant};

fn host_asking(server: &NameServer) -> Host {
    Host::start_with("", &format!("[outbound]\nresolver = \"{}\"\n", server.address))
}

fn deploy(host: &Host, app: &str, grants: &str) {
    let manifest = format!("name = \"{app}\"\n[grants]\nhttp = [{grants}]\n[limits]\nrequest_timeout = \"1m\"\n");
    host.deploy(app, Bundle::archive(&manifest, &guest(app)));
}

#[test]
fn unanswered_lookups_time_out_and_delay_nothing_else() {
    let silent = NameServer::start(|_| Says::Nothing);
    let host = host_asking(&silent);
    deploy(&host, "greedy", "\"*\"");
    let mut asking = host.begin("greedy", Ask::get("/fetch-many?authority=h%7Bn%7D.example.org&count=60"));
    wait_for("many concurrent lookups", || {
        let mut asked = silent.asked();
        asked.sort();
        asked.dedup();
        (asked.len() >= 16).then_some(())
    });
    for _ in 0..20 {
        let begun = Instant::now();
        host.api(Ask::get("/v1/apps/greedy")).expect(200);
        host.api(Ask::get("/v1/apps/greedy/releases")).expect(200);
        assert!(begun.elapsed() < Duration::from_secs(3), "the API took {:?}", begun.elapsed());
    }
    let said = asking.answer().expect("it is answered").expect(200).text();
    assert!(said.starts_with("0 answered, 60 refused") && said.contains("DnsTimeout"), "{said}");
    // The app is healthy afterwards, and lookups that need no name server work.
    assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok");
}

#[test]
fn a_name_is_looked_up_once_for_its_time_to_live() {
    let server = NameServer::start(|name| match name {
        "upstream" => Says::Addresses(vec![[127, 0, 0, 1].into()]),
        _ => Says::NoSuchName,
    });
    let host = host_asking(&server);
    let upstream = Upstream::start(|_| Then::SendAndClose(response("found")));
    let port = upstream.address.port();
    deploy(&host, "greedy", &format!("\"upstream:{port}\", \"nowhere:{port}\""));
    let asked = |name: &str| server.asked().iter().filter(|asked| *asked == name).count();
    for _ in 0..3 {
        let answer = host.get("greedy", &format!("/fetch?url=http://upstream:{port}/"));
        assert_eq!(answer.expect(200).text(), "found");
        host.get("greedy", &format!("/fetch?url=http://nowhere:{port}/")).expect(502);
    }
    // One query for each kind of address.
    assert_eq!((asked("upstream"), asked("nowhere")), (2, 2));
    host.log_line("greedy", "the reason of the failure", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("cannot resolve nowhere"))
    });
}

/// A name server's response can't extend a grant.
#[test]
fn a_public_name_with_an_address_that_is_not_public_reaches_nothing() {
    let server = NameServer::start(|name| match name {
        "loopback.example.org" => Says::Addresses(vec![[127, 0, 0, 1].into()]),
        "mixed.example.org" => Says::Addresses(vec![[1, 1, 1, 1].into(), [127, 0, 0, 1].into()]),
        "mapped.example.org" => Says::Addresses(vec!["::ffff:127.0.0.1".parse().expect("is an address")]),
        "any.example.org" | "any" => Says::Addresses(vec![[0, 0, 0, 0].into()]),
        "metadata" => Says::Addresses(vec![[169, 254, 169, 254].into()]),
        "localhost" | "a.localhost" => Says::Addresses(vec![[1, 1, 1, 1].into()]),
        _ => Says::NoSuchName,
    });
    let host = host_asking(&server);
    let upstream = Upstream::start(|_| Then::Send(response("reached")));
    let port = upstream.address.port();
    deploy(&host, "greedy", &format!("\"*:{port}\", \"any:{port}\", \"metadata:{port}\", \"localhost:{port}\""));
    let fetch = |name: &str| host.get("greedy", &format!("/fetch?url=http://{name}:{port}/"));
    for name in
        ["loopback.example.org", "mixed.example.org", "mapped.example.org", "any.example.org", "any", "metadata"]
    {
        fetch(name).expect(502);
        host.log_line("greedy", "the reason of the rejection", |line| {
            line["message"].as_str().is_some_and(|text| text.contains(&format!("{name} resolves to")))
        });
    }
    assert!(upstream.requests().is_empty());
    // The host never asks a name server for the addresses of this machine.
    assert_eq!(fetch("localhost").expect(200).text(), "reached");
    fetch("a.localhost").expect(502);
    assert!(server.asked().iter().all(|name| !name.ends_with("localhost")), "{:?}", server.asked());
}

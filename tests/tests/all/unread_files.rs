//! Tests clients that read nothing of a static file, and files on a disk that doesn't respond.
//! Other clients and other apps are not affected, and the budgets are released.

use isopod_tests::{
    Ask, Host, Wire,
    assets::site,
    h2c::{H2c, Unread},
    plugins::shipped_plugin,
    wait_for,
};
use std::{
    ffi::CString,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// Responses on one HTTP/2 connection.
const STREAMS: usize = 128;
/// Concurrent requests of a client.
const BATCH: usize = 32;
/// The responses with a large file that a client may leave unread: 32 MiB in chunks of 128 KiB.
const UNREAD_PER_CLIENT: usize = 256;
/// The clients that each use a whole share of the budget of an app would use up all of it.
const CLIENTS: u8 = 4;

/// Starts a host with the plugin and these settings.
fn host_with(settings: &str) -> Host {
    let host = Host::start_with("", settings);
    host.installed(&shipped_plugin("static-files", ""));
    host
}

/// Deploys an app with a large file, whose content differs from that of all other apps.
fn deploy(host: &Host, app: &str) {
    let content = app.repeat((1 << 20) / app.len());
    host.deploy(app, site("{}", &[("big.bin", content.as_bytes()), ("small.txt", app.as_bytes())]));
}

/// A request for a file by a client, as a proxy reports it.
fn by(client: u8, path: &str) -> Ask {
    Ask::get(path).header("x-forwarded-for", format!("192.0.2.{client}"))
}

/// Requests a large file until the host refuses it, and reads nothing. Returns the connections, and
/// the number of responses with the file.
fn hold(host: &Host, app: &str, client: u8) -> (Vec<(H2c, Unread)>, usize) {
    let (mut held, mut files) = (Vec::new(), 0);
    loop {
        let mut connection = H2c::open_reluctant(host.listen).expect("the host speaks h2c");
        let (mut unread, mut is_refused) = (Vec::new(), false);
        while !is_refused && unread.len() < STREAMS {
            let responses = connection.begin(app, &vec![by(client, "/big.bin"); BATCH]).expect("responses");
            let sent = responses.iter().filter(|response| response.status() == 200).count();
            (files, is_refused) = (files + sent, sent < BATCH);
            unread.extend(responses);
        }
        held.push((connection, unread));
        if is_refused {
            return (held, files);
        }
    }
}

#[test]
fn a_few_clients_that_read_no_file_leave_files_to_other_clients() {
    let host = host_with("trusted_proxies = [\"127.0.0.1\"]\n");
    ["site", "other"].iter().for_each(|app| deploy(&host, app));
    let status = |app: &str, client: u8| host.app(app, by(client, "/big.bin")).status;
    let (first, unread) = hold(&host, "site", 0);
    assert_eq!(unread, UNREAD_PER_CLIENT);
    let refused = host.app("site", by(0, "/small.txt")).problem(429, "too-many-files");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("this client")), "{refused}");
    assert_eq!((status("site", CLIENTS), status("other", 0)), (200, 200));
    let mut held = vec![first];
    held.extend((1..CLIENTS).map(|client| hold(&host, "site", client).0));
    assert_eq!((status("site", CLIENTS), status("other", CLIENTS)), (200, 200));
    // Many clients use up the budget.
    let mut last = CLIENTS;
    loop {
        let (connections, files) = hold(&host, "site", last);
        held.push(connections);
        if files == 0 {
            break;
        }
        last += 1;
        assert!(last < 100, "the budget has a limit");
    }
    let refused = host.app("site", by(last + 1, "/big.bin"));
    assert!(refused.header("retry-after").is_some(), "{refused}");
    refused.problem(503, "too-many-files");
    assert_eq!((status("other", last + 1), host.app("site", by(last + 1, "/small.txt")).status), (200, 200));
    assert_eq!(host.app("site", by(0, "/missing")).status, 404, "the app itself responds");
    drop(held);
    for client in 0..=CLIENTS {
        wait_for("the budgets are released", || (status("site", client) == 200).then_some(()));
    }
}

#[test]
fn an_http2_client_that_reads_no_file_loses_its_connection() {
    let host = host_with("[connections]\nhead = \"100ms\"\nwrite = \"200ms\"\n");
    deploy(&host, "site");
    let mut stuck = H2c::open_reluctant(host.listen).expect("the host speaks h2c");
    let unread = stuck.begin("site", &[Ask::get("/big.bin")]).expect("a response");
    assert_eq!(unread[0].status(), 200);
    stuck.until_closed().expect("it is closed");
    let line = host.log_line("site", "of the request", |line| line["path"] == "/big.bin");
    assert_eq!(line["fault"], "client-gone", "{line}");
    drop(unread);
}

/// Returns the path of the pack of an app's first release.
fn pack_of(host: &Host, app: &str) -> PathBuf {
    let release = host.api(Ask::get(format!("/v1/apps/{app}/releases/1"))).expect(200).json();
    host.data().join("blobs").join(release["assets"]["digest"].as_str().expect("a digest"))
}

/// The host's threads that read static files.
fn reading_threads(host: &Host) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", host.id())).expect("the host runs");
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("isopod-assets")).count()
}

/// A pipe without a writer simulates a disk that doesn't respond.
#[test]
fn files_on_a_stalled_disk_delay_no_file_of_another_app() {
    let host = host_with("");
    ["site", "other"].iter().for_each(|app| deploy(&host, app));
    host.get("site", "/small.txt").expect(200);
    let pack = pack_of(&host, "site");
    fs::remove_file(&pack).expect("the pack is a file");
    let name = CString::new(pack.as_os_str().as_bytes()).expect("a path has no NUL");
    // SAFETY: it reads a string that ends with NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0, "a pipe can be made");
    // More requests than one app may have reads in progress.
    let mut stuck: Vec<Wire> = (0..12).map(|_| host.begin("site", Ask::get("/small.txt"))).collect();
    wait_for("the app's reads", || (reading_threads(&host) >= 4).then_some(()));
    for _ in 0..20 {
        assert_eq!(host.get("other", "/small.txt").expect(200).text(), "other");
    }
    // The reads fail, since a pipe has no positions.
    let writer = File::options().read(true).write(true).open(&pack).expect("a pipe can be opened");
    for wire in &mut stuck {
        let failed = wire.answer().expect("an answer").expect(500);
        assert!(failed.text().contains("urn:isopod:problem:disk"), "{failed}");
    }
    drop(writer);
    assert_eq!(host.get("site", "/").expect(200).text(), "Hello, world!", "the app itself responds");
}

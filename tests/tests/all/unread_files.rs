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
/// The clients that together use up the budget of an app.
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

/// Requests a large file this often, and reads nothing.
fn hold(host: &Host, app: &str, client: u8, responses: usize) -> Vec<(H2c, Unread)> {
    let connection = |_| {
        let mut connection = H2c::open_reluctant(host.listen).expect("the host speaks h2c");
        let mut unread = Vec::new();
        while unread.len() < STREAMS {
            unread.extend(connection.begin(app, &vec![by(client, "/big.bin"); BATCH]).expect("responses"));
        }
        assert!(unread.iter().all(|response| response.status() == 200), "{:?}", unread.last());
        (connection, unread)
    };
    (0..responses / STREAMS).map(connection).collect()
}

#[test]
fn clients_that_read_no_file_use_up_only_their_own_budgets() {
    let host = host_with("trusted_proxies = [\"127.0.0.1\"]\n");
    ["site", "other"].iter().for_each(|app| deploy(&host, app));
    let status = |app: &str, client: u8| host.app(app, by(client, "/big.bin")).status;
    let mut held = vec![hold(&host, "site", 0, UNREAD_PER_CLIENT)];
    let refused = host.app("site", by(0, "/small.txt")).problem(429, "too-many-files");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("this client")), "{refused}");
    assert_eq!((status("site", CLIENTS), status("other", 0)), (200, 200));
    held.extend((1..CLIENTS).map(|client| hold(&host, "site", client, UNREAD_PER_CLIENT)));
    let refused = host.app("site", by(CLIENTS, "/small.txt"));
    assert!(refused.header("retry-after").is_some(), "{refused}");
    refused.problem(503, "too-many-files");
    assert_eq!(status("other", CLIENTS), 200);
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

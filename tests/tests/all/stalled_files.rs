//! Tests that an app whose files are on a stalled disk occupies only its own threads: other apps
//! read their files, and its own timers and outbound requests continue. A pipe without a writer
//! simulates a disk that doesn't respond.

use isopod_tests::{
    Ask, Bundle, Host, Queue, Upstream, Wire, guest,
    upstream::{Then, response},
    wait_for,
};
use std::{
    ffi::CString,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// The maximum number of guests of an app at the same time.
const CORES: u64 = 10;
/// The threads of one app's file runtime: one for timers and sockets, and those for files.
const THREADS: usize = 5;

/// Deploys an app with a folder, and returns the folder.
fn deploy(host: &Host, app: &str, component: &str, more: &str) -> PathBuf {
    let manifest = format!(
        "name = \"{app}\"\n[processes.web]\nentry = \"http\"\nmin = 0\nmax = {CORES}\n[grants]\n\
         files = {{ data = \"read-write\" }}\n{more}"
    );
    host.create(app, "production");
    host.deploy(app, Bundle::archive(&manifest, &guest(component)));
    host.data().join("apps").join(app).join("files/data")
}

/// Deploys an app with a pipe in its folder, and returns the pipe's path.
fn deploy_stalled(host: &Host, app: &str, more: &str) -> PathBuf {
    let pipe = deploy(host, app, "greedy", more).join("pipe");
    let name = CString::new(pipe.as_os_str().as_bytes()).expect("a path has no NUL");
    // SAFETY: it reads a string that ends with NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0, "a pipe can be made");
    pipe
}

fn begin_reading(host: &Host, app: &str, count: u64) -> Vec<Wire> {
    (0..count).map(|_| host.begin(app, Ask::get("/read?path=/data/pipe"))).collect()
}

fn until_reading(host: &Host, app: &str, count: u64) {
    host.until_queue(app, Queue::Pull, count, 0);
}

/// Ends the stall: reads in progress get an empty file, later reads a short file.
fn end_stall(pipe: &PathBuf) {
    let aside = pipe.with_extension("aside");
    fs::rename(pipe, &aside).expect("the pipe can be moved");
    fs::write(pipe, "").expect("a file can be made");
    drop(File::options().read(true).write(true).open(&aside).expect("a pipe can be opened"));
}

/// The host's threads for the files of apps, by name.
fn file_threads(host: &Host) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", host.id())).expect("the host runs");
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("isopod-files-")).collect()
}

#[test]
fn apps_on_a_stalled_disk_delay_no_file_of_another_app() {
    let host = Host::start();
    // In total they have more requests than the host has threads for the files of two apps.
    let apps = ["one", "two", "three", "four"];
    let pipes = apps.map(|app| deploy_stalled(&host, app, ""));
    let folder = deploy(&host, "other", "greedy", "");
    fs::write(folder.join("note"), "here").expect("a file can be made");
    let mut reading: Vec<_> = apps.iter().flat_map(|app| begin_reading(&host, app, CORES)).collect();
    apps.iter().for_each(|app| until_reading(&host, app, CORES));
    for _ in 0..20 {
        assert_eq!(host.get("other", "/read?path=/data/note").expect(200).text(), "here");
    }
    apps.iter().for_each(|app| until_reading(&host, app, CORES));
    pipes.iter().for_each(end_stall);
    for wire in &mut reading {
        wire.answer().expect("an answer").expect(200);
    }
}

#[test]
fn an_app_with_stalled_files_keeps_its_timers_and_outbound_requests() {
    let (host, upstream) = (Host::start(), Upstream::start(|_| Then::Send(response("reached"))));
    let pipe = deploy_stalled(&host, "greedy", &format!("http = [\"{}\"]\n", upstream.address));
    let mut reading = begin_reading(&host, "greedy", CORES - 2);
    until_reading(&host, "greedy", CORES - 2);
    host.get("greedy", "/sleep?ms=20").expect(200);
    for _ in 0..2 {
        let answer = host.get("greedy", &format!("/fetch?url=http://{}/", upstream.address));
        assert_eq!(answer.expect(200).text(), "reached");
    }
    until_reading(&host, "greedy", CORES - 2);
    end_stall(&pipe);
    for wire in &mut reading {
        wire.answer().expect("an answer").expect(200);
    }
}

/// Requests that time out leave their threads blocked. The app gets no further threads, even after
/// it was frozen.
#[test]
fn an_app_with_stalled_files_never_occupies_more_than_its_threads() {
    let host = Host::start_with("", "freeze_after = \"200ms\"\n");
    let pipe = deploy_stalled(&host, "greedy", "[limits]\nrequest_timeout = \"1s\"\n");
    for _ in 0..2 {
        let mut reading = begin_reading(&host, "greedy", CORES);
        for wire in &mut reading {
            wire.answer().expect("an answer").expect(504);
        }
        wait_for("the app to be frozen", || (host.release_state("greedy", 1) == "frozen").then_some(()));
        assert_eq!(file_threads(&host), vec!["isopod-files-1"; THREADS]);
    }
    // The next app gets a runtime without blocked threads.
    let folder = deploy(&host, "other", "greedy", "");
    fs::write(folder.join("note"), "here").expect("a file can be made");
    assert_eq!(host.get("other", "/read?path=/data/note").expect(200).text(), "here");
    end_stall(&pipe);
    wait_for("a read after the stall", || {
        let answer = host.get("greedy", "/read?path=/data/pipe");
        (answer.status == 200).then_some(())
    });
}

//! Tests that blocking work of guests uses only the guests' threads: the API responds while all of
//! those are blocked.

use isopod_tests::{Ask, Bundle, Host, Queue, guest, wait_for};
use std::{ffi::CString, fs::File, os::unix::ffi::OsStrExt, path::Path};

/// The number of guests that an app may run concurrently. The API has fewer threads for blocking
/// work.
const READERS: u64 = 10;

fn make_pipe(path: &Path) {
    let name = CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL");
    // SAFETY: it reads a string that ends with NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0, "a pipe can be made");
}

/// A pipe without a writer simulates a disk that doesn't respond.
#[test]
fn guests_that_wait_for_a_file_block_no_thread_of_the_api() {
    let host = Host::start();
    let manifest = format!(
        "name = \"greedy\"\n[processes.worker]\nentry = \"events\"\nmax = {READERS}\n[grants]\n\
         files = {{ data = \"read-write\" }}\n"
    );
    host.create("greedy", "production");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
    let pipe = host.data().join("apps/greedy/files/data/pipe");
    make_pipe(&pipe);
    let mut reading: Vec<_> = (0..READERS).map(|_| host.begin_event("greedy", "read", Queue::Pull)).collect();
    host.until_queue("greedy", Queue::Pull, READERS, 0);
    // One thread drives timers and sockets, and four are for files. Further reads wait.
    wait_for("all threads for files to be busy", || (threads(&host, "isopod-files-1") == 5).then_some(()));
    // The API reads the log on a thread for blocking work.
    host.api(Ask::get("/v1/apps/greedy/logs")).expect(200);
    host.api(Ask::get("/v1/apps/greedy/releases")).expect(200);
    host.deploy("other", Bundle::component(guest("hello")));
    // Reads that still wait for a thread find an empty file.
    let aside = pipe.with_extension("aside");
    std::fs::rename(&pipe, &aside).expect("the pipe can be moved");
    std::fs::write(&pipe, "").expect("a file can be made");
    drop(File::options().write(true).open(&aside).expect("it is read"));
    for reader in &mut reading {
        reader.answer().expect("it is answered").expect(200);
    }
}

/// Returns the number of the host's threads with this name.
fn threads(host: &Host, name: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", host.id())).expect("the host runs");
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|thread| thread.trim() == name).count() as u64
}

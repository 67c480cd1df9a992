//! Tests two hosts on one data folder: the second refuses to start while the first runs.

use isopod_tests::{
    Bundle, Host, guest,
    program::{self, refused_start},
    wait_for,
};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

#[test]
fn a_second_host_refuses_the_data_folder_of_a_running_host() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data = folder.path().join("data");
    let mut host = Host::on(&data);
    host.deploy("hello", Bundle::component(guest("hello")));
    let said = refused_start(&data);
    let process = format!("process {}", host.id());
    let words = ["is in use by another isopod", &process, "stop it first", "--data", &data.display().to_string()];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    // The same folder by another path.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&data, &link).expect("a link can be made");
    assert!(refused_start(&link).contains("is in use by another isopod"));
    host.get("hello", "/").expect(200);

    // The kernel releases the lock of a killed process.
    host.kill();
    let next = Host::on(&data);
    next.get("hello", "/").expect(200);
    assert!(refused_start(&data).contains(&format!("process {}", next.id())));
}

#[test]
fn of_several_hosts_that_start_concurrently_one_serves() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data = folder.path().join("data");
    drop(Host::on(&data));
    for _ in 0..3 {
        let mut hosts = [(); 3].map(|()| {
            let mut command = program::command(&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
            command.arg("--data").arg(&data).stdout(Stdio::piped()).stderr(Stdio::null());
            command.spawn().expect("it can be run")
        });
        let is_running = |host: &mut Child| host.try_wait().expect("it can be waited for").is_none();
        wait_for("all hosts except one to refuse", || {
            (hosts.iter_mut().filter_map(|host| is_running(host).then_some(())).count() == 1).then_some(())
        });
        let serving = hosts.iter_mut().find_map(|host| is_running(host).then_some(host)).expect("one runs");
        let mut line = String::new();
        BufReader::new(serving.stdout.take().expect("it is piped")).read_line(&mut line).expect("it prints a line");
        assert!(line.starts_with("isopod ready "), "{line}");
        serving.kill().and_then(|()| serving.wait()).expect("it can be killed");
    }
}

//! Tests the loss of data outside of the host, before a start or while the host runs. The loss is
//! in the host's log, in the app's activity and in the report of `isopod doctor`. After a loss, the
//! host neither mixes nor deletes data.

use isopod_tests::{
    Ask, Bundle, Host, guest,
    program::{self, refused_start},
    wait_for,
};
use serde_json::Value;
use std::{fs, os::unix::fs::symlink, path::Path};

/// Deploys a guestbook with one entry.
fn deploy_with_entry(host: &Host, app: &str) {
    let manifest = format!("name = \"{app}\"\n[grants]\nkeyvalue = true\n");
    host.deploy(app, Bundle::archive(&manifest, &guest("guestbook")));
    add_entry(host, app, &format!("of-{app}"));
}

fn add_entry(host: &Host, app: &str, text: &str) {
    let entry = Ask::post("/entries").body("application/x-www-form-urlencoded", format!("name=Ada&text={text}"));
    host.app(app, entry).expect(303);
}

fn entries(host: &Host, app: &str) -> String {
    host.get(app, "/entries").expect(200).text()
}

/// Returns the report of `isopod doctor` on a data folder, and whether it exited with success.
fn doctor(data: &Path) -> (Vec<Value>, bool) {
    let output = program::command(&["doctor", "--json", "--data"]).arg(data).output().expect("it can be run");
    let found: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    (found["items"].as_array().expect("it has items").clone(), output.status.success())
}

/// Returns the detail and the remedy of doctor's first failed check with this name.
#[track_caller]
fn finding(data: &Path, name: &str) -> (String, String) {
    let (items, _) = doctor(data);
    let is_wanted = |item: &&Value| item["name"] == name && item["ok"] == false;
    let found = items.iter().find(is_wanted).unwrap_or_else(|| panic!("no finding {name}: {items:?}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("detail"), text("fix"))
}

/// Returns the host's warning about an app's data.
fn warning(host: &Host, words: &str) -> Option<String> {
    host.said().lines().find(|line| line.contains("WARN") && line.contains(words)).map(str::to_owned)
}

fn lost(data: &Path, begin: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(data.join("lost+found")) else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(begin)).collect()
}

/// Runs the command in a remedy.
#[track_caller]
fn follow(remedy: &str) {
    let command = remedy.split('`').nth(1).unwrap_or_else(|| panic!("no command: {remedy}"));
    let status = std::process::Command::new("sh").args(["-c", command]).status().expect("sh can be run");
    assert!(status.success(), "{remedy}");
}

fn remove_database(data: &Path, app: &str) {
    fs::remove_file(data.join("apps").join(app).join("kv.db")).expect("it exists");
}

#[test]
fn a_missing_key_value_database_is_reported_once() {
    let host = Host::start();
    deploy_with_entry(&host, "book");
    deploy_with_entry(&host, "other");
    let host = host.restart_after(|host| {
        remove_database(host.data(), "book");
        let (detail, fix) = finding(host.data(), "data");
        assert!(detail.contains("key-value database of book is missing") && fix.contains("backup"), "{detail}: {fix}");
        assert!(!doctor(host.data()).1, "doctor fails");
    });
    let words = "key-value database of book was missing";
    assert!(warning(&host, words).is_some(), "{}", host.said());
    let reported = host.activity_of("book", "data-missing");
    assert!(reported["text"].as_str().is_some_and(|text| text.contains("backup")), "{reported}");
    assert!(host.activity("other").iter().all(|entry| entry["kind"] != "data-missing"));
    assert_eq!(entries(&host, "book"), "[]");
    add_entry(&host, "book", "again");
    let host = host.restart();
    assert!(warning(&host, words).is_none() && entries(&host, "book").contains("again"), "{}", host.said());
    // The host records the new database too.
    let host = host.restart_after(|host| remove_database(host.data(), "book"));
    assert!(warning(&host, words).is_some(), "{}", host.said());
}

#[test]
fn an_empty_or_truncated_key_value_database_is_reported() {
    let host = Host::start();
    deploy_with_entry(&host, "empty");
    deploy_with_entry(&host, "short");
    let host = host.restart_after(|host| {
        let file = |app: &str| host.data().join("apps").join(app).join("kv.db");
        fs::write(file("empty"), "").expect("it is written");
        fs::File::options().write(true).open(file("short")).and_then(|file| file.set_len(5_000)).expect("it is cut");
    });
    assert!(warning(&host, "key-value database of empty was empty").is_some(), "{}", host.said());
    host.activity_of("empty", "data-missing");
    assert_eq!(entries(&host, "empty"), "[]");
    entries(&host, "short");
    let reported = host.activity_of("short", "data-damaged");
    assert!(reported["text"].as_str().is_some_and(|text| text.contains("data is lost")), "{reported}");
    assert!(warning(&host, "database of short was damaged").is_some(), "{}", host.said());
}

#[test]
fn a_missing_granted_folder_is_reported_at_start_and_while_the_host_runs() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[grants]\nfiles = { data = \"read-write\" }\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    assert_eq!(host.get("greedy", "/write?path=/data/note&bytes=4").text(), "written");
    let host = host.restart_after(|host| {
        fs::remove_dir_all(host.data().join("apps/greedy/files")).expect("it exists");
        assert!(finding(host.data(), "data").0.contains("granted folder of greedy is missing"));
    });
    assert!(warning(&host, "granted folder of greedy was missing").is_some(), "{}", host.said());
    host.activity_of("greedy", "data-missing");
    assert_eq!(host.get("greedy", "/list?path=/data").text(), "");
    fs::remove_dir_all(host.data().join("apps/greedy/files/data")).expect("it is made");
    for (path, state) in [("stop", "stopped"), ("start", "running")] {
        host.api(Ask::post(format!("/v1/apps/greedy/{path}"))).expect(202);
        wait_for("the app's state", || (host.state("greedy") == state).then_some(()));
    }
    wait_for("the report of the loss", || warning(&host, "granted folder of greedy was removed while the host runs"));
}

#[test]
fn a_key_value_database_removed_while_the_host_runs_is_reported_and_its_content_saved() {
    let host = Host::start();
    deploy_with_entry(&host, "book");
    remove_database(host.data(), "book");
    assert_eq!(entries(&host, "book"), "[]", "the state that the next start would also find");
    let reported = host.activity_of("book", "data-missing");
    assert!(reported["text"].as_str().is_some_and(|text| text.contains("removed while the host runs")), "{reported}");
    assert!(warning(&host, "book was removed while the host runs").is_some(), "{}", host.said());
    add_entry(&host, "book", "after");
    let host = host.restart();
    assert!(entries(&host, "book").contains("after") && warning(&host, "key-value database").is_none());
    // The saved content can be restored.
    assert_eq!(lost(host.data(), "book-kv.db-").len(), 1);
    let (detail, fix) = finding(host.data(), "lost+found");
    assert!(detail.contains("host saved"), "{detail}");
    let host = host.restart_after(|_| follow(&fix));
    assert!(entries(&host, "book").contains("of-book"));
    assert!(host.data().join("lost+found/kv.db.replaced").is_file(), "the newer database is kept");
    // Truncated in place: no former content reappears.
    fs::write(host.data().join("apps/book/kv.db"), "").expect("it is written");
    assert_eq!(entries(&host, "book"), "[]");
    wait_for("the report of the loss", || warning(&host, "book was emptied while the host runs"));
    add_entry(&host, "book", "last");
    assert!(entries(&host.restart(), "book").contains("last"));
}

#[test]
fn a_key_value_database_replaced_while_the_host_runs_is_reported_and_used() {
    let host = Host::start();
    deploy_with_entry(&host, "book");
    let host = host.restart();
    let file = host.data().join("apps/book/kv.db");
    let copy = file.with_extension("copy");
    fs::copy(&file, &copy).expect("it is copied");
    add_entry(&host, "book", "later");
    fs::rename(&copy, &file).expect("it is replaced");
    let found = entries(&host, "book");
    assert!(found.contains("of-book") && !found.contains("later"), "{found}");
    wait_for("the report of the loss", || warning(&host, "book was replaced while the host runs"));
    assert_eq!(lost(host.data(), "book-kv.db-").len(), 1);
}

#[test]
fn a_control_database_removed_while_the_host_runs_is_an_error_in_log_status_and_doctor() {
    let mut host = Host::start();
    deploy_with_entry(&host, "book");
    let status = |host: &Host| host.api(Ask::get("/v1/status")).expect(200).json()["data_folder_problems"].clone();
    assert_eq!(status(&host), serde_json::json!([]));
    let data = host.data().to_owned();
    fs::remove_file(data.join("control.db")).expect("it exists");
    let error = wait_for("the error", || {
        host.said().lines().find(|line| line.contains("ERROR") && line.contains("control.db")).map(str::to_owned)
    });
    let words = ["was removed while the host runs", "is lost when the host stops", "stop the host", "lost+found"];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    assert!(status(&host)[0].as_str().is_some_and(|text| text.contains("was removed")), "{}", status(&host));
    let (detail, fix) = finding(&data, "data");
    assert!(detail.contains("was removed while the host runs") && fix.contains("lost+found"), "{detail}: {fix}");
    assert!(!doctor(&data).1, "doctor fails");
    // The host serves, also with more readers than before.
    for _ in 0..20 {
        host.api(Ask::get("/v1/apps/book")).expect(200);
    }
    assert!(entries(&host, "book").contains("of-book") && !data.join("control.db").exists());
    host.stop();
    assert!(refused_start(&data).contains("control.db-wal"));
    follow(&finding(&data, "lost+found").1);
    let (items, _) = doctor(&data);
    assert!(items.iter().all(|item| item["name"] != "data"), "{items:?}");
    let host = host.again();
    assert!(entries(&host, "book").contains("of-book"));
    assert_eq!(lost(&data, "control.db-wal.replaced").len(), 1, "the copy needs no journal");
}

#[test]
fn a_control_database_replaced_or_overwritten_while_the_host_runs_is_an_error() {
    for in_place in [true, false] {
        let host = Host::start();
        deploy_with_entry(&host, "book");
        let file = host.data().join("control.db");
        let older = file.with_extension("older");
        let mut host = host.restart_after(|_| assert!(fs::copy(&file, &older).is_ok()));
        host.create("late", "dev");
        if in_place {
            fs::copy(&older, &file).map(drop).expect("it is overwritten");
        } else {
            fs::rename(&older, &file).expect("it is replaced");
        }
        let words = if in_place { "was overwritten while the host runs" } else { "was replaced while the host runs" };
        wait_for("the error", || {
            host.said().lines().any(|line| line.contains("ERROR") && line.contains(words)).then_some(())
        });
        assert!(finding(host.data(), "data").0.contains(words));
        if !in_place {
            assert!(entries(&host, "book").contains("of-book"));
        }
        host.stop();
        assert!(refused_start(host.data()).contains("mix two databases"), "the changes of the host are not mixed in");
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(host.data().join(format!("control.db{end}")));
        }
        let host = host.again();
        assert!(entries(&host, "book").contains("of-book"), "the replacement file");
    }
}

#[test]
fn doctor_reports_why_a_start_is_refused() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let datas = ["one", "two"].map(|name| folder.path().join(name));
    for data in &datas {
        let mut host = Host::on(data);
        deploy_with_entry(&host, "book");
        let (items, _) = doctor(data);
        assert!(items.iter().all(|item| item["name"] != "data"), "a running host's folder is fine: {items:?}");
        host.stop();
        let (items, _) = doctor(data);
        assert!(items.iter().all(|item| item["name"] != "data"), "a stopped host's folder is fine: {items:?}");
    }
    let same = |data: &Path, words: &str| {
        let before = fs::read_dir(data).expect("it can be read").count();
        let (said, (detail, fix)) = (refused_start(data), finding(data, "data"));
        assert!(said.contains(&detail) && said.contains(&fix) && detail.contains(words), "{said}\n{detail}\n{fix}");
        assert!(!fix.is_empty() && !doctor(data).1);
        assert_eq!(fs::read_dir(data).expect("it can be read").count(), before, "both change nothing");
    };
    fs::copy(datas[1].join("control.db"), datas[0].join("control.db")).expect("it is copied");
    same(&datas[0], "does not belong");
    fs::remove_file(datas[0].join("control.db")).expect("it exists");
    same(&datas[0], "lists no app");
    fs::remove_dir_all(datas[1].join("apps")).expect("it exists");
    same(&datas[1], "none of them has a folder");
}

#[test]
fn an_older_control_database_is_never_mixed_with_the_journal_of_a_killed_host() {
    let host = Host::start();
    deploy_with_entry(&host, "kept");
    let older = host.data().join("older");
    let mut host = host.restart_after(|host| assert!(fs::copy(host.data().join("control.db"), &older).is_ok()));
    deploy_with_entry(&host, "newer");
    host.kill();
    let data = host.data().to_owned();
    let journal = data.join("control.db-wal");
    assert!(fs::metadata(&journal).is_ok_and(|found| found.len() > 0), "a killed host leaves its journal");
    let (items, _) = doctor(&data);
    assert!(items.iter().all(|item| item["name"] != "data"), "the database and its journal match: {items:?}");
    let newer = fs::read(data.join("control.db")).expect("it can be read");
    fs::copy(&older, data.join("control.db")).expect("it is copied");
    let said = refused_start(&data);
    let words = ["control.db-wal", "mix two databases", "nothing was changed", "--adopt"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    let (detail, fix) = finding(&data, "data");
    assert!(said.contains(&detail) && said.contains(&fix), "{detail}: {fix}");
    // The host also refuses to start without a `control.db`. It starts with the database that
    // matches the journal.
    fs::remove_file(data.join("control.db")).expect("it exists");
    assert!(refused_start(&data).contains("control.db-wal"));
    fs::write(data.join("control.db"), newer).expect("it is restored");
    let mut host = host.again();
    assert!(entries(&host, "newer").contains("of-newer") && entries(&host, "kept").contains("of-kept"));

    deploy_with_entry(&host, "last");
    host.kill();
    fs::copy(&older, data.join("control.db")).expect("it is copied");
    let adopted = Host::adopting(&data);
    assert!(entries(&adopted, "kept").contains("of-kept"));
    adopted.get("newer", "/").problem_of("newer", 404, "unknown-app");
    assert!(!lost(&data, "control.db-wal-").is_empty() && !lost(&data, "newer-").is_empty());
}

#[test]
fn missing_bundles_are_reported_with_a_remedy() {
    let host = Host::start();
    deploy_with_entry(&host, "book");
    let host = host.restart_after(|host| {
        fs::remove_dir_all(host.data().join("blobs")).expect("it exists");
        let (detail, fix) = finding(host.data(), "blobs");
        assert!(detail.contains("1 component") && fix.contains("backup") && fix.contains("deploy"), "{detail}: {fix}");
    });
    let warned = warning(&host, "no file in blobs/").unwrap_or_else(|| panic!("{}", host.said()));
    assert!(warned.contains("backup"), "{warned}");
}

#[test]
fn doctor_and_up_name_a_data_path_that_is_not_a_data_folder() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (none, file) = (folder.path().join("none"), folder.path().join("file"));
    fs::write(&file, "mine").expect("it is written");
    let (detail, fix) = finding(&none, "data folder");
    assert!(detail.contains("doesn't exist") && fix.contains("check the path"), "{detail}: {fix}");
    assert!(!none.exists());
    assert!(finding(&file, "data folder").0.contains("is a file"));
    assert!(!doctor(&file).1, "doctor fails");
    assert!(refused_start(&file).contains("a file exists where a folder is needed"));
    assert_eq!(fs::read_to_string(&file).expect("it exists"), "mine");
}

#[test]
fn a_file_in_the_place_of_lost_and_found_is_named() {
    let host = Host::start();
    deploy_with_entry(&host, "book");
    let host = host.restart_after(|host| {
        fs::write(host.data().join("lost+found"), "mine").expect("it is written");
        let unknown = host.data().join("apps/unknown");
        fs::create_dir(&unknown).and_then(|()| fs::write(unknown.join("kv.db"), "theirs")).expect("it is made");
    });
    assert!(warning(&host, "a file exists where a folder is needed").is_some(), "{}", host.said());
    assert!(entries(&host, "book").contains("of-book") && host.data().join("apps/unknown/kv.db").is_file());
    let (detail, fix) = finding(host.data(), "lost+found");
    assert!(detail.contains("is a file") && fix.contains("move the file"), "{detail}: {fix}");
}

#[test]
fn the_remedy_for_a_moved_folder_works_twice() {
    let host = Host::start();
    deploy_with_entry(&host, "book");
    let host = host.restart_after(|host| {
        let lost = host.data().join("lost+found");
        for name in ["book.replaced", "book-20261128T190542Z"] {
            fs::create_dir_all(lost.join(name))
                .and_then(|()| fs::write(lost.join(name).join("note"), name))
                .expect("made");
        }
        let (items, _) = doctor(host.data());
        let of_book = |item: &&Value| item["detail"].as_str().is_some_and(|text| text.contains("book-2026"));
        let fix = items.iter().find(of_book).and_then(|item| item["fix"].as_str()).expect("it is listed");
        follow(fix);
        let read = |path: &Path| fs::read_to_string(path.join("note")).ok();
        assert_eq!(read(&host.data().join("apps/book")).as_deref(), Some("book-20261128T190542Z"));
        assert_eq!(read(&lost.join("book.replaced")).as_deref(), Some("book.replaced"), "it is not overwritten");
        assert!(lost.join("book.replaced-2/kv.db").is_file());
    });
    assert!(warning(&host, "key-value database of book was missing").is_some(), "{}", host.said());
}

#[test]
fn destroying_an_app_never_deletes_through_a_link() {
    let host = Host::start();
    deploy_with_entry(&host, "book");
    let elsewhere = host.data().with_file_name("elsewhere");
    let home = host.data().join("apps/book");
    let host = host.restart_after(|_| {
        fs::rename(&home, &elsewhere).and_then(|()| symlink(&elsewhere, &home)).expect("it is linked");
    });
    assert!(entries(&host, "book").contains("of-book"), "a linked folder serves");
    let reported = host.api(Ask::new("DELETE", "/v1/apps/book"));
    let detail = reported.problem(409, "folder-is-link")["detail"].clone();
    assert!(
        detail.as_str().is_some_and(|text| text.contains("elsewhere") && text.contains("Remove the link")),
        "{detail}"
    );
    assert!(entries(&host, "book").contains("of-book"), "nothing was changed");
    fs::remove_file(&home).expect("it is a link");
    host.api(Ask::new("DELETE", "/v1/apps/book")).expect(204);
    assert!(elsewhere.join("kv.db").is_file() && !elsewhere.join(".destroyed").exists() && !home.exists());
}

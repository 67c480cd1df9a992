//! Tests a data folder that doesn't match its `control.db`: the host deletes nothing that the
//! database doesn't list, reports every change, and can restore moved folders.

use isopod_tests::{
    Ask, Bundle, Host, guest,
    program::{self, refused_start},
    wait_for,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

fn guestbook(app: &str) -> Bundle {
    Bundle::archive(&format!("name = \"{app}\"\n[grants]\nkeyvalue = true\n"), &guest("guestbook"))
}

/// Deploys a guestbook with one entry.
fn deploy_with_entry(host: &Host, app: &str) {
    host.deploy(app, guestbook(app));
    let entry = Ask::post("/entries").body("application/x-www-form-urlencoded", format!("name=Ada&text=of-{app}"));
    host.app(app, entry).expect(303);
}

fn entries(host: &Host, app: &str) -> String {
    host.get(app, "/entries").expect(200).text()
}

fn lost(data: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(data.join("lost+found")) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    paths
}

/// Returns the report of `isopod doctor` about `lost+found/`.
fn doctor(data: &Path) -> Vec<Value> {
    let output = program::command(&["doctor", "--json", "--data"]).arg(data).output().expect("it can be run");
    let found: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let items = found["items"].as_array().expect("it has items");
    items.iter().filter(|item| item["name"] == "lost+found").cloned().collect()
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).expect("it can be copied");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let to = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() { copy_folder(&path, &to) } else { copy(&path, &to) }
    }
}

/// Follows doctor's advice: create the app, stop the host, and run the command.
#[test]
fn an_older_database_deletes_nothing_and_doctor_shows_how_to_restore() {
    let backup = tempfile::tempdir().expect("a folder can be made");
    let old = backup.path().join("control.db");
    let host = Host::start();
    deploy_with_entry(&host, "kept");
    let host = host.restart_after(|host| copy(&host.data().join("control.db"), &old));
    deploy_with_entry(&host, "newer");
    let host = host.restart_after(|host| copy(&old, &host.data().join("control.db")));
    assert!(entries(&host, "kept").contains("of-kept"));
    host.get("newer", "/").problem_of("newer", 404, "unknown-app");
    let [moved] = lost(host.data()).try_into().expect("one folder was moved");
    assert!(moved.join("kv.db").is_file(), "{}", moved.display());
    let said = host.said();
    let warned = said.lines().find(|line| line.contains("WARN") && line.contains("lost+found")).expect("it is logged");
    assert!(warned.contains(&moved.display().to_string()), "{warned}");

    let [found] = doctor(host.data()).try_into().expect("doctor lists one folder");
    let detail = found["detail"].as_str().expect("it has one");
    assert!(detail.contains(&moved.display().to_string()) && detail.contains("KiB"), "{found}");
    host.deploy("newer", guestbook("newer"));
    let host = host.restart_after(|_| {
        let fix = found["fix"].as_str().expect("it has one");
        let command = fix.split('`').nth(1).expect("it holds a command");
        let status = std::process::Command::new("sh").args(["-c", command]).status().expect("sh can be run");
        assert!(status.success(), "{fix}");
    });
    assert!(entries(&host, "newer").contains("of-newer"));
}

#[test]
fn a_missing_database_beside_apps_stops_the_start_until_it_is_adopted() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data = folder.path().join("data");
    let mut host = Host::on(&data);
    deploy_with_entry(&host, "book");
    host.stop();
    fs::rename(data.join("control.db"), folder.path().join("control.db")).expect("it is moved");
    let said = refused_start(&data);
    assert!(["(book)", "lists no app", "backup", "--data", "--adopt"].iter().all(|word| said.contains(word)), "{said}");
    assert!(
        data.join("apps/book/kv.db").is_file() && !data.join("control.db").exists(),
        "the failed start changed the folder"
    );
    // An empty database counts as missing.
    fs::write(data.join("control.db"), "").expect("it is written");
    assert_eq!(refused_start(&data), said);

    fs::rename(folder.path().join("control.db"), data.join("control.db")).expect("it is restored");
    let mut host = Host::on(&data);
    assert!(entries(&host, "book").contains("of-book"));
    host.stop();
    fs::remove_file(data.join("control.db")).expect("it exists");
    let mut adopted = Host::adopting(&data);
    adopted.get("book", "/").problem_of("book", 404, "unknown-app");
    assert!(lost(&data).first().is_some_and(|moved| moved.join("kv.db").is_file()));
    adopted.deploy("book", guestbook("book"));
    assert_eq!(entries(&adopted, "book"), "[]");
    adopted.stop();
    drop(Host::on(&data));
}

#[test]
fn a_database_of_another_data_folder_stops_the_start() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder can be made"));
    let datas = [0, 1].map(|number: usize| folders[number].path().join("data"));
    for data in &datas {
        let mut host = Host::on(data);
        deploy_with_entry(&host, "book");
        host.stop();
    }
    copy(&datas[1].join("control.db"), &datas[0].join("control.db"));
    let said = refused_start(&datas[0]);
    assert!(["does not belong", "data.id", "backup", "--adopt"].iter().all(|word| said.contains(word)), "{said}");
    assert!(datas[0].join("apps/book/kv.db").is_file());
    let mut host = Host::adopting(&datas[0]);
    assert!(entries(&host, "book").contains("of-book"), "the database lists the app, so its folder stays");
    host.stop();
    drop(Host::on(&datas[0]));
}

#[test]
fn half_a_copy_is_refused_and_one_missing_folder_is_reported() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (data, half) = (folder.path().join("data"), folder.path().join("half"));
    let mut host = Host::on(&data);
    for app in ["book", "other"] {
        deploy_with_entry(&host, app);
    }
    host.stop();
    // Apps without the database.
    copy_folder(&data.join("apps"), &half.join("apps"));
    let said = refused_start(&half);
    assert!(said.contains("book, other") || said.contains("other, book"), "{said}");
    assert!(half.join("apps/book/kv.db").is_file() && half.join("apps/other/kv.db").is_file());
    // The database without apps.
    fs::remove_dir_all(&half).expect("it exists");
    copy_folder(&data, &half);
    fs::remove_dir_all(half.join("apps")).expect("it exists");
    let said = refused_start(&half);
    assert!(
        ["none of them has a folder", "an incomplete copy", "--adopt"].iter().all(|word| said.contains(word)),
        "{said}"
    );
    assert!(!half.join("apps/book").exists(), "the host created an empty folder for the lost app");
    // One folder is missing.
    copy_folder(&data.join("apps/other"), &half.join("apps/other"));
    let host = Host::on(&half);
    assert!(entries(&host, "other").contains("of-other"));
    let warned =
        |said: String| said.lines().any(|line| line.contains("WARN") && line.contains("folder of book was missing"));
    assert!(warned(host.said()), "{}", host.said());
    let reported =
        host.activity("book").into_iter().find(|entry| entry["kind"] == "data-missing").expect("it is recorded");
    assert!(reported["text"].as_str().is_some_and(|text| text.contains("backup")), "{reported}");
    assert_eq!(entries(&host, "book"), "[]");
    assert!(host.activity("other").iter().all(|entry| entry["kind"] != "data-missing"));
    let host = host.restart();
    assert!(!warned(host.said()), "it is logged once: {}", host.said());
}

/// A data folder of an earlier version has no id in either place.
#[test]
fn a_data_folder_without_an_id_gets_one_and_keeps_its_apps() {
    let host = Host::start();
    deploy_with_entry(&host, "book");
    let host = host.restart_after(|host| {
        host.change_rows("DELETE FROM data_folder", []);
        fs::remove_file(host.data().join("data.id")).expect("it exists");
    });
    assert!(entries(&host, "book").contains("of-book"));
    let id = fs::read_to_string(host.data().join("data.id")).expect("it is made");
    let host = host.restart_after(|host| fs::remove_file(host.data().join("data.id")).expect("it exists"));
    assert_eq!(fs::read_to_string(host.data().join("data.id")).expect("it is made"), id, "the database has it");
    assert!(lost(host.data()).is_empty());
}

#[test]
fn an_interrupted_destroy_is_completed_without_a_trace() {
    let host = Host::start_pausing("app-deleted=pause");
    deploy_with_entry(&host, "book");
    let ask = Ask::new("DELETE", "/v1/apps/book").header("authorization", format!("Bearer {}", host.token));
    let mut wire = isopod_tests::Wire::open(host.admin).expect("the host accepts connections");
    wire.ask(&ask).expect("it is sent");
    wait_for("the removal of the app", || (host.api(Ask::get("/v1/apps/book")).status == 404).then_some(()));
    assert!(host.data().join("apps/book/.destroyed").is_file() && host.data().join("apps/book/kv.db").is_file());
    let host = host.kill_and_restart();
    assert!(!host.data().join("apps/book").exists());
    // Killed again, in the middle of the removal.
    let host = host.restart_after(|host| {
        let doomed = host.data().join("apps/.book.destroyed");
        fs::create_dir(&doomed).and_then(|()| fs::write(doomed.join("kv.db"), "")).expect("it is made");
    });
    assert_eq!(fs::read_dir(host.data().join("apps")).expect("it exists").count(), 0);
    assert!(lost(host.data()).is_empty());
    host.deploy("book", guestbook("book"));
    assert_eq!(entries(&host, "book"), "[]");
}

#[test]
fn a_file_named_like_an_app_is_moved_and_other_entries_stay() {
    let host = Host::start();
    deploy_with_entry(&host, "book");
    let host = host.restart_after(|host| {
        let apps = host.data().join("apps");
        fs::write(apps.join("notes"), "mine").expect("it is written");
        fs::create_dir(apps.join("Backup"))
            .and_then(|()| fs::write(apps.join("Backup/a"), "mine"))
            .expect("it is made");
    });
    let [moved] = lost(host.data()).try_into().expect("one file was moved");
    assert_eq!(fs::read_to_string(&moved).expect("it is whole"), "mine");
    assert!(host.said().contains(&moved.display().to_string()));
    assert!(host.data().join("apps/Backup/a").is_file());
    // While the host runs it moves nothing, and a new app doesn't adopt an existing folder.
    let path = host.data().join("apps/shop");
    fs::create_dir(&path).and_then(|()| fs::write(path.join("kv.db"), "mine")).expect("it is made");
    let create = Ask::post("/v1/apps").json(&json!({ "name": "shop" }));
    host.api(create.clone()).problem(409, "folder-exists");
    assert_eq!(fs::read_to_string(path.join("kv.db")).expect("it is whole"), "mine");
    fs::remove_dir_all(&path).expect("it exists");
    host.api(create).expect(201);
    assert!(entries(&host, "book").contains("of-book"));
}

/// The bundle of a release that an older database doesn't list, in a folder without recent uploads.
#[test]
fn bundles_unknown_to_the_database_are_moved_and_never_deleted() {
    let backup = tempfile::tempdir().expect("a folder can be made");
    let old = backup.path().join("control.db");
    let host = Host::start();
    deploy_with_entry(&host, "kept");
    let host = host.restart_after(|host| copy(&host.data().join("control.db"), &old));
    host.deploy("newer", Bundle::component(guest("hello")));
    let bundle = host.release("newer", 1)["bundle"].as_str().expect("it has one").to_owned();
    let host = host.restart_after(|host| {
        copy(&old, &host.data().join("control.db"));
        let then = SystemTime::now() - Duration::from_secs(7 * 24 * 3600);
        for blob in fs::read_dir(host.data().join("blobs")).expect("it can be read") {
            let file = fs::File::open(blob.expect("it can be read").path()).expect("it can be opened");
            file.set_modified(then).expect("its time can be set");
        }
    });
    let moved = host.data().join("lost+found/blobs").join(&bundle);
    wait_for("the move of the bundle", || moved.is_file().then_some(()));
    wait_for("the warning about the bundles", || {
        host.said().contains("bundles that this control.db never had").then_some(())
    });
    assert!(doctor(host.data()).iter().any(|found| found["fix"].as_str().is_some_and(|fix| fix.contains("blobs"))));
    assert!(entries(&host, "kept").contains("of-kept"), "its bundle is in use");
}

//! I4: tests that a guest reaches files only below its granted folders, by any path.

use isopod_tests::{Ask, Bundle, Host, Neighbour, guest};
use std::{fs, os::unix::fs::symlink, path::PathBuf};

fn deploy(host: &Host, access: &str) -> PathBuf {
    let files = if access.is_empty() { String::new() } else { format!("files = {{ data = \"{access}\" }}\n") };
    let manifest = format!("name = \"greedy\"\n[grants]\n{files}");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
    host.data().join("apps").join("greedy").join("files").join("data")
}

#[test]
fn a_granted_folder_belongs_to_the_app_and_persists() {
    let host = Host::start();
    let folder = deploy(&host, "read-write");
    assert!(folder.is_dir(), "{} does not exist", folder.display());
    assert_eq!(host.get("greedy", "/write?path=/data/note&bytes=4").text(), "written");
    assert_eq!(host.get("greedy", "/read?path=/data/note").text(), "xxxx");
    assert_eq!(host.get("greedy", "/list?path=/data").text(), "note");
    let host = host.restart();
    assert_eq!(host.get("greedy", "/read?path=/data/note").text(), "xxxx");
    // Another app with the same grant has its own folder.
    let manifest = "name = \"other\"\n[grants]\nfiles = { data = \"read-write\" }\n";
    host.deploy("other", Bundle::archive(manifest, &guest("greedy")));
    assert_eq!(host.get("other", "/list?path=/data").text(), "");
}

#[test]
fn a_read_only_folder_cannot_be_written() {
    let host = Host::start();
    let folder = deploy(&host, "read-only");
    fs::write(folder.join("note"), "given").expect("the host's own user may write");
    assert_eq!(host.get("greedy", "/read?path=/data/note").text(), "given");
    for path in ["/data/note", "/data/new"] {
        let said = host.get("greedy", &format!("/write?path={path}")).text();
        assert!(said.starts_with("refused"), "{path}: {said}");
    }
    assert_eq!(fs::read_to_string(folder.join("note")).expect("it exists"), "given");
}

#[test]
fn nothing_outside_of_a_granted_folder_is_reachable() {
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    let folder = deploy(&host, "read-write");
    let outside = host.data().parent().expect("it has a parent").join("outside");
    fs::write(&outside, "secret").expect("a file can be made");
    symlink(&outside, folder.join("link")).expect("a link can be made");
    symlink("/", folder.join("root")).expect("a link can be made");
    symlink("../..", folder.join("up")).expect("a link can be made");
    let outside_path = outside.display().to_string();
    let token = host.data().join("admin.token").display().to_string();
    let paths = [
        "/etc/passwd",
        "/data/../etc/passwd",
        "/data/../../../../../../../../etc/passwd",
        "/data/./../data/../../admin.token",
        "/data/link",
        "/data/root/etc/passwd",
        "/data/up/up/admin.token",
        "../admin.token",
        ".",
        "/",
        "/proc/self/environ",
        outside_path.as_str(),
        token.as_str(),
    ];
    for path in paths {
        for act in ["read", "list", "write"] {
            let said = host.get("greedy", &format!("/{act}?path={path}")).text();
            assert!(said.starts_with("refused"), "{act} {path}: {said}");
        }
    }
    assert_eq!(fs::read_to_string(&outside).expect("it exists"), "secret");
    assert_eq!(fs::read_to_string(host.data().join("admin.token")).expect("it exists").trim(), host.token);
    neighbour.finish();
}

#[test]
fn a_link_to_the_folder_of_another_app_is_not_followed() {
    let host = Host::start();
    let folder = deploy(&host, "read-write");
    let manifest = "name = \"other\"\n[grants]\nfiles = { data = \"read-write\" }\n";
    host.deploy("other", Bundle::archive(manifest, &guest("greedy")));
    assert_eq!(host.get("other", "/write?path=/data/secret&bytes=4").text(), "written");
    let of_other = host.data().join("apps/other/files/data");
    // The app's own guest could create the relative links.
    symlink("../../../other/files/data", folder.join("sideways")).expect("a link can be made");
    symlink("../../../other/files/data/secret", folder.join("secret")).expect("a link can be made");
    symlink(&of_other, folder.join("absolute")).expect("a link can be made");
    for path in ["sideways", "sideways/secret", "sideways/new", "secret", "absolute", "absolute/secret", "absolute/new"]
    {
        for act in ["read", "list", "write"] {
            let said = host.get("greedy", &format!("/{act}?path=/data/{path}")).text();
            assert!(said.starts_with("refused"), "{act} {path}: {said}");
        }
    }
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    let names: Vec<_> = fs::read_dir(&of_other).expect("it exists").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["secret"], "the links were removed without their targets");
    assert_eq!(host.get("other", "/read?path=/data/secret").text(), "xxxx");
}

#[test]
fn without_a_grant_no_file_is_accessible() {
    let host = Host::start();
    deploy(&host, "");
    for path in ["/", ".", "/data", "/data/x", "/etc/passwd", "/tmp/x"] {
        for act in ["read", "list", "write"] {
            let said = host.get("greedy", &format!("/{act}?path={path}")).text();
            assert!(said.starts_with("refused"), "{act} {path}: {said}");
        }
    }
}

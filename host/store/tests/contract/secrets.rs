//! Secrets: a sealed secret opens unchanged, for its own app and config var only, and with the data
//! folder's key file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use isopod_policy::Sealed;
use isopod_store::{Secrets, StoreError};

use crate::{name, on_disk};

fn secrets() -> (tempfile::TempDir, Secrets) {
    let folder = tempfile::tempdir().expect("the folder is created");
    let secrets = Secrets::open(folder.path()).expect("the key is created");
    (folder, secrets)
}

fn key_file(folder: &Path) -> std::path::PathBuf {
    folder.join("secrets.key")
}

#[test]
fn a_sealed_secret_opens_with_the_same_key_file() {
    let (folder, secrets) = secrets();
    for plain in ["s3", "", "line\nline\0ä", &"x".repeat(100_000)] {
        let sealed = secrets.seal(&name("greeter"), "TOKEN", plain);
        let again = Secrets::open(folder.path()).expect("the key is read");
        assert_eq!(again.unseal(&name("greeter"), "TOKEN", &sealed), Ok(plain.to_owned()));
    }
    let metadata = fs::metadata(key_file(folder.path())).expect("it exists");
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (32, 0o600));
    assert_eq!(fs::read_dir(folder.path()).expect("it is read").count(), 1, "no unfinished file remains");
}

#[test]
fn a_sealed_secret_reveals_nothing() {
    let (folder, secrets) = secrets();
    let seal = || secrets.seal(&name("greeter"), "TOKEN", "swordfish");
    assert_ne!(seal(), seal(), "the same text looks different each time");
    assert!(!seal().as_base64().contains("swordfish"));
    let key = fs::read(key_file(folder.path())).expect("it is read");
    assert_eq!(format!("{secrets:?}"), "Secrets { .. }");
    let other = tempfile::tempdir().expect("the folder is created");
    Secrets::open(other.path()).expect("the key is created");
    assert_ne!(fs::read(key_file(other.path())).expect("it is read"), key, "every data folder has its own key");
}

#[test]
fn a_secret_opens_only_for_its_app_and_config_var() {
    let (_folder, secrets) = secrets();
    let sealed = secrets.seal(&name("greeter"), "TOKEN", "s3");
    for (app, key) in [("other", "TOKEN"), ("greeter", "PASSWORD"), ("greeter", "TOKE"), ("greeter", "")] {
        let refused = secrets.unseal(&name(app), key, &sealed);
        assert_eq!(refused, Err(StoreError::SecretChanged { app: name(app), key: key.to_owned() }));
    }
}

#[test]
fn a_secret_that_was_tampered_with_is_refused() {
    let (_folder, secrets) = secrets();
    let app = name("greeter");
    let sealed = secrets.seal(&app, "TOKEN", "s3");
    let sealed = sealed.as_base64();
    let unseal = |text: &str| secrets.unseal(&app, "TOKEN", &Sealed::new(text.to_owned()));
    for position in 0..sealed.len() {
        let other = if &sealed[position..=position] == "A" { "B" } else { "A" };
        let mut changed = sealed.to_owned();
        changed.replace_range(position..=position, other);
        assert!(unseal(&changed).is_err(), "character {position}");
        assert!(unseal(&sealed[..position]).is_err(), "cut after {position}");
    }
    for text in ["", "s3", "not base64!", &format!("{sealed}AAAA")] {
        let refused = unseal(text);
        assert_eq!(refused, Err(StoreError::SecretChanged { app: app.clone(), key: "TOKEN".to_owned() }), "{text}");
    }
}

#[tokio::test]
async fn a_lost_key_file_and_a_changed_secret_are_different_errors() {
    let backend = on_disk();
    let folder = backend.folder.path();
    let sealed = backend.store.secrets().seal(&name("greeter"), "TOKEN", "s3");
    drop(backend.store);
    let kept = fs::read(key_file(folder)).expect("it is read");
    fs::remove_file(key_file(folder)).expect("the test may remove it");

    let again = isopod_store::Store::open(folder).expect("the store opens without the old key");
    let refused = again.secrets().unseal(&name("greeter"), "TOKEN", &sealed).expect_err("another key");
    assert_eq!(refused, StoreError::SecretOfOtherKey { app: name("greeter"), key: "TOKEN".to_owned() });
    let text = refused.to_string();
    assert!(text.contains("secrets.key was lost") && text.contains("backup") && text.contains("config set"), "{text}");
    drop(again);

    fs::write(key_file(folder), kept).expect("the test may write");
    let restored = Secrets::open(folder).expect("the key is read");
    assert_eq!(restored.unseal(&name("greeter"), "TOKEN", &sealed), Ok("s3".to_owned()));
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let (folder, _secrets) = secrets();
    let path = key_file(folder.path());
    for mode in [0o644, 0o640, 0o606] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the test may change it");
        let refused = Secrets::open(folder.path()).expect_err("other users can read it");
        assert_eq!(refused, StoreError::KeyFileOpen { path: path.clone(), mode });
        assert!(refused.to_string().contains(&format!("`chmod 600 {}`", path.display())), "{refused}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("the test may change it");
    Secrets::open(folder.path()).expect("a read-only file is accepted");
}

#[test]
fn a_key_file_of_another_size_is_refused() {
    let (folder, _secrets) = secrets();
    let path = key_file(folder.path());
    for bytes in [0, 31, 33] {
        fs::write(&path, vec![7; bytes]).expect("the test may write");
        let refused = Secrets::open(folder.path()).expect_err("the size is wrong");
        assert_eq!(refused, StoreError::KeyFileSize { path: path.clone(), bytes: bytes as u64 });
        assert!(refused.to_string().contains("a key has 32"), "{refused}");
    }
}

#[test]
fn an_unfinished_key_file_of_a_crash_is_ignored() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let unfinished = folder.path().join("secrets.unfinished");
    fs::write(&unfinished, vec![1; 100]).expect("the test may write");
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)).expect("the test may change it");
    let secrets = Secrets::open(folder.path()).expect("the key is created");
    let sealed = secrets.seal(&name("greeter"), "TOKEN", "s3");
    let again = Secrets::open(folder.path()).expect("the key is read");
    assert_eq!(again.unseal(&name("greeter"), "TOKEN", &sealed), Ok("s3".to_owned()));
}

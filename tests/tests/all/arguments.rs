//! Tests the arguments of a command: the name of its file first, then the arguments of the caller.

use isopod_tests::{guests::guest_path, program};

#[test]
fn a_program_is_started_with_the_name_of_its_file() {
    let file = guest_path("shapes");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let renamed = folder.path().join("other.name.wasm");
    std::fs::copy(&file, &renamed).expect("a file can be copied");
    for (file, name) in [(&file, "shapes.wasm"), (&renamed, "other.name.wasm")] {
        let ended = program::command(&["run", file.to_str().expect("paths are text"), "1", "more"]).output();
        let ended = ended.expect("the program starts");
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert_eq!((said.trim(), ended.status.code()), (&*format!("shapes works as Some({name:?})"), Some(1)));
    }
}

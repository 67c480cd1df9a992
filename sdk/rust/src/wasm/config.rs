//! The import `wasi:config/store`. Never reads the environment.

use super::abi::Area;

#[link(wasm_import_module = "wasi:config/store@0.2.0-rc.1")]
unsafe extern "C" {
    #[link_name = "get"]
    fn raw_get(key: *const u8, key_length: usize, result: *mut u8);
}

/// Returns a config var; `None` if it isn't set or the host fails to read it.
pub(crate) fn config_get(name: &str) -> Option<String> {
    super::worlds::link();
    // result<option<string>, error>: tag, then option's tag, then the string; an error is tag,
    // case, string.
    let mut area = Area::<4>::new();
    // SAFETY: the area has room for the result, and the strings in it are ours.
    unsafe {
        raw_get(name.as_ptr(), name.len(), area.pointer());
        let text = (area.tag(0) == 1 || area.tag(1) == 1).then(|| area.slice(2).into_string());
        if area.tag(0) == 1 {
            let reason = text.unwrap_or_default();
            crate::logging::report(&format!("reading the config var {name}"), reason);
            return None;
        }
        text
    }
}

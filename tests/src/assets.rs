//! Bundles with static files.

use crate::{Bundle, guest};

/// The example `hello` as a site with these files below `static/`, which `static-files` serves with
/// this config.
pub fn site(config: &str, files: &[(&str, &[u8])]) -> Bundle {
    let manifest = format!("name = \"site\"\n[[middleware]]\nuse = \"static-files\"\nconfig = {config}\n");
    let component = guest("hello");
    let paths: Vec<String> = files.iter().map(|(path, _)| format!("static/{path}")).collect();
    let mut all: Vec<(&str, &[u8])> = vec![("isopod.toml", manifest.as_bytes()), ("component.wasm", &component)];
    all.extend(paths.iter().map(String::as_str).zip(files.iter().map(|(_, content)| *content)));
    Bundle::archive_of(&all)
}

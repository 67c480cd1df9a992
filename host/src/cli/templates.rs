//! The files of each template of `isopod new`, with the project's names filled in, and the SDK's
//! sources. Returns texts; never writes files.

use clap::ValueEnum;
use isopod_policy::AppName;

/// The SDK's sources from this program's repository.
const SDK_FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sdk_files.rs"));
/// The folder of the SDK in a project.
const SDK_FOLDER: &str = "vendor/isopod-sdk";
/// Words that Rust or Cargo reserve, so that no package can have such a name.
const RESERVED: [&str; 47] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "isopod-sdk",
    "let",
    "log",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "type",
    "use",
];

/// The kind of project to create.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    /// Answers HTTP requests
    Http,
    /// Handles events
    Events,
    /// Holds conversations: one event for each message
    Bot,
    /// A plugin that receives the requests to apps before the apps do
    Middleware,
    /// A plugin that receives the activity of apps as events
    Hook,
    /// A plugin that decides whether releases of apps are activated
    Gate,
}

impl Template {
    /// Returns whether the project is a plugin.
    pub(crate) fn is_plugin(self) -> bool {
        match self {
            Self::Http | Self::Events | Self::Bot => false,
            Self::Middleware | Self::Hook | Self::Gate => true,
        }
    }
}

/// One file of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Relative to the project's folder.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
}

/// Returns all files of a new project.
pub(crate) fn files(template: Template, name: &AppName) -> Vec<File> {
    let (lib, manifest, readme) = match template {
        Template::Http => (
            include_str!("templates/http.rs.in"),
            include_str!("templates/http.toml.in"),
            include_str!("templates/http.md.in"),
        ),
        Template::Events => (
            include_str!("templates/events.rs.in"),
            include_str!("templates/events.toml.in"),
            include_str!("templates/events.md.in"),
        ),
        Template::Bot => (
            include_str!("templates/bot.rs.in"),
            include_str!("templates/bot.toml.in"),
            include_str!("templates/bot.md.in"),
        ),
        Template::Middleware => (
            include_str!("templates/middleware.rs.in"),
            include_str!("templates/middleware.toml.in"),
            include_str!("templates/middleware.md.in"),
        ),
        Template::Hook => (
            include_str!("templates/hook.rs.in"),
            include_str!("templates/hook.toml.in"),
            include_str!("templates/hook.md.in"),
        ),
        Template::Gate => (
            include_str!("templates/gate.rs.in"),
            include_str!("templates/gate.toml.in"),
            include_str!("templates/gate.md.in"),
        ),
    };
    let (manifest_head, readme_head) = match template.is_plugin() {
        true => ("", include_str!("templates/plugin.md.in")),
        false => (include_str!("templates/isopod.toml.in"), include_str!("templates/head.md.in")),
    };
    let manifest = format!("{manifest_head}{manifest}");
    let readme = format!("{readme_head}{readme}{}", include_str!("templates/foot.md.in"));
    // The simplest templates depend only on the SDK.
    let libraries = match template {
        Template::Http | Template::Hook => "",
        Template::Events | Template::Bot | Template::Middleware | Template::Gate => {
            "serde = { version = \"1\", features = [\"derive\"] }\n"
        }
    };
    let cargo = include_str!("templates/Cargo.toml.in").replace("{{libraries}}", libraries);
    let texts = [
        ("Cargo.toml", &*cargo),
        (".cargo/config.toml", include_str!("templates/cargo.toml.in")),
        ("isopod.toml", &manifest),
        ("src/lib.rs", lib),
        ("README.md", &readme),
        (".gitignore", "/target\n/.isopod\n"),
    ];
    let names = Names::of(name);
    let own = texts.map(|(path, text)| File { path: path.to_owned(), content: names.fill(text).into_bytes() });
    let sdk = SDK_FILES
        .iter()
        .map(|(path, content)| File { path: format!("{SDK_FOLDER}/{path}"), content: content.to_vec() });
    own.into_iter().chain(sdk).collect()
}

/// The names that appear in a project.
struct Names {
    app: String,
    package: String,
    library: String,
}

impl Names {
    fn of(app: &AppName) -> Names {
        let app = app.to_string();
        let unfit = app.starts_with(|first: char| first.is_ascii_digit()) || RESERVED.contains(&app.as_str());
        let package = if unfit { format!("app-{app}") } else { app.clone() };
        let library = package.replace('-', "_");
        Names { app, package, library }
    }

    fn fill(&self, text: &str) -> String {
        let words = [("{{name}}", &self.app), ("{{package}}", &self.package), ("{{library}}", &self.library)];
        words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isopod_policy::Manifest;

    fn text(files: &[File], path: &str) -> String {
        let file = files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}"));
        String::from_utf8(file.content.clone()).unwrap()
    }

    #[test]
    fn every_template_has_a_manifest_that_names_its_own_component() {
        for template in Template::value_variants() {
            let files = files(*template, &"my-app".parse().unwrap());
            let manifest = Manifest::parse(&text(&files, "isopod.toml")).unwrap();
            assert_eq!(manifest.name.to_string(), "my-app");
            assert_eq!(manifest.plugin.is_some(), template.is_plugin());
            assert_eq!(manifest.component.as_deref(), Some("target/wasm32-wasip2/release/my_app.wasm"));
            let cargo: toml::Table = text(&files, "Cargo.toml").parse().unwrap();
            assert_eq!(cargo["package"]["name"].as_str(), Some("my-app"));
            let settings: toml::Table = text(&files, ".cargo/config.toml").parse().unwrap();
            assert_eq!(settings["build"]["build-dir"].as_str(), Some("{cargo-cache-home}/isopod-build"));
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        for template in Template::value_variants() {
            for file in files(*template, &"x".parse().unwrap()).iter().filter(|file| !file.path.starts_with("vendor")) {
                assert!(!String::from_utf8_lossy(&file.content).contains("{{"), "{}", file.path);
            }
        }
    }

    #[test]
    fn every_project_contains_the_sdk() {
        let files = files(Template::Http, &"x".parse().unwrap());
        let sdk: toml::Table = text(&files, "vendor/isopod-sdk/Cargo.toml").parse().unwrap();
        assert_eq!(sdk["package"]["name"].as_str(), Some("isopod-sdk"));
        text(&files, "vendor/isopod-sdk/src/lib.rs");
        assert!(files.iter().all(|file| !file.path.contains("/target/")));
    }

    /// README.md quotes the new project's source file.
    #[test]
    fn the_readme_quotes_the_http_template() {
        let shown =
            format!("```rust\n{}```\n", text(&files(Template::Http, &"greeter".parse().unwrap()), "src/lib.rs"));
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(&shown), "README.md does not show:\n{shown}");
    }

    #[test]
    fn names_that_are_invalid_for_packages_get_a_prefix() {
        let package = |name: &str| Names::of(&name.parse().unwrap()).package;
        assert_eq!(["2048", "match", "greeter"].map(package), ["app-2048", "app-match", "greeter"]);
    }
}

//! Pushes the component of a `dev` app to its host, and reports failed builds to it. Never pushes
//! the same content twice in a row.

use std::time::{Duration, Instant};

use isopod_policy::{AppName, Grants};
use serde_json::{Value, json};
use ureq::http::Method;

use crate::cli::accept_grants;
use crate::cli::archive::{self, Effort};
use crate::cli::assets::{self, Assets};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output::{self, field};
use crate::cli::project::Project;
use crate::cli::terminal;

/// The result of a push.
pub(crate) enum Pushed {
    /// The component was pushed before.
    Same {
        /// Whether the host accepted it then.
        accepted: bool,
    },
    /// The compiler is still writing; its next write causes another push.
    Unfinished,
    /// The new release serves.
    Live {
        release: String,
        /// The time since the change was seen.
        took: Duration,
    },
    /// The host rejected it; the previous release keeps serving.
    Refused(Failure),
}

/// What a push sends in addition to the component.
#[derive(Clone, PartialEq, Eq)]
struct Settings {
    manifest: String,
    assets: Assets,
}

/// The state for pushing, owned by one thread.
pub(crate) struct Pusher {
    client: Client,
    app: AppName,
    /// Whether a push may widen the grants of the app.
    accepts_grants: bool,
    /// What the host has in addition to the component, if known.
    present: Option<Settings>,
    /// The settings and the component of the last push, accepted or not.
    last: Option<(Settings, Vec<u8>)>,
    /// Whether the host accepted the last push.
    accepted: bool,
    error_shown: bool,
}

impl Pusher {
    pub(crate) fn new(client: Client, app: AppName, accepts_grants: bool) -> Pusher {
        Pusher { client, app, accepts_grants, present: None, last: None, accepted: false, error_shown: false }
    }

    /// Ensures that the app exists, is of type `dev` and is started. Returns the app.
    pub(crate) fn prepare(&self) -> Result<Value, Failure> {
        let path = format!("/v1/apps/{}", self.app);
        let answer = self.client.get(&path)?;
        if answer.status() == 404 {
            let body = json!({"name": self.app, "type": "dev"});
            return self.client.send(Method::POST, "/v1/apps", Some(&body))?.success();
        }
        let app = answer.success()?;
        let app_type = field(&app, "type");
        if app_type != "dev" {
            return Err(Failure::new(format!("{} cannot be hot-reloaded", self.app))
                .why(format!("its type is {app_type}, whose code changes only through a deploy"))
                .next(format!("use `isopod deploy`, or stop it and run `isopod apps type dev --app {}`", self.app)));
        }
        if field(&app, "state") == "stopped" && app.get("release").is_some_and(|release| !release.is_null()) {
            self.client.send(Method::POST, &format!("{path}/start"), None)?.success()?;
        }
        Ok(app)
    }

    /// Pushes the component if it, the manifest or an asset differs from the last push.
    pub(crate) fn push(&mut self, project: &Project, seen_at: Instant) -> Pushed {
        let component = match project.read_component() {
            Ok(component) => component,
            Err(failure) => return Pushed::Refused(failure),
        };
        let assets = match assets::of(project) {
            Ok(assets) => assets,
            Err(failure) => return Pushed::Refused(failure),
        };
        let settings = Settings { manifest: project.manifest_text.clone(), assets };
        if self.last.as_ref().is_some_and(|(before, sent)| *before == settings && *sent == component) {
            return Pushed::Same { accepted: self.accepted };
        }
        if !is_whole(&component) {
            return Pushed::Unfinished;
        }
        if let Err(failure) = self.ensure_accepted(&settings, &project.manifest.grants) {
            return Pushed::Refused(failure);
        }
        let answer = self.send(&settings, &component);
        self.last = Some((settings.clone(), component));
        self.accepted = answer.is_ok();
        match answer {
            Ok(push) => {
                self.present = Some(settings);
                // A completed push removes a shown build error on the host.
                self.error_shown = false;
                Pushed::Live { release: output::release(&push, "release"), took: seen_at.elapsed() }
            }
            Err(failure) => Pushed::Refused(failure),
        }
    }

    /// Fails if the push would widen the grants of the app, unless the user has accepted that.
    fn ensure_accepted(&self, settings: &Settings, asked: &Grants) -> Result<(), Failure> {
        // Without a changed manifest, the push is a bare component, which keeps the grants.
        if self.accepts_grants || self.present.as_ref() == Some(settings) {
            return Ok(());
        }
        let wider = accept_grants::beyond_current(&self.client, &self.app, asked)?;
        if wider.is_empty() {
            return Ok(());
        }
        let list = accept_grants::listed(&wider);
        Err(Failure::new("nothing was pushed")
            .why(format!("isopod.toml asks for grants that {} doesn't have:\n{list}", self.app))
            .next("restart `isopod dev --to` with `--accept-grants`, or remove these grants from isopod.toml"))
    }

    fn send(&self, settings: &Settings, component: &[u8]) -> Result<Value, Failure> {
        let accepts = if self.accepts_grants { "&accept_grants=true" } else { "" };
        let path = format!("/v1/apps/{}/pushes?wait=true{accepts}", self.app);
        // A bare component keeps the previous manifest and assets, and needs no packing.
        let packed;
        let (media_type, bytes) = if self.present.as_ref() == Some(settings) {
            ("application/wasm", component)
        } else {
            packed = archive::pack(&settings.manifest, component, &settings.assets, Effort::Fast)?;
            ("application/gzip", packed.as_slice())
        };
        let answer = self.client.upload(&path, media_type, None, bytes.len() as u64, &mut &*bytes)?;
        let push = answer.success()?;
        if field(&push, "state") == "failed" {
            return Err(Failure::new("the host rejected the component").why(field(&push, "reason")));
        }
        Ok(push)
    }

    /// Shows a build error to visitors of the app.
    pub(crate) fn show_error(&mut self, text: &str) -> Result<(), Failure> {
        let plain = terminal::plain(text);
        let path = format!("/v1/apps/{}/build-error", self.app);
        self.client.send_text(Method::PUT, &path, "text/plain; charset=utf-8", &plain)?.success()?;
        self.error_shown = true;
        Ok(())
    }

    /// Removes the shown build error if the last pushed code serves.
    pub(crate) fn clear_error(&mut self) -> Result<(), Failure> {
        if !self.accepted || !std::mem::take(&mut self.error_shown) {
            return Ok(());
        }
        self.client.delete(&format!("/v1/apps/{}/build-error", self.app))?.success()?;
        Ok(())
    }
}

/// Returns whether the sections of a WebAssembly file end with the file: an incomplete file ends
/// within one. Other formats count as whole; the host refuses them.
fn is_whole(bytes: &[u8]) -> bool {
    if !bytes.starts_with(b"\0asm") {
        return !bytes.is_empty() && !b"\0asm".starts_with(bytes);
    }
    let Some(mut rest) = bytes.get(8..) else { return false };
    while let Some(after_id) = rest.get(1..) {
        let Some((size, after_size)) = leb128(after_id) else { return false };
        let Some(next) = after_size.get(size..) else { return false };
        rest = next;
    }
    true
}

/// Reads an unsigned LEB128 number of at most 32 bits.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::FakeHost;

    #[test]
    fn a_component_is_whole_when_its_sections_end_with_the_file() {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        assert!(is_whole(&bytes), "a file without sections is whole");
        bytes.push(0);
        assert!(!is_whole(&bytes), "a section without a size");
        bytes.extend([0x82, 0x01]);
        assert!(!is_whole(&bytes), "a section without its content");
        bytes.extend([7; 130]);
        assert!(is_whole(&bytes));
    }

    #[test]
    fn wider_grants_are_pushed_only_if_the_user_accepts_them() {
        let current = || [(200, json!({ "release": 3 })), (200, json!({ "http": ["a.org"] }))];
        let asked: Grants = serde_json::from_value(json!({ "http": ["a.org", "b.org"] })).expect("valid grants");
        let settings = Settings { manifest: "name = \"shop\"".to_owned(), assets: Assets::new() };
        let check = |answers: [(u16, Value); 2], accepts_grants, present| {
            let host = FakeHost::responding(answers);
            let app = host.app("shop");
            let mut pusher = Pusher::new(app.client.clone(), app.name.clone(), accepts_grants);
            pusher.present = present;
            pusher.ensure_accepted(&settings, &asked)
        };
        let text = check(current(), false, None).expect_err("it is refused").text();
        assert!(text.contains("+ http \"b.org\"") && text.contains("--accept-grants"), "{text}");
        assert!(!text.contains("a.org"), "{text}");
        assert_eq!(check(current(), true, None), Ok(()));
        assert_eq!(check(current(), false, Some(settings.clone())), Ok(()), "a bare component keeps the grants");
        assert_eq!(check([(404, json!({})), (200, json!({}))], false, None), Ok(()));
    }

    #[test]
    fn an_empty_file_is_incomplete_and_another_format_is_whole() {
        assert!(!is_whole(b"") && !is_whole(b"\0as") && !is_whole(b"\0asm"));
        assert!(is_whole(b"#!/bin/sh"));
    }
}

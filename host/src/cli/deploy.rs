//! Implements `isopod deploy`: builds a project's bundle or reads a file, uploads it, and waits for
//! the end of the push job. Installs a plugin in the same way. Never runs the app.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use isopod_policy::limits::BUNDLE_BYTES_MAX;
use isopod_policy::{AppKind, AppName, AppType, BundleKind, Form, Grants, Manifest, bundle};
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Answer, Client, HostArgs};
use super::failure::Failure;
use super::output::{self, field};
use super::progress::Step;
use super::project::{AppArgs, Project};
use super::waiting::{self, Goal};
use super::{accept_grants, apps, build, following_push, installed, interrupt};
use crate::api::limits::IDEMPOTENCY_KEY_CHARS_MAX;

const EXAMPLES: &str = "\
Examples:
  isopod deploy                            builds and deploys the project in the working folder
  isopod deploy --wait                     returns when the app runs its new release
  isopod deploy app.wasm --app shop        deploys a component without building
  isopod deploy --accept-grants            also accepts grants that the app doesn't have yet
  isopod deploy --skip-gates               deploys although a gate would refuse it; needs the role admin
  isopod deploy shop.tar.gz                deploys a bundle to the app named in its isopod.toml, or installs a plugin
  isopod deploy --idempotency-key $COMMIT  can be repeated: same key and bundle, same push job, unless it failed";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DeployArgs {
    /// A project's folder, a component (.wasm) or a bundle (.tar.gz)
    #[arg(value_name = "DIR|FILE", default_value = ".")]
    source: PathBuf,
    /// Wait until the app runs the new release, not only until the push job is completed
    #[arg(long, conflicts_with = "detach")]
    wait: bool,
    /// Return when the host has received the bundle
    #[arg(long)]
    detach: bool,
    /// Deploy the existing component without running the build command
    #[arg(long)]
    no_build: bool,
    /// A name that you choose for this deploy. Repeated with the same bundle it returns the same
    /// push job, so that a deploy with a lost response can be retried. After a failed or cancelled
    /// push job the same key can be used again
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,
    /// Accept grants that the app doesn't have yet
    #[arg(long)]
    accept_grants: bool,
    /// Skip the gates of the host's settings; needs a token with the role admin
    #[arg(long)]
    skip_gates: bool,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The bundle to send, and the app to send it to.
struct Upload {
    app: AppName,
    /// The manifest, if the upload is a plugin.
    plugin: Option<Box<Manifest>>,
    /// The type to create the app with, if a manifest names one.
    app_type: Option<AppType>,
    media_type: &'static str,
    bytes: Vec<u8>,
    /// Whether the user accepts wider grants.
    accepts_grants: bool,
    skips_gates: bool,
}

impl DeployArgs {
    /// Returns the arguments that install a plugin.
    pub(crate) fn of_plugin(source: PathBuf, no_build: bool, accept_grants: bool, host: HostArgs, json: bool) -> Self {
        let (app, idempotency_key) = (AppArgs { app: None }, None);
        let (wait, detach, skip_gates) = (false, false, false);
        Self { source, wait, detach, no_build, accept_grants, skip_gates, idempotency_key, app, host, json }
    }
}

pub(crate) fn run(args: &DeployArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.host)?;
    let upload = prepare(args, &client)?;
    deploy(args, &client, upload)
}

/// Installs a plugin. Fails if the project or the bundle isn't a plugin.
pub(crate) fn install(args: &DeployArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.host)?;
    let upload = prepare(args, &client)?;
    if upload.plugin.is_none() {
        return Err(Failure::new(format!("{} is not a plugin", upload.app))
            .why("its isopod.toml has no kind = \"plugin\"")
            .next("deploy an app with `isopod deploy`"));
    }
    deploy(args, &client, upload)
}

fn deploy(args: &DeployArgs, client: &Client, upload: Upload) -> Result<ExitCode, Failure> {
    check_size(upload.bytes.len() as u64)?;
    if let Some(manifest) = &upload.plugin {
        output::note(&installed::requests_of(manifest));
    }
    if let Some(app_type) = upload.app_type {
        create_if_missing(client, &upload.app, app_type)?;
    }
    let push = send(client, &upload, args.idempotency_key.as_deref())?;
    if push["created_app"] == true && upload.plugin.is_none() {
        // The host has chosen the type.
        let app = client.get(&format!("/v1/apps/{}", upload.app)).and_then(Answer::success);
        output::note(&created(&upload.app, &app.map_or_else(|_| "new".to_owned(), |app| field(&app, "type"))));
    }
    let id = field(&push, "id");
    let _watched = interrupt::with_message(detached_message(&upload.app, &id));
    output::note(&format!("push {id} is {}", field(&push, "state")));
    if args.detach {
        if args.json {
            output::json(&push);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let push = following_push::follow(client, &upload.app, push)?;
    if field(&push, "state") != "completed" {
        return if args.json {
            output::json(&push);
            Ok(ExitCode::FAILURE)
        } else {
            // If this request fails too, it is unknown whether the app has a release.
            let app = client.get(&format!("/v1/apps/{}", upload.app)).and_then(Answer::success);
            Err(failed(&upload.app, &push, app.is_ok_and(|app| app["release"].is_u64())))
        };
    }
    let app = if args.wait {
        waiting::until(client, &upload.app, Goal::Running, "has its new release")?
    } else {
        client.get(&format!("/v1/apps/{}", upload.app))?.success()?
    };
    if args.json {
        let mut answer = push;
        answer["app"] = json!(upload.app);
        answer["urls"] = app.get("urls").cloned().unwrap_or_default();
        output::json(&answer);
    } else if let Some(manifest) = &upload.plugin {
        let plugin = client.get(&format!("/v1/plugins/{}", upload.app)).and_then(Answer::success);
        output::note(&installed::report(manifest, &push, &plugin.unwrap_or_default()));
    } else {
        let release = output::release(&push, "release");
        if field(&app, "state") == "stopped" {
            output::note(&output::done(&format!("{} has {release} and is stopped", upload.app)));
            output::note(&format!("next: isopod apps start {}", upload.app));
            return Ok(ExitCode::SUCCESS);
        }
        output::note(&output::done(&format!("{} is running {release}", upload.app)));
        match apps::url(&app) {
            url if url.is_empty() => {
                let use_it = apps::without_http(takes_events(client, &upload.app));
                output::note(&format!("the app {use_it}"));
            }
            url => output::emit(&format!("{url}\n")),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prepare(args: &DeployArgs, client: &Client) -> Result<Upload, Failure> {
    let skips_gates = args.skip_gates;
    if args.source.is_dir() {
        // Check first what the host would refuse, since a build takes long.
        let project = Project::open(&args.source)?;
        check_plugin_name(&project.manifest, args.app.app.as_ref())?;
        let name = args.app.app.clone().unwrap_or_else(|| project.manifest.name.clone());
        exists(client, &name)?;
        let accepts_grants = accept_grants::confirm(client, &name, &project.manifest.grants, args.accept_grants)?;
        let built = if args.no_build { build::as_is(&args.source)? } else { build::build(&args.source)? };
        let app = args.app.app.clone().unwrap_or_else(|| built.project.manifest.name.clone());
        let manifest = &built.project.manifest;
        let plugin = (manifest.kind == AppKind::Plugin).then(|| Box::new(manifest.clone()));
        let app_type = plugin.is_none().then_some(manifest.app_type);
        let (media_type, bytes) = ("application/gzip", built.pack()?);
        return Ok(Upload { app, plugin, app_type, media_type, bytes, accepts_grants, skips_gates });
    }
    let (media_type, bytes) = read(&args.source)?;
    let file = &args.source;
    if let Some(manifest) = plugin_inside(file, &bytes)? {
        check_plugin_name(&manifest, args.app.app.as_ref())?;
        let accepts_grants = accept_grants::confirm(client, &manifest.name, &manifest.grants, args.accept_grants)?;
        let (app, plugin) = (manifest.name.clone(), Some(manifest));
        return Ok(Upload { app, plugin, app_type: None, media_type, bytes, accepts_grants, skips_gates });
    }
    let app = args.app.resolve_or(|unnamed| name_inside(file, &bytes)?.ok_or_else(|| suggest_name(unnamed, file)))?;
    let accepts_grants = match grants_inside(&bytes) {
        Some(asked) => accept_grants::confirm(client, &app, &asked, args.accept_grants)?,
        None => args.accept_grants,
    };
    // A component contains no app type: the host creates a missing app as `dev`.
    Ok(Upload { app, plugin: None, app_type: None, media_type, bytes, accepts_grants, skips_gates })
}

/// Refuses a name other than the manifest's, because apps refer to the plugin by that name.
fn check_plugin_name(manifest: &Manifest, given: Option<&AppName>) -> Result<(), Failure> {
    match given {
        Some(given) if manifest.kind == AppKind::Plugin && *given != manifest.name => {
            Err(Failure::usage(format!("the plugin can't be installed as {given}"))
                .why(format!("its isopod.toml names it {}", manifest.name))
                .next("leave out --app, or change the name in isopod.toml"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns the manifest of a bundle that is a plugin.
fn plugin_inside(file: &Path, bytes: &[u8]) -> Result<Option<Box<Manifest>>, Failure> {
    Ok(manifest_inside(file, bytes)?.filter(|manifest| manifest.kind == AppKind::Plugin).map(Box::new))
}

/// Returns whether a process type of the app handles events. True if that is unknown.
fn takes_events(client: &Client, app: &AppName) -> bool {
    let formation = client.get(&format!("/v1/apps/{app}/formation")).and_then(Answer::success);
    let Ok(Value::Object(processes)) = formation else { return true };
    processes.values().any(|process| process["entry"] == "events")
}

/// Reads a component or a bundle, and returns its media type.
fn read(file: &Path) -> Result<(&'static str, Vec<u8>), Failure> {
    let cannot_read = |error| {
        Failure::new(format!("cannot read {}", file.display()))
            .why(error)
            .next("name a project's folder, a component (.wasm) or a bundle (.tar.gz)")
    };
    let found = std::fs::metadata(file).map_err(cannot_read)?;
    if !found.is_file() {
        // Reading a device may never end, and reading a pipe may block forever.
        return Err(cannot_read(std::io::Error::other("not a regular file")));
    }
    check_size(found.len())?;
    let bytes = std::fs::read(file).map_err(cannot_read)?;
    if bytes.is_empty() {
        return Err(Failure::new(format!("{} is empty", file.display())).next("build it again"));
    }
    match Form::sniff(&bytes) {
        Some(Form::Component) => Ok((BundleKind::Component.content_type(), bytes)),
        Some(Form::Gzip) => Ok((BundleKind::TarGz.content_type(), bytes)),
        form => Err(wrong_form(file, form)),
    }
}

/// Returns the error for a file that no host accepts. Names the format if it is known.
fn wrong_form(file: &Path, form: Option<Form>) -> Failure {
    let failure = Failure::new(format!("{} is neither a component nor a bundle", file.display()));
    match form {
        Some(form) => failure.why(format!("it is {form}")).next(form.advice()),
        None => failure
            .why("its content is neither WebAssembly nor gzip")
            .next("name a .wasm or .tar.gz file, or a project's folder"),
    }
}

/// Returns the app that a bundle's manifest names. Fails if the bundle is invalid: without a name,
/// it can't be sent to the host, which would report the fault.
fn name_inside(file: &Path, bytes: &[u8]) -> Result<Option<AppName>, Failure> {
    Ok(manifest_inside(file, bytes)?.map(|manifest| manifest.name))
}

fn manifest_inside(file: &Path, bytes: &[u8]) -> Result<Option<Manifest>, Failure> {
    if BundleKind::sniff(bytes) != Some(BundleKind::TarGz) {
        return Ok(None);
    }
    let bundle = bundle::read(BundleKind::TarGz, bytes)
        .map_err(|error| Failure::new(format!("invalid bundle {}", file.display())).why(error))?;
    Ok(bundle.manifest)
}

/// Returns the grants that a bundle's manifest asks for. Returns `None` for a component, which
/// keeps the grants of its app, and for an invalid bundle, which the host reports.
fn grants_inside(bytes: &[u8]) -> Option<Grants> {
    if BundleKind::sniff(bytes) != Some(BundleKind::TarGz) {
        return None;
    }
    bundle::read(BundleKind::TarGz, bytes).ok()?.manifest.map(|manifest| manifest.grants)
}

/// Refuses a bundle that is larger than the host's limit, before it is sent.
fn check_size(bytes: u64) -> Result<(), Failure> {
    if bytes <= BUNDLE_BYTES_MAX as u64 {
        return Ok(());
    }
    Err(Failure::new("the bundle is too large")
        .why(format!(
            "it has {}, and a host accepts up to {}",
            output::size(bytes),
            output::size(BUNDLE_BYTES_MAX as u64)
        ))
        .next("build it optimised and without debug information; `isopod build` shows its contents"))
}

fn suggest_name(failure: Failure, file: &Path) -> Failure {
    let stem = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default().to_ascii_lowercase().replace('_', "-");
    match stem.parse::<AppName>() {
        Ok(name) => failure.next(format!("name the app: isopod deploy {} --app {name}", file.display())),
        Err(_) => failure,
    }
}

/// Returns whether the app exists on the host. Fails if the host can't be reached or refuses the
/// token.
fn exists(client: &Client, app: &AppName) -> Result<bool, Failure> {
    let answer = client.get(&format!("/v1/apps/{app}"))?;
    if answer.status() == 404 {
        return Ok(false);
    }
    answer.success().map(|_| true)
}

fn create_if_missing(client: &Client, app: &AppName, app_type: AppType) -> Result<(), Failure> {
    if exists(client, app)? {
        return Ok(());
    }
    let body = json!({"name": app, "type": app_type});
    let answer = client.send(Method::POST, "/v1/apps", Some(&body))?;
    // 409: another client has created it meanwhile.
    if answer.status() != 409 {
        answer.success()?;
        output::note(&created(app, app_type.as_str()));
    }
    Ok(())
}

/// Reports a new app with its type, which is easily overlooked, and how to change it.
fn created(app: &AppName, app_type: &str) -> String {
    let how = "while it is stopped, `isopod apps type` changes the type";
    output::done(&format!("created {app} with type {app_type}; {how}"))
}

/// Accepts only characters that are valid in a header.
fn idempotency_key(text: &str) -> Result<String, String> {
    let fits = (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len());
    let fits = fits && text.bytes().all(|byte| byte.is_ascii_graphic());
    let say = || format!("use 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters without spaces");
    if fits { Ok(text.to_owned()) } else { Err(say()) }
}

fn send(client: &Client, upload: &Upload, idempotency_key: Option<&str>) -> Result<Value, Failure> {
    let length = upload.bytes.len() as u64;
    let step = Step::upload(&format!("uploading {}", upload.app), length);
    let accepts = upload.accepts_grants.then_some("accept_grants=true");
    let skips = upload.skips_gates.then_some("skip_gates=true");
    let query: String =
        accepts.into_iter().chain(skips).zip("?&".chars()).map(|(pair, mark)| format!("{mark}{pair}")).collect();
    let path = match upload.plugin {
        Some(_) => format!("/v1/plugins{query}"),
        None => format!("/v1/apps/{}/pushes{query}", upload.app),
    };
    let mut body = step.reader(upload.bytes.as_slice());
    let answer = client.upload(&path, upload.media_type, idempotency_key, length, &mut body);
    step.finish();
    answer?.success()
}

/// Returns the message shown on Ctrl-C: the push job continues on the host.
fn detached_message(app: &AppName, id: &str) -> String {
    format!(
        "the push job {id} continues on the host; follow it with `isopod pushes info {id} --app {app}`, or \
         cancel it while it is queued with `isopod pushes cancel {id} --app {app}`"
    )
}

fn failed(app: &AppName, push: &Value, has_release: bool) -> Failure {
    let reason = match push.get("reason") {
        Some(reason @ Value::Object(_)) => output::first_field(reason, &["detail", "message", "code"]),
        _ => field(push, "reason"),
    };
    let failure = Failure::new(format!("push {} of {app} {}", field(push, "id"), field(push, "state")));
    let failure = if reason.is_empty() { failure } else { failure.why(reason) };
    let code = field(push, "reason_code");
    failure.next(match has_release {
        _ if ["gate-refused", "gate-failed"].contains(&code.as_str()) => {
            "deploy again once the gate allows it; an administrator can deploy with --skip-gates".to_owned()
        }
        _ if code == "plugin-config" => {
            "set the `config` of the plugin in isopod.toml, as its documentation describes, and deploy again".to_owned()
        }
        true => format!("fix the cause and deploy again; {app} keeps its current release"),
        false => "fix the cause and deploy again".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;

    #[test]
    fn a_file_in_another_format_is_refused_with_the_way_to_convert_it() {
        let folder = tempfile::tempdir().unwrap();
        let reads = |bytes: &[u8]| {
            let file = folder.path().join("app.bin");
            std::fs::write(&file, bytes).unwrap();
            read(&file).map(|(media_type, _)| media_type).map_err(|failure| failure.text())
        };
        assert_eq!(reads(b"\0asm\x0d\0\x01\0").unwrap(), "application/wasm");
        assert_eq!(reads(&[0x1f, 0x8b, 8]).unwrap(), "application/gzip");
        assert!(reads(b"PK\x03\x04").unwrap_err().contains("a zip archive"));
        assert!(reads(b"\0asm\x01\0\0\0").unwrap_err().contains("wasm-tools component new"));
        assert!(reads(b"<!doctype html>").unwrap_err().contains("an HTML page"));
        assert!(reads(b"#!/bin/sh").unwrap_err().contains("plain text"));
        assert!(reads(b"\x01\x02").unwrap_err().contains("neither WebAssembly nor gzip"));
        assert!(reads(b"").unwrap_err().contains("is empty"));
    }

    #[test]
    fn a_bundle_over_the_hosts_limit_is_not_sent() {
        assert!(check_size(BUNDLE_BYTES_MAX as u64).is_ok());
        assert!(check_size(BUNDLE_BYTES_MAX as u64 + 1).unwrap_err().text().contains("64.0 MiB"));
    }

    #[test]
    fn a_file_suggests_the_name_of_its_app() {
        let failure = suggest_name(Failure::usage("which app?"), Path::new("target/my_app.wasm"));
        assert!(format!("{failure:?}").contains("--app my-app"));
    }

    #[test]
    fn a_bundle_yields_the_name_of_its_app_or_an_error() {
        let inside = |bytes: &[u8]| name_inside(Path::new("shop.tar.gz"), bytes);
        let packed = bundle::pack("name = \"shop\"", b"\0asm");
        assert_eq!(inside(&packed).unwrap().as_ref().map(AppName::as_str), Some("shop"));
        assert_eq!([inside(b"\0asm"), inside(b"")], [Ok(None), Ok(None)]);
        for (invalid, fault) in
            [(&packed[..packed.len() / 2], "damaged"), (&bundle::pack("nam = \"shop\"", b"\0asm"), "nam")]
        {
            let text = inside(invalid).unwrap_err().one_line();
            assert!(text.starts_with("invalid bundle shop.tar.gz: ") && text.contains(fault), "{text}");
        }
    }

    #[test]
    fn an_idempotency_key_goes_with_the_upload() {
        let host = FakeHost::responding([(202, json!({"id": "p-1", "state": "queued"})), (202, json!({}))]);
        let app = host.app("shop");
        let (media_type, bytes) = ("application/wasm", b"\0asm".to_vec());
        let upload = Upload {
            app: app.name,
            plugin: None,
            app_type: None,
            media_type,
            bytes,
            accepts_grants: false,
            skips_gates: true,
        };
        assert_eq!(field(&send(&app.client, &upload, Some("abc")).unwrap(), "id"), "p-1");
        send(&app.client, &upload, None).unwrap();
        let requests = host.requests();
        let keys: Vec<bool> = requests
            .iter()
            .map(|request| request.headers.contains(&("idempotency-key".into(), "abc".into())))
            .collect();
        assert_eq!(keys, [true, false]);
        assert_eq!(requests[0].line, "POST /v1/apps/shop/pushes?skip_gates=true");
    }

    #[test]
    fn an_idempotency_key_fits_into_a_header() {
        assert!(idempotency_key("4f2a-1").is_ok());
        assert!(["", "a b", "a\nb", "é", &"a".repeat(129)].into_iter().all(|text| idempotency_key(text).is_err()));
    }

    #[test]
    fn a_failed_push_shows_its_reason() {
        let push = json!({"id": "p-1", "state": "failed", "reason": "unknown import x"});
        let text = |has_release| failed(&"hello".parse().unwrap(), &push, has_release);
        assert_eq!(text(true).one_line(), "push p-1 of hello failed: unknown import x");
        assert!(text(true).text().contains("keeps its current release"));
        assert!(!text(false).text().contains("keeps"), "without a release there is nothing to keep");
        let refused = json!({"id": "p-1", "state": "failed", "reason": "`x` refused", "reason_code": "gate-refused"});
        assert!(failed(&"hello".parse().unwrap(), &refused, true).text().contains("--skip-gates"));
    }
}

//! `isopod releases`: the immutable releases of one app, newest first.

use clap::Args;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::output;
use super::project::AppArgs;

#[derive(Args, Debug)]
pub(crate) struct ReleasesArgs {
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ReleasesArgs) -> Result<(), Failure> {
    let app = args.app.resolve()?;
    let answer = Client::near_project(&args.host)?.get(&format!("/v1/apps/{app}/releases"))?.success()?;
    if args.json {
        output::json(&answer);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = output::items(&answer)
        .iter()
        .map(|release| {
            let number = ["release", "number", "version"].iter().map(|key| output::release(release, key));
            let bytes = release.get("size_bytes").and_then(serde_json::Value::as_u64);
            vec![
                number.into_iter().find(|text| !text.is_empty()).unwrap_or_default(),
                output::field(release, "state"),
                output::time(&output::field(release, "created_at")),
                bytes.map(output::size).unwrap_or_default(),
                output::first_field(release, &["bundle", "digest"]).chars().take(19).collect(),
                output::field(release, "created_by"),
            ]
        })
        .collect();
    if rows.is_empty() {
        output::note("no releases yet; `isopod deploy` makes the first");
    }
    output::emit(&output::table(&["RELEASE", "STATE", "CREATED", "SIZE", "BUNDLE", "BY"], &rows));
    Ok(())
}

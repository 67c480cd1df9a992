//! Implements `isopod new`: creates a project that builds and passes its tests. Never changes
//! existing files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use isopod_policy::AppName;

use super::failure::Failure;
use super::output;
use super::templates::{self, File, Template};

#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// The name of the app or plugin, and of its folder: lower-case letters, digits and hyphens
    name: AppName,
    /// The kind of project to create
    #[arg(long, value_enum, default_value_t = Template::Http)]
    template: Template,
    /// The folder to create [default: the name]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

pub(crate) fn run(args: &NewArgs) -> Result<(), Failure> {
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(args.name.to_string()));
    if folder.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{} already exists", folder.display()))
            .why("`isopod new` never overwrites files")
            .next("choose another name, or another folder with --path"));
    }
    write(&folder, &templates::files(args.template, &args.name)).map_err(|error| {
        Failure::new(format!("cannot write the project to {}", folder.display()))
            .why(error)
            .next("choose a writable folder with --path")
    })?;
    start_repository(&folder);
    if let Some(workspace) = broken_workspace(&folder) {
        let name = folder.file_name().unwrap_or_default().display();
        output::note(&format!(
            "note: the Cargo workspace at {} includes this project, which is itself a workspace; add \
             exclude = [\"{name}\"] to its [workspace]",
            workspace.display()
        ));
    }
    output::emit(&format!("{}\n", output::done(&format!("created {}", folder.display()))));
    let next = if args.template.is_plugin() { "isopod plugins install" } else { "isopod dev" };
    output::emit(&format!("\nNext:\n  cd {}\n  {next}\n", quoted(&folder)));
    Ok(())
}

fn write(folder: &Path, files: &[File]) -> std::io::Result<()> {
    for file in files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, &file.content)?;
    }
    Ok(())
}

/// Creates a git repository unless the folder is inside one. Without git, the project works too.
fn start_repository(folder: &Path) {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !git(&["rev-parse", "--is-inside-work-tree"]) {
        git(&["init", "--quiet"]);
    }
}

/// Returns the surrounding workspace if cargo can't read it because of this project. Returns `None`
/// without cargo.
fn broken_workspace(folder: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(folder).ok()?;
    let is_workspace = |manifest: &PathBuf| {
        let text = std::fs::read_to_string(manifest).unwrap_or_default();
        text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("workspace"))
    };
    let around = folder.ancestors().skip(1).map(|folder| folder.join("Cargo.toml")).find(is_workspace)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"]).arg(&around);
    let read = cargo.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output().ok()?;
    let names_it = String::from_utf8_lossy(&read.stderr).contains(&*folder.to_string_lossy());
    (!read.status.success() && names_it).then_some(around)
}

/// Quotes a path so that a shell reads it as one word.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(folder: &Path) -> NewArgs {
        NewArgs { name: "greeter".parse().unwrap(), template: Template::Http, path: Some(folder.to_owned()) }
    }

    #[test]
    fn a_project_is_created_once_and_never_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("greeter");
        run(&args(&folder)).unwrap();
        assert!(folder.join("src/lib.rs").is_file() && folder.join("vendor/isopod-sdk/src/lib.rs").is_file());
        assert!(run(&args(&folder)).is_err());
    }

    #[test]
    fn the_next_command_can_be_pasted() {
        assert_eq!(quoted(Path::new("a/b-c")), "a/b-c");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }
}

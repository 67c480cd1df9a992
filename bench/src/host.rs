//! Owns one running `isopod up` and its data folder: starts it, deploys apps, stops it. Never
//! measures, and never touches another host's data.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::api::Api;
use super::folder;
use super::server::{Server, free_address};
use xtask::step;

/// The manifest of a plugin without further settings.
pub(super) const PLUGIN: &str = "kind = \"plugin\"\n[plugin]\nversion = \"1.0.0\"\n";

pub(super) struct Host {
    server: Server,
    program: PathBuf,
    folder: PathBuf,
    listen: SocketAddr,
    api: Api,
}

impl Host {
    /// Starts the host with its data in `folder` and these settings (TOML), and waits until it
    /// serves. From a used folder the host restores its apps.
    pub(super) fn start(program: &Path, folder: &Path, settings: &str) -> Result<Host> {
        Host::start_as(Command::new(program), program, folder, settings)
    }

    /// Starts the host through another program: `command` gets the host's arguments.
    pub(super) fn start_as(mut command: Command, program: &Path, folder: &Path, settings: &str) -> Result<Host> {
        let (listen, admin) = (free_address()?, free_address()?);
        let (config, data) = (folder.join("config.toml"), folder.join("data"));
        fs::write(&config, settings).with_context(|| format!("cannot write {}", config.display()))?;
        command.args(["up", "--listen", &listen.to_string(), "--admin", &admin.to_string()]);
        command.arg("--data").arg(&data).arg("--config").arg(&config);
        let mut server = Server::start(command, &folder.join("server.log"))?;
        server.wait_for_words("isopod ready ")?;
        let token = fs::read_to_string(data.join("admin.token")).context("the host has no admin.token")?;
        let api = Api::new(admin, &token);
        Ok(Host { server, program: program.to_owned(), folder: folder.to_owned(), listen, api })
    }

    pub(super) fn api(&self) -> Api {
        self.api.clone()
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.listen
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until the app responds with `body`.
    pub(super) fn wait_for(&mut self, app: &str, body: &str) -> Result<()> {
        self.server.wait_for(self.listen, &name_of(app), body)
    }

    /// Deploys a component with its own manifest, except for the manifest's name, component and
    /// build.
    pub(super) fn deploy(&self, app: &str, manifest: &str, component: &Path) -> Result<()> {
        let project = self.project(app, manifest, component)?;
        let mut deploy = self.command();
        deploy.args(["deploy", "--no-build", "--wait"]).arg(&project);
        step::run(&mut deploy, "the host's message above says why")
    }

    /// Installs a plugin with this manifest, except for the manifest's name, component and build.
    pub(super) fn install(&self, name: &str, manifest: &str, component: &Path) -> Result<()> {
        let project = self.project(name, manifest, component)?;
        let mut install = self.command();
        install.args(["plugins", "install", "--no-build"]).arg(&project);
        step::run(&mut install, "the host's message above says why")
    }

    /// Writes a project and returns its folder.
    fn project(&self, name: &str, manifest: &str, component: &Path) -> Result<PathBuf> {
        let project = self.folder.join(name);
        folder::make(&project)?;
        fs::copy(component, project.join("app.wasm"))
            .with_context(|| format!("cannot copy {}", component.display()))?;
        fs::write(project.join("isopod.toml"), manifest_of(name, manifest))?;
        Ok(project)
    }

    /// Returns a command of the host's program that uses this host. The caller adds its arguments.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("ISOPOD_HOST", format!("http://{}", self.api.address())).env("ISOPOD_TOKEN", self.api.token());
        command
    }

    pub(super) fn stop(self) -> Result<()> {
        self.server.stop()
    }
}

/// Returns the host name of an app.
pub(super) fn name_of(app: &str) -> String {
    format!("{app}.localhost")
}

fn manifest_of(app: &str, manifest: &str) -> String {
    let is_replaced =
        |line: &&str| ["name", "component", "build"].contains(&line.split('=').next().unwrap_or_default().trim());
    let kept: Vec<&str> = manifest.lines().filter(|line| !is_replaced(line)).collect();
    format!("name = {app:?}\ncomponent = \"app.wasm\"\n{}\n", kept.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_keeps_the_examples_settings() {
        let example =
            "name = \"search\"\nbuild = \"make\"\ncomponent = \"out/search.wasm\"\n\n[snapshot]\nwarm = [\"/\"]";
        let ours = "name = \"thawed\"\ncomponent = \"app.wasm\"\n\n[snapshot]\nwarm = [\"/\"]\n";
        assert_eq!(manifest_of("thawed", example), ours);
    }
}

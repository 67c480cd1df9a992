//! Owns making a release run: compile, join with the app's sandbox, start one instance and check its health. Never
//! stores anything and never touches traffic.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::Request;
use http_body_util::BodyExt;
use isopod_engine::{After, Fault, Folder, Instance, Output, Program, RequestBody, Sandbox, Speed};
use isopod_policy::{Access, AppType, Entry as ProcessEntry, Manifest, Process, ReleaseNumber};

use super::{Deployer, Entry, Failure, verify::Verified};
use crate::{keyvalue::AppKeyValue, limits, observe::logs::AppOutput};

/// How an app's code is compiled: a dev app wants it soon, the others want it fast.
pub(super) fn speed(app_type: AppType) -> Speed {
    match app_type {
        AppType::Dev => Speed::Quick,
        AppType::Staging | AppType::Production => Speed::Optimised,
    }
}

impl Deployer {
    /// Compiles a component, or finds it compiled.
    pub(super) async fn compile(
        &self,
        verified: &Verified,
        app_type: AppType,
    ) -> Result<isopod_engine::Component, Failure> {
        Ok(self.0.parts.engine.load(verified.component.clone(), speed(app_type)).await?)
    }

    /// Joins compiled code with all that its app was granted.
    pub(super) async fn program(
        &self,
        entry: &Entry,
        component: &isopod_engine::Component,
        manifest: &Manifest,
        release: ReleaseNumber,
    ) -> Result<Program, Failure> {
        let folders = self.folders(entry, manifest).await?;
        let variables: Vec<(String, String)> =
            manifest.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut env = variables.clone();
        env.push(("ISOPOD_APP".to_owned(), entry.name.to_string()));
        env.push(("ISOPOD_RELEASE".to_owned(), release.to_string()));
        let keyvalue = manifest.grants.keyvalue.then(|| AppKeyValue::shared(self.0.parts.store.kv(), &entry.name));
        let output: Arc<dyn Output> = Arc::new(AppOutput::new(Arc::clone(&entry.log), release));
        let sandbox = Sandbox {
            app: entry.name.to_string(),
            args: Vec::new(),
            env,
            config: variables,
            grants: manifest.grants.clone(),
            inherit_network: false,
            folders,
            limits: manifest.limits.clone(),
            keyvalue,
            output,
            inherit_stdio: false,
        };
        Ok(self.0.parts.engine.program(component, sandbox)?)
    }

    /// The granted folders, made where they are not there yet.
    async fn folders(&self, entry: &Entry, manifest: &Manifest) -> Result<Vec<Folder>, Failure> {
        let home = self.0.parts.store.app_folder(&entry.name).join("files");
        let folders: Vec<Folder> = manifest
            .grants
            .files
            .iter()
            .map(|(name, access)| Folder {
                host: home.join(name),
                guest: format!("/{name}"),
                writable: matches!(access, Access::ReadWrite),
            })
            .collect();
        let paths: Vec<PathBuf> = folders.iter().map(|folder| folder.host.clone()).collect();
        let made = tokio::task::spawn_blocking(move || paths.iter().try_for_each(|path| make_folder(path))).await;
        match made {
            Ok(Ok(())) => Ok(folders),
            Ok(Err(e)) => Err(Failure::Internal(format!("a granted folder can't be made: {e}"))),
            Err(e) => Err(Failure::Internal(format!("making the granted folders broke off: {e}"))),
        }
    }
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Starts one instance and asks whether it is well: by the component's own check, and by the path that each HTTP
/// process names. The instance comes back, if it is fit to serve.
pub(super) async fn check(program: &Program, processes: &[(String, Process)]) -> Result<Option<Instance>, Failure> {
    let first = processes.first().map_or("web", |(name, _)| name.as_str());
    let mut instance = in_time(program.start()).await.map_err(Failure::Start)?;
    match in_time(instance.health()).await {
        Ok(Ok(())) => {}
        Ok(Err(message)) => return Err(unhealthy(first, message)),
        Err(fault) => return Err(unhealthy(first, fault.to_string())),
    }
    let mut spare = Some(instance);
    for (name, process) in processes {
        let Some(path) = process.health.as_deref().filter(|_| process.entry == ProcessEntry::Http) else { continue };
        let mut outcome = Ok(());
        for _ in 0..limits::HEALTH_ATTEMPTS {
            let instance = match spare.take() {
                Some(instance) => instance,
                None => in_time(program.start()).await.map_err(Failure::Start)?,
            };
            let (asked, left) = ask(instance, path).await;
            spare = left;
            outcome = asked.map_err(|detail| unhealthy(name, detail));
            if outcome.is_ok() {
                break;
            }
        }
        outcome?;
    }
    Ok(spare)
}

fn unhealthy(process: &str, detail: String) -> Failure {
    Failure::Health { process: process.to_owned(), detail }
}

/// One `GET` of the health path. Any 2xx is well.
async fn ask(instance: Instance, path: &str) -> (Result<(), String>, Option<Instance>) {
    let request = Request::builder().uri(path).header("host", "localhost").header("user-agent", "isopod-health");
    let request = match request.body(RequestBody::empty()) {
        Ok(request) => request,
        Err(e) => return (Err(format!("`{path}` is no path for a request: {e}")), Some(instance)),
    };
    let asked = async {
        let answer = instance.http(request, "health").await;
        let (status, body) = match answer.response {
            Ok(response) => (Ok(response.status()), Some(response.into_body())),
            Err(fault) => (Err(fault), None),
        };
        let left = match (answer.after, body) {
            (After::Free(instance), _) => Some(*instance),
            (After::Spent, _) | (After::Working(_), None) => None,
            // The head is what counts: the body is read to its end for the instance's sake, not for what it says.
            (After::Working(rest), Some(body)) => {
                let (_, rest) = tokio::join!(body.collect(), rest);
                rest.ok().flatten().map(|instance| *instance)
            }
        };
        (status, left)
    };
    let limit = limits::HEALTH_TIME;
    match tokio::time::timeout(limit, asked).await.unwrap_or((Err(Fault::Timeout { limit }), None)) {
        (Ok(status), left) if status.is_success() => (Ok(()), left),
        (Ok(status), left) => (Err(format!("GET {path} answered {status}, and a 2xx status is wanted")), left),
        (Err(fault), left) => (Err(format!("GET {path}: {fault}")), left),
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let limit = limits::HEALTH_TIME;
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Fault::Timeout { limit }))
}

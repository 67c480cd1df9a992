//! Implements `isopod serve FILE.wasm`: serves one component on one address until SIGINT or
//! SIGTERM. Never stores data, except compiled code.

use super::{
    local::{Granted, Loaded, Terminal, engine_config, load},
    output,
    signals::Signals,
};
use crate::{
    cli::limits,
    ingress::{self, TrustedProxies},
    observe::access_log::{AccessLine, AccessLog},
    os::{self, Connections},
    platform,
    runtime::{ActiveRelease, App, Directory, GuestRuntimes, HostResources, ProcessPlan},
};
use anyhow::{Context, Result, bail};
use isopod_engine::{Engine, EngineConfig};
use isopod_policy::{AppKind, AppName, AppType, Cores, Entry, Isolation, Process, Scale, connections::ConnectionTimes};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};
use tokio::sync::watch;

const OUTPUT: &str = "\
Output: what the component prints goes to this program's standard output and error, line by line. What it logs through
wasi:logging goes to standard error. The first line there is the address.";

#[derive(Debug, clap::Args)]
#[command(after_help = OUTPUT)]
pub(crate) struct Args {
    /// The component: a .wasm file
    file: PathBuf,
    /// The address to listen on; port 0 picks a free one
    #[arg(long, visible_alias = "listen", default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// Run every request in a separate, new instance
    #[arg(long)]
    isolate_requests: bool,
    /// A reverse proxy whose `x-forwarded-*` and `forwarded` headers are trusted: an address or a
    /// network, such as 10.0.0.0/8
    #[arg(long = "trusted-proxy", value_name = "NETWORK")]
    trusted_proxies: Vec<String>,
    #[command(flatten)]
    granted: Granted,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let code = runtime.block_on(serve(args));
    // Tasks that still block have already had the drain time.
    runtime.shutdown_background();
    code
}

async fn serve(args: Args) -> Result<ExitCode> {
    let directory = {
        // Without a receiver: there are no other releases to preview.
        let (previews, _) = tokio::sync::mpsc::channel(1);
        Arc::new(Directory::new(previews))
    };
    let service = bind(&args, Arc::clone(&directory))?;
    let address = service.local_addr()?;
    let engine = Engine::new(EngineConfig {
        forbidden_addresses: platform::reachable_at(address),
        ..engine_config(&args.granted)?
    })?;
    let Loaded { component, took_silently } = load(&engine, &args.file).await?;
    if component.info().entries.http.is_none() {
        bail!(
            "{} serves no HTTP: run a command with `isopod run`, or deploy an app for events with `isopod deploy`",
            args.file.display()
        );
    }
    let name: AppName = NAME.parse()?;
    let sandbox = args.granted.sandbox(name.as_ref(), Vec::new(), Arc::new(Terminal));
    let program = engine.program(&component, sandbox)?;
    let first = program.start().await.context("can't start the component")?;
    let most = program.sandbox().limits.instances_max;
    let guests = GuestRuntimes::on(tokio::runtime::Handle::current());
    let machine = HostResources::new(platform::start_executor(&guests)?, guests);
    let stopping = machine.clone();
    let resources = machine.app_resources(AppType::Production, Cores { pull: most, push: most });
    let isolation = if args.isolate_requests { Isolation::Request } else { Isolation::Reuse };
    let app = Arc::new(App::new(name.clone(), AppKind::App, Arc::clone(&resources)));
    let web = ProcessPlan {
        name: "web".parse()?,
        process: Process::new(Entry::Http),
        scale: Scale { min: 0, max: most },
        program: program.clone(),
        warm: vec![first],
    };
    app.install(Arc::new(ActiveRelease::new(None, program, isolation, vec![web], resources)));
    directory.put(&[app]);
    // Register before the address is printed, so that a supervisor that reads it can already stop
    // the process.
    let mut signals = Signals::new().context("cannot listen for stop signals")?;
    eprintln!("Serving HTTP on http://{address}/");
    if let Some(took) = took_silently {
        let shown = args.file.display();
        output::note(&format!("{shown} was compiled in {:.1} s", took.as_secs_f64()));
    }
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        signals.next().await;
        stop.send_replace(true);
        tokio::spawn(stopping.refuse_waiting_after(limits::SERVE_DRAIN));
        signals.exit_at_the_next().await;
    });
    let cut_off = service.run(stopped).await?;
    if cut_off > 0 {
        let connections = if cut_off == 1 { "1 connection" } else { &format!("{cut_off} connections") };
        let seconds = limits::SERVE_DRAIN.as_secs();
        output::note(&format!("closed {connections} with a request in progress, after {seconds} s"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Binds the address before compiling: the component must not reach it, and an address in use is
/// reported immediately.
fn bind(args: &Args, directory: Arc<Directory>) -> Result<ingress::Service> {
    let config = ingress::Config {
        domain: "localhost".into(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        drain: limits::SERVE_DRAIN,
        only_app: Some(NAME.to_owned()),
        connections_max: Connections::of(os::raise_open_files(), Connections::usual()).traffic,
        times: ConnectionTimes {
            idle: crate::http::limits::CONNECTION_IDLE,
            head: crate::http::limits::CONNECTION_HEAD,
            write: crate::http::limits::CONNECTION_WRITE,
            age: crate::http::limits::CONNECTION_AGE,
        },
        trusted_proxies: TrustedProxies::read(&args.trusted_proxies)?,
    };
    ingress::Service::bind(args.addr, config, directory, Arc::new(NoAccessLog), None)
        .with_context(|| format!("can't listen on {}; choose another address with --addr", args.addr))
}

/// The component's app name inside this process.
const NAME: &str = "app";

struct NoAccessLog;

impl AccessLog for NoAccessLog {
    fn request(&self, _: AccessLine<'_>) {}
}

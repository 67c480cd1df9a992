//! `isopod serve FILE.wasm`: one component on one address, until SIGINT or SIGTERM. Stores only
//! compiled code.

use super::{
    local::{Granted, Loaded, Terminal, engine_config, load},
    output,
    signals::Signals,
};
use crate::{
    dispatch::{App, Directory, Guests, Machine, Planned, Running},
    ingress::{self, AccessLine, AccessLog},
    limits, platform,
    process::{self, Connections},
};
use anyhow::{Context, Result, bail};
use isopod_engine::Engine;
use isopod_policy::{AppName, AppType, Cores, Entry, Isolation, Process, Scale, connections::ConnectionTimes};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};
use tokio::sync::watch;

const OUTPUT: &str = "\
Output: what the component prints goes to this program's standard output and error, line by line. What it logs through
wasi:logging goes to standard error, where the first line is the address.";

#[derive(Debug, clap::Args)]
#[command(after_help = OUTPUT)]
pub(crate) struct Args {
    /// The component: a .wasm file.
    file: PathBuf,
    /// Where to listen; port 0 picks a free one.
    #[arg(long, visible_alias = "listen", default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// Give every request an instance of its own.
    #[arg(long)]
    isolate_requests: bool,
    #[command(flatten)]
    granted: Granted,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let code = runtime.block_on(serve(args));
    // Blocked tasks had the whole drain time already.
    runtime.shutdown_background();
    code
}

async fn serve(args: Args) -> Result<ExitCode> {
    process::keep_pages_small();
    let engine = Engine::new(engine_config(&args.granted)?)?;
    let Loaded { component, took_silently } = load(&engine, &args.file).await?;
    if component.info().entries.http.is_none() {
        bail!(
            "{} answers no HTTP requests: run a command with `isopod run`, and deploy an app of events with `isopod deploy`",
            args.file.display()
        );
    }
    let name: AppName = "app".parse()?;
    let sandbox = args.granted.sandbox(name.as_ref(), Vec::new(), Arc::new(Terminal));
    let program = engine.program(&component, sandbox)?;
    let first = program.start().await.context("the component cannot be started")?;
    let most = program.sandbox().limits.instances_max;
    let guests = Guests::on(tokio::runtime::Handle::current());
    let machine = Machine::new(platform::start_executor(&guests)?, guests);
    let share = machine.share(AppType::Production, Cores { pull: most, push: most });
    let isolation = if args.isolate_requests { Isolation::Request } else { Isolation::Reuse };
    let app = Arc::new(App::new(name.clone(), Arc::clone(&share)));
    let web = Planned {
        name: "web".parse()?,
        process: Process::new(Entry::Http),
        scale: Scale { min: 0, max: most },
        program: program.clone(),
        warm: vec![first],
    };
    app.install(Arc::new(Running::new(None, program, isolation, vec![web], share)));
    // Nobody listens: there are no other releases to visit.
    let (visits, _) = tokio::sync::mpsc::channel(1);
    let directory = Arc::new(Directory::new(visits));
    directory.put(&[app]);

    let config = ingress::Config {
        domain: "localhost".into(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        drain: limits::SERVE_DRAIN,
        only_app: Some(name.to_string()),
        connections_max: Connections::of(process::raise_open_files(), Connections::usual()).traffic,
        times: ConnectionTimes {
            idle: limits::CONNECTION_IDLE,
            head: limits::CONNECTION_HEAD,
            age: limits::CONNECTION_AGE,
        },
        trusted_proxies: ingress::TrustedProxies::default(),
    };
    let service = ingress::Service::bind(args.addr, config, directory, Arc::new(NoAccessLog))
        .with_context(|| format!("{} cannot be listened on; choose another address with --addr", args.addr))?;
    // Before the address is printed, so that a supervisor that reads it can already stop the process.
    let mut signals = Signals::new().context("cannot listen for stop signals")?;
    eprintln!("Serving HTTP on http://{}/", service.local_addr()?);
    if let Some(took) = took_silently {
        let shown = args.file.display();
        output::note(&format!("{shown} was compiled in {:.1} s", took.as_secs_f64()));
    }
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        signals.next().await;
        stop.send_replace(true);
        signals.exit_at_the_next().await;
    });
    service.run(stopped).await?;
    Ok(ExitCode::SUCCESS)
}

struct NoAccessLog;

impl AccessLog for NoAccessLog {
    fn request(&self, _: AccessLine<'_>) {}
}

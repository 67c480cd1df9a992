//! Implements `isopod doctor`: checks this machine and shows how to fix each problem. Never
//! changes anything.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::failure::Failure;
use super::finding::{Finding, Level};
use super::{lost, new, output};
use crate::config;

/// Below this, the disk is soon too small for bundles and compiled code.
const DISK_FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// The number of memory maps for ten thousand live instances, with four each, and a reserve.
const MAP_COUNT_MIN: u64 = 65_530;

/// Files in the data folder that only its owner may read. The first allows every request to the
/// API; the second decrypts the values stored by `isopod config set --secret`.
const KEYS: [(&str, &str); 2] = [("token", "admin.token"), ("key of secrets", "secrets.key")];

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// The data folder to check [default: ~/.local/share/isopod]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let mut findings = toolchain();
    match args.data.clone().or_else(config::default_data_dir) {
        Some(data_dir) => {
            findings.extend([data_folder(&data_dir, args.data.is_some()), disk(&data_dir)]);
            findings.extend(contents(&data_dir));
            findings.extend(KEYS.iter().filter_map(|(name, file)| key(name, &data_dir.join(file))));
            findings.extend(lost::findings(&data_dir));
        }
        None => findings.push(no_data_folder()),
    }
    findings.extend([("port of apps", 8080), ("port of the API", 8081)].map(|(name, port)| port_state(name, port)));
    findings.extend(kernel());
    if args.json {
        output::json(&json!({"items": findings.iter().map(as_json).collect::<Vec<_>>()}));
    } else {
        output::emit(&report(&findings));
    }
    let broken = findings.iter().any(|finding| finding.level == Level::Broken);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn toolchain() -> Vec<Finding> {
    let finding = |check: isopod_toolchain::Check| {
        let level = match (check.ok, check.required) {
            (true, _) => Level::Fine,
            (false, false) => Level::Warning,
            (false, true) => Level::Broken,
        };
        Finding { name: check.name, level, detail: check.detail, fix: Some(check.fix).filter(|fix| !fix.is_empty()) }
    };
    isopod_toolchain::checks().into_iter().map(finding).collect()
}

fn no_data_folder() -> Finding {
    let detail = "no default data folder: neither HOME nor XDG_DATA_HOME is set";
    Finding::new("data folder", Level::Warning, detail, Some("run `isopod up --data DIR` with a folder of your choice"))
}

fn data_folder(data_dir: &Path, was_named: bool) -> Finding {
    let name = "data folder";
    let named = data_dir.display();
    if data_dir.exists() && !data_dir.is_dir() {
        let fix = "name the folder that is passed to `isopod up --data`";
        return Finding::new(name, Level::Broken, format!("{named} is a file, not a folder"), Some(fix));
    }
    if was_named && !data_dir.exists() {
        let fix = format!("check the path; `isopod up --data {}` creates a new, empty folder", new::quoted(data_dir));
        return Finding::new(name, Level::Warning, format!("{named} doesn't exist"), Some(&fix));
    }
    let existing = data_dir.ancestors().find(|path| path.exists()).unwrap_or(data_dir);
    // Checks the permission without writing, so that the check leaves no trace.
    if is_writable(existing) {
        let state = if existing == data_dir { "is writable" } else { "will be created on the first start" };
        return Finding::new(name, Level::Fine, format!("{} {state}", data_dir.display()), None);
    }
    let fix = format!("sudo chown \"$USER\" {}", existing.display());
    Finding::new(name, Level::Broken, format!("{} is not writable", existing.display()), Some(&fix))
}

/// Returns the reason why a host refuses the folder, and the data that is missing in it.
fn contents(data_dir: &Path) -> Vec<Finding> {
    const NAME: &str = "data";
    if !data_dir.is_dir() {
        return Vec::new();
    }
    let found = isopod_store::examine(data_dir);
    let mut findings = Vec::new();
    if let Some(refusal) = &found.refusal {
        let (detail, fix) = refusal.finding();
        findings.push(Finding { name: NAME.into(), level: Level::Broken, detail, fix });
    }
    let mut missing: Vec<String> = found.missing.iter().map(crate::control::data_folder::missing_folder).collect();
    missing.extend(found.lost.iter().map(crate::control::data_folder::missing_part));
    let fix = "restore it from a backup with the host stopped; otherwise the app starts without this data";
    findings.extend(missing.into_iter().map(|detail| Finding::new(NAME, Level::Broken, detail, Some(fix))));
    let unreadable = found.unreadable.iter();
    findings.extend(unreadable.map(|(app, error)| {
        let (detail, fix) = crate::control::data_folder::unreadable_database(app, error);
        Finding { name: NAME.into(), level: Level::Broken, detail, fix }
    }));
    if let Some((detail, fix)) = crate::control::data_folder::missing_bundles(found.missing_bundles) {
        findings.push(Finding::new("blobs", Level::Broken, detail, Some(fix)));
    }
    findings
}

/// Checks that only its owner can read a key. Returns `None` if the file doesn't exist.
fn key(name: &str, file: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().ok()?.permissions().mode();
    if mode & 0o077 == 0 {
        return Some(Finding::new(name, Level::Fine, format!("only its owner can read {}", file.display()), None));
    }
    let detail = format!("other users can access {}: mode {:04o}", file.display(), mode & 0o7777);
    Some(Finding::new(name, Level::Warning, detail, Some(&format!("chmod 600 {}", file.display()))))
}

fn is_writable(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `path` is a null-terminated string that lives for the whole call, which keeps no
    // pointer to it.
    unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
}

fn disk(data_dir: &Path) -> Finding {
    let name = "disk";
    let existing = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let Some(free) = isopod_store::free_bytes(existing) else {
        return Finding::new(name, Level::Warning, "can't read the free space", None);
    };
    let detail = format!("{} free", output::size(free));
    if free >= DISK_FREE_BYTES_MIN {
        return Finding::new(name, Level::Fine, detail, None);
    }
    let fix = "free disk space, or run `isopod up --data` with a folder on a larger disk";
    Finding::new(name, Level::Warning, detail, Some(fix))
}

fn port_state(name: &str, port: u16) -> Finding {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    if TcpListener::bind(address).is_ok() {
        return Finding::new(name, Level::Fine, format!("{port} is free"), None);
    }
    if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() && is_isopod(port) {
        return Finding::new(name, Level::Fine, format!("{port} is used by a running host"), None);
    }
    let fix = format!(
        "find the program with ss -ltnp 'sport = :{port}', or run `isopod up` with other addresses: --listen \
         and --admin"
    );
    Finding::new(name, Level::Warning, format!("{port} is used by another program"), Some(&fix))
}

/// Returns whether a host listens at the port: each of its responses has a request id, on both
/// ports.
fn is_isopod(port: u16) -> bool {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(2)))
        .build()
        .into();
    let answer = agent.get(format!("http://127.0.0.1:{port}/livez")).call();
    answer.is_ok_and(|answer| answer.headers().contains_key("x-request-id") || answer.status().is_success())
}

fn kernel() -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok(swaps) = std::fs::read_to_string("/proc/swaps") {
        findings.push(swap(&swaps));
    }
    if let Ok(maps) = std::fs::read_to_string("/proc/sys/vm/max_map_count") {
        findings.push(map_count(maps.trim().parse().unwrap_or(0)));
    }
    findings
}

/// The fastest way to reset an instance's memory asks the kernel for the touched pages, and swap
/// hides some.
fn swap(swaps: &str) -> Finding {
    if swaps.lines().skip(1).any(|line| !line.trim().is_empty()) {
        let detail = "on: resetting an instance's memory is slower, since the kernel doesn't report swapped pages";
        return Finding::new("swap", Level::Warning, detail, Some("sudo swapoff -a"));
    }
    Finding::new("swap", Level::Fine, "off", None)
}

fn map_count(count: u64) -> Finding {
    let detail = format!("vm.max_map_count is {count}");
    if count >= MAP_COUNT_MIN {
        return Finding::new("memory maps", Level::Fine, detail, None);
    }
    let fix = "sudo sysctl -w vm.max_map_count=262144";
    Finding::new("memory maps", Level::Warning, format!("{detail}: too low for many live instances"), Some(fix))
}

fn as_json(finding: &Finding) -> Value {
    let level = match finding.level {
        Level::Fine => "ok",
        Level::Warning => "warning",
        Level::Broken => "failed",
    };
    json!({
        "name": finding.name,
        "state": level,
        "ok": finding.level == Level::Fine,
        "detail": finding.detail,
        "fix": finding.fix,
    })
}

fn report(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let line = format!("{:<width$}  {}", finding.name, finding.detail);
        text.push_str(&match finding.level {
            Level::Fine => output::done(&line),
            Level::Warning => format!("! {line}"),
            Level::Broken => output::failed(&line),
        });
        text.push('\n');
        if let Some(fix) = finding.fix.as_ref().filter(|_| finding.level != Level::Fine) {
            text.push_str(&format!("  {:width$}  fix: {fix}\n", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_shown_with_its_fix() {
        let findings = [swap("Filename Type\n/swapfile file\n"), map_count(1_000_000)];
        let text = crate::cli::terminal::plain(&report(&findings));
        assert!(text.contains("fix: sudo swapoff -a") && !text.contains("sysctl"), "{text}");
    }

    #[test]
    fn a_missing_default_folder_is_fine_below_a_writable_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(data_folder(&folder.path().join("a/b"), false).level, Level::Fine);
        assert_eq!(data_folder(&folder.path().join("a/b"), true).level, Level::Warning);
    }

    #[test]
    fn a_key_that_others_can_read_is_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets.key");
        assert_eq!(key("key", &file), None);
        std::fs::write(&file, [0; 32]).unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            key("key", &file).unwrap()
        };
        assert_eq!(with_mode(0o600).level, Level::Fine);
        let open = with_mode(0o640);
        assert_eq!(open.level, Level::Warning);
        assert!(open.detail.ends_with("mode 0640") && open.fix.unwrap().starts_with("chmod 600 "));
    }

    #[test]
    fn a_port_in_use_by_another_program_is_a_warning() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answering = std::thread::spawn(move || {
            use std::io::Write as _;
            for _ in 0..2 {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let _ = stream.write_all(b"not http\r\n\r\n");
            }
        });
        assert_eq!(port_state("port", port).level, Level::Warning);
        answering.join().unwrap();
    }
}

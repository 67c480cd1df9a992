//! Watches the certificate files that the operator names, and states when the first certificate
//! expires. A file is read on a thread that may block: when it has changed, and each hour. Never
//! decides whether an alert fires.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use isopod_policy::{limits::TEXT_NAME_BYTES_SHOWN, text::line_excerpt};
use jiff::Timestamp;
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    certificates::{self, Expiry},
    control::limits,
};

/// The watched files.
#[derive(Default)]
pub(super) struct CertificateFiles {
    files: Vec<CertificateFile>,
    /// The time before an expiry, in seconds, that is a problem.
    threshold: f64,
    /// The running check of the files, which may hang.
    probe: Option<Probe>,
}

struct Probe {
    started: Duration,
    task: JoinHandle<Vec<CertificateFile>>,
}

/// A watched file, and what was read of it.
#[derive(Debug, Clone)]
struct CertificateFile {
    path: PathBuf,
    reading: Option<Reading>,
}

#[derive(Debug, Clone)]
struct Reading {
    version: Option<Version>,
    at: Instant,
    /// The first expiry, or why it is unknown.
    first: Result<Expiry, String>,
}

/// Changes when a file is replaced, written, or gets other permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl CertificateFiles {
    pub(super) fn new(paths: Vec<PathBuf>, threshold: f64) -> Self {
        let files = paths.into_iter().map(|path| CertificateFile { path, reading: None }).collect();
        Self { files, threshold, probe: None }
    }

    /// Returns the seconds until the first expiry, with a text; 0 for a file that can't be read.
    /// `None` without files, and until they have been read.
    pub(super) async fn measure(&mut self, now: Duration, at: Timestamp) -> Option<(f64, String)> {
        let files = &self.files;
        if files.is_empty() {
            return None;
        }
        let probe = self.probe.get_or_insert_with(|| {
            let files = files.clone();
            let task = tokio::task::spawn_blocking(move || files.into_iter().map(CertificateFile::refreshed).collect());
            Probe { started: now, task }
        });
        match timeout(limits::ALERT_CERTIFICATE_PROBE_TIME, &mut probe.task).await {
            Ok(ended) => {
                self.probe = None;
                match ended {
                    Ok(files) => self.files = files,
                    Err(error) => return Some((0.0, format!("checking the certificate files failed: {error}"))),
                }
            }
            Err(_) if now.saturating_sub(probe.started) >= limits::ALERT_CERTIFICATE_READ_TIME => {
                let text = "reading the certificate files takes longer than a minute, so their expiry is unknown";
                return Some((0.0, text.to_owned()));
            }
            Err(_) => {}
        }
        summary(&self.files, self.threshold, at)
    }
}

impl CertificateFile {
    /// Reads the file again, if it has changed or was read long ago.
    fn refreshed(mut self) -> Self {
        let version = Version::of(&self.path);
        let is_current = |reading: &Reading| {
            reading.version == version && reading.at.elapsed() < limits::ALERT_CERTIFICATE_READ_INTERVAL
        };
        if !self.reading.as_ref().is_some_and(is_current) {
            let first = certificates::first_expiry(&self.path).map_err(|error| error.to_string());
            self.reading = Some(Reading { version, at: Instant::now(), first });
        }
        self
    }

    /// Returns the seconds until the first expiry, and a text; `None` if the file was not read.
    fn state(&self, at: Timestamp) -> Option<(f64, String)> {
        let shown = |text: &str| line_excerpt(text, TEXT_NAME_BYTES_SHOWN);
        let path = shown(&self.path.to_string_lossy());
        Some(match &self.reading.as_ref()?.first {
            Ok(Expiry { name, at: expires }) => {
                let name = name.as_ref().map_or_else(String::new, |name| format!(" ({})", shown(name)));
                let left = expires.as_second().saturating_sub(at.as_second());
                (left.max(0) as f64, format!("the certificate of {path}{name} {}", expiry(*expires, at)))
            }
            Err(why) => (0.0, format!("the certificates of {path} can't be checked: {why}")),
        })
    }
}

impl Version {
    /// Returns the version of a file; `None` if it can't be determined.
    fn of(path: &Path) -> Option<Self> {
        let of = fs::metadata(path).ok()?;
        Some(Self { device: of.dev(), inode: of.ino(), bytes: of.size(), changed: (of.ctime(), of.ctime_nsec()) })
    }
}

/// Returns the seconds until the first expiry, and a text that describes each file with a problem,
/// or the file that expires first.
fn summary(files: &[CertificateFile], threshold: f64, at: Timestamp) -> Option<(f64, String)> {
    let mut states: Vec<(f64, String)> = files.iter().filter_map(|file| file.state(at)).collect();
    states.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let first = states.first()?.0;
    let described = states.iter().filter(|(left, _)| *left <= threshold).count().max(1);
    let shown = states.iter().take(described.min(limits::ALERT_CERTIFICATES_SHOWN));
    let mut text = shown.map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
    if let Some(others @ 1..) = described.checked_sub(limits::ALERT_CERTIFICATES_SHOWN) {
        text.push_str(&format!("; and {others} more"));
    }
    Some((first, text))
}

/// Describes when a certificate expires, as `expires in 9 days, 2026-12-09`. The date is in UTC.
fn expiry(expires: Timestamp, at: Timestamp) -> String {
    let (left, date) = (expires.as_second().saturating_sub(at.as_second()), expires.strftime("%Y-%m-%d"));
    match left {
        1.. => format!("expires in {}, {date}", span(left)),
        _ => format!("expired {} ago, {date}", span(left.saturating_neg())),
    }
}

fn span(seconds: i64) -> String {
    let (number, unit) = match seconds {
        86_400.. => (seconds / 86_400, "day"),
        3_600.. => (seconds / 3_600, "hour"),
        _ => (seconds / 60, "minute"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: f64 = 86_400.0;

    fn time(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    /// Returns a file that was read: its first expiry, or why it is unknown.
    fn file(path: &str, first: Result<&str, &str>) -> CertificateFile {
        let first = first.map(|at| Expiry { name: Some("shop.example".to_owned()), at: time(at) });
        let reading = Reading { version: None, at: Instant::now(), first: first.map_err(str::to_owned) };
        CertificateFile { path: path.into(), reading: Some(reading) }
    }

    #[test]
    fn an_expiry_is_shown_with_its_date() {
        let expires = time("2026-12-09T12:00:00Z");
        for (at, text) in [
            ("2026-11-30T11:00:00Z", "expires in 9 days, 2026-12-09"),
            ("2026-12-08T12:00:00Z", "expires in 1 day, 2026-12-09"),
            ("2026-12-08T12:00:01Z", "expires in 23 hours, 2026-12-09"),
            ("2026-12-09T11:58:30Z", "expires in 1 minute, 2026-12-09"),
            ("2026-12-09T12:00:00Z", "expired 0 minutes ago, 2026-12-09"),
            ("2026-12-12T12:00:00Z", "expired 3 days ago, 2026-12-09"),
        ] {
            assert_eq!(expiry(expires, time(at)), text);
        }
    }

    #[test]
    fn the_first_expiry_is_the_value_and_all_problems_are_described() {
        let at = time("2026-11-30T12:00:00Z");
        let late = file("late.pem", Ok("2027-11-30T12:00:00Z"));
        let early = file("early.pem", Ok("2026-12-09T12:00:00Z"));
        let text = |name: &str, when: &str| format!("the certificate of {name} (shop.example) {when}");
        let of_early = text("early.pem", "expires in 9 days, 2026-12-09");
        let found = summary(&[late.clone(), early.clone()], 14.0 * DAY, at);
        assert_eq!(found, Some((9.0 * DAY, of_early.clone())));
        let broken = file("broken.pem", Err("it is not valid PEM"));
        let of_broken = "the certificates of broken.pem can't be checked: it is not valid PEM";
        let found = summary(&[late.clone(), early, broken.clone()], 14.0 * DAY, at);
        assert_eq!(found, Some((0.0, format!("{of_broken}; {of_early}"))));
        let of_late = text("late.pem", "expires in 365 days, 2027-11-30");
        assert_eq!(summary(&[late], 14.0 * DAY, at), Some((365.0 * DAY, of_late)));
        let (_, many) = summary(&vec![broken; 5], 14.0 * DAY, at).expect("they were read");
        assert!(many.ends_with("; and 2 more"), "{many}");
    }

    #[test]
    fn an_expired_certificate_has_no_time_left_and_an_unread_file_has_no_value() {
        let at = time("2026-11-30T12:00:00Z");
        let (left, text) = summary(&[file("old.pem", Ok("2026-11-01T00:00:00Z"))], DAY, at).expect("it was read");
        assert!(left == 0.0 && text.contains("expired 29 days ago"), "{left} {text}");
        assert_eq!(summary(&[CertificateFile { path: "new.pem".into(), reading: None }], DAY, at), None);
    }

    #[test]
    fn a_file_is_read_again_only_when_it_has_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shop.pem");
        let missing = CertificateFile { path: path.clone(), reading: None }.refreshed();
        let why = |file: &CertificateFile| {
            file.reading.as_ref().and_then(|reading| reading.first.clone().err()).expect("it has no certificate")
        };
        assert!(why(&missing).contains("No such file"));
        fs::write(&path, "nothing").expect("it can be written");
        let mut empty = missing.refreshed();
        assert_eq!(why(&empty), "it contains no certificate in PEM");
        let read_at = |file: &CertificateFile| file.reading.as_ref().map(|reading| reading.at);
        let first = read_at(&empty);
        empty = empty.refreshed();
        assert_eq!(read_at(&empty), first);
        fs::remove_file(&path).expect("it can be removed");
        assert!(why(&empty.refreshed()).contains("No such file"));
    }

    #[tokio::test]
    async fn the_files_are_checked_on_other_threads() {
        let mut files = CertificateFiles::new(vec!["/nonexistent/shop.pem".into()], DAY);
        let (left, text) = files.measure(Duration::ZERO, Timestamp::UNIX_EPOCH).await.expect("it was checked");
        assert!(
            left == 0.0 && text.starts_with("the certificates of /nonexistent/shop.pem can't be checked"),
            "{text}"
        );
        assert_eq!(CertificateFiles::default().measure(Duration::ZERO, Timestamp::UNIX_EPOCH).await, None);
    }
}

//! Owns which code a release starts from: its bundle, or a snapshot, a component that holds the image of an instance
//! which was prepared. That there is none is never a reason to fail: instances then start plainly and prepare themselves.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Instant;

use bytes::Bytes;
use indicatif::BinaryBytes;
use isopod_engine::{Output, OutputLine, Preparation};
use isopod_policy::AppType;
use isopod_store::{Digest, Release, StoreError};

use super::{Deployer, Failure, make::Making, push::LivePush, verify::Verified};
use crate::{limits, observe::logs::LogLine};

/// A snapshot that is kept among the blobs.
pub(super) struct Image {
    pub(super) component: Bytes,
    pub(super) digest: Digest,
}

impl Deployer {
    /// The snapshot for a release that asks for one: the one its content was stored with, or a new one. A dev app has
    /// none, since its code is to be there soon and is not there for long.
    pub(super) async fn image(&self, making: &Making, verified: &Verified) -> Result<Option<Image>, Failure> {
        let Some(wanted) = &verified.manifest.snapshot else { return Ok(None) };
        if making.entry.facts().app_type == AppType::Dev {
            making.note("no snapshot: a dev app starts plainly, so that a change is seen sooner");
            return Ok(None);
        }
        let blobs = self.0.parts.store.blobs();
        if let Some(digest) = verified.snapshot.clone() {
            match blobs.get(&digest).await {
                Ok(bytes) => return Ok(Some(Image { component: bytes.into(), digest })),
                Err(error) => making.note(format!("the kept snapshot can't be used and is taken anew: {error}")),
            }
        }
        let begun = Instant::now();
        let how = Preparation {
            app: making.entry.name.to_string(),
            limits: verified.manifest.limits.clone(),
            output: Arc::new(Told { push: making.push.clone(), lines: AtomicUsize::new(0) }),
            warm: wanted.warm.clone(),
        };
        match self.0.parts.engine.snapshot(verified.component.clone(), how).await {
            Ok(taken) => {
                making.note(format!(
                    "snapshot taken in {} ms, {} of them for the app to prepare itself: {} of code became {} with the \
                     image of its memory",
                    begun.elapsed().as_millis(),
                    taken.prepared_in.as_millis(),
                    BinaryBytes(verified.component.len() as u64),
                    BinaryBytes(taken.component.len() as u64),
                ));
                let digest = blobs.put(taken.component.clone()).await?;
                Ok(Some(Image { component: taken.component, digest }))
            }
            Err(why) => {
                making.note(format!("no snapshot, so instances prepare themselves when they start: {why}"));
                Ok(None)
            }
        }
    }

    /// The code that a stored release starts from.
    pub(super) async fn code_of(&self, release: &Release) -> Result<Vec<u8>, StoreError> {
        let blobs = self.0.parts.store.blobs();
        if let Some(snapshot) = &release.snapshot {
            match blobs.get(snapshot).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    tracing::warn!(app = %release.app, release = %release.number, %error, "a snapshot can't be read, so instances start plainly");
                }
            }
        }
        blobs.get(&release.bundle).await
    }
}

impl Making {
    /// Tells the push's log, or the app's where no push asked.
    fn note(&self, text: impl Into<String>) {
        match &self.push {
            Some(push) => push.say(text),
            None => self.entry.log.write(LogLine::host(&self.entry.name, text.into())),
        }
    }
}

/// What a guest writes while it is prepared, for whoever pushed it.
struct Told {
    push: Option<Arc<LivePush>>,
    lines: AtomicUsize,
}

impl Output for Told {
    fn line(&self, line: OutputLine<'_>) {
        let Some(push) = &self.push else { return };
        match self.lines.fetch_add(1, Ordering::Relaxed) {
            number if number < limits::PREPARATION_LINES_MAX => push.say(format!("the app says: {}", line.text)),
            limits::PREPARATION_LINES_MAX => push.say("the app says more, which is left out"),
            _ => {}
        }
    }
}

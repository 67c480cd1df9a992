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
use isopod_policy::{AppName, AppType};
use isopod_store::{Digest, Release, StoreError};

use crate::control::{
    Deployer, Failure, push::progress::LivePush, release::pipeline::ReleasePipeline, release::verify::Verified,
};
use crate::limits;

/// A snapshot that is kept among the blobs.
pub(in crate::control) struct Image {
    pub(in crate::control) component: Bytes,
    pub(in crate::control) digest: Digest,
}

impl Deployer {
    /// The snapshot for a release that asks for one: the one that its content was stored with, or a new one if it is
    /// pushed. A dev app gets none, since its code is to be there soon and is not there for long.
    pub(in crate::control) async fn image(
        &self,
        making: &ReleasePipeline,
        verified: &Verified,
    ) -> Result<Option<Image>, Failure> {
        if let Some(digest) = &verified.snapshot {
            let kept = self.kept(digest, &making.entry.name).await;
            return Ok(kept.map(|bytes| Image { component: bytes.into(), digest: digest.clone() }));
        }
        let (Some(push), Some(wanted)) = (&making.push, &verified.manifest.snapshot) else { return Ok(None) };
        if making.entry.fields().app_type == AppType::Dev {
            push.say("no snapshot: a dev app starts plainly, so that a change is seen sooner");
            return Ok(None);
        }
        let begun = Instant::now();
        let how = Preparation {
            app: making.entry.name.to_string(),
            limits: verified.manifest.limits.clone(),
            output: Arc::new(Told { push: Arc::clone(push), lines: AtomicUsize::new(0) }),
            warm: wanted.warm.clone(),
        };
        match self.0.parts.engine.snapshot(verified.component.clone(), how).await {
            Ok(taken) => {
                push.say(format!(
                    "snapshot taken in {} ms, {} of them for the app to prepare itself: {} of code became {} with the \
                     image of its memory",
                    begun.elapsed().as_millis(),
                    taken.prepared_in.as_millis(),
                    BinaryBytes(verified.component.len() as u64),
                    BinaryBytes(taken.component.len() as u64),
                ));
                let digest = self.0.parts.store.put_blob(taken.component.clone()).await?;
                Ok(Some(Image { component: taken.component, digest }))
            }
            Err(why) => {
                push.say(format!("no snapshot, so instances prepare themselves when they start: {why}"));
                Ok(None)
            }
        }
    }

    /// The code that a stored release starts from.
    pub(in crate::control) async fn code_of(&self, release: &Release) -> Result<Vec<u8>, StoreError> {
        if let Some(snapshot) = &release.snapshot
            && let Some(bytes) = self.kept(snapshot, &release.app).await
        {
            return Ok(bytes);
        }
        self.0.parts.store.blobs().get(&release.bundle).await
    }

    async fn kept(&self, digest: &Digest, app: &AppName) -> Option<Vec<u8>> {
        let found = self.0.parts.store.blobs().get(digest).await;
        found
            .inspect_err(|error| tracing::warn!(%app, %error, "a snapshot can't be read, so instances start plainly"))
            .ok()
    }
}

/// What a guest writes while it is prepared, for whoever pushed it.
struct Told {
    push: Arc<LivePush>,
    lines: AtomicUsize,
}

impl Output for Told {
    fn line(&self, line: OutputLine<'_>) {
        match self.lines.fetch_add(1, Ordering::Relaxed) {
            number if number < limits::PREPARATION_LINES_MAX => self.push.say(format!("the app says: {}", line.text)),
            limits::PREPARATION_LINES_MAX => self.push.say("the app says more, which is left out"),
            _ => {}
        }
    }
}

//! Owns the choice of the code that a release starts from: its bundle, or a snapshot (a component
//! that contains the memory image of a prepared instance). Never fails a release: without a
//! snapshot, instances prepare themselves when they start.

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
    error::Failure,
    limits,
    push::progress::LivePush,
    release::{pipeline::ReleasePipeline, releases::Releases, verify::ValidBundle},
};

/// A snapshot that is stored as a blob.
pub(in crate::control) struct Snapshot {
    pub(in crate::control) component: Bytes,
    pub(in crate::control) digest: Digest,
}

impl Releases {
    /// Returns the snapshot of a release if its manifest requests one: the stored snapshot of its
    /// content, or a new snapshot for a push. Dev apps get none: they deploy often, and speed
    /// matters more.
    pub(in crate::control) async fn snapshot(
        &self,
        pipeline: &ReleasePipeline,
        verified: &ValidBundle,
    ) -> Result<Option<Snapshot>, Failure> {
        if let Some(digest) = &verified.snapshot {
            let stored = self.stored_snapshot(digest, &pipeline.app.record.name).await;
            return Ok(stored.map(|bytes| Snapshot { component: bytes.into(), digest: digest.clone() }));
        }
        let (Some(push), Some(requested)) = (&pipeline.push, &verified.manifest.snapshot) else { return Ok(None) };
        if pipeline.app.record.fields().app_type == AppType::Dev {
            push.log("no snapshot: dev apps start without one, so that changes deploy sooner");
            return Ok(None);
        }
        let started_at = Instant::now();
        let preparation = Preparation {
            app: pipeline.app.record.name.to_string(),
            limits: verified.manifest.limits.clone(),
            output: Arc::new(PreparationOutput { push: Arc::clone(push), lines: AtomicUsize::new(0) }),
            warm: requested.warm.clone(),
        };
        match self.engine.snapshot(verified.component.clone(), preparation).await {
            Ok(taken) => {
                push.log(format!(
                    "snapshot taken in {} ms, including {} ms of preparation by the app: {} of code became {} \
                     with its memory image",
                    started_at.elapsed().as_millis(),
                    taken.prepared_in.as_millis(),
                    BinaryBytes(verified.component.len() as u64),
                    BinaryBytes(taken.component.len() as u64),
                ));
                let digest = self.store.put_blob(taken.component.clone()).await?;
                Ok(Some(Snapshot { component: taken.component, digest }))
            }
            Err(why) => {
                push.log(format!("no snapshot; instances prepare themselves when they start: {why}"));
                Ok(None)
            }
        }
    }

    /// Returns the code that a stored release starts from.
    pub(in crate::control) async fn code_of(&self, release: &Release) -> Result<Vec<u8>, StoreError> {
        if let Some(snapshot) = &release.snapshot
            && let Some(bytes) = self.stored_snapshot(snapshot, &release.app).await
        {
            return Ok(bytes);
        }
        self.store.blobs().get(&release.bundle).await
    }

    async fn stored_snapshot(&self, digest: &Digest, app: &AppName) -> Option<Vec<u8>> {
        let found = self.store.blobs().get(digest).await;
        found
            .inspect_err(|error| tracing::warn!(%app, %error, "a snapshot can't be read; instances start without it"))
            .ok()
    }
}

/// Copies a guest's output during its preparation to the push log.
struct PreparationOutput {
    push: Arc<LivePush>,
    lines: AtomicUsize,
}

impl Output for PreparationOutput {
    fn line(&self, line: OutputLine<'_>) {
        match self.lines.fetch_add(1, Ordering::Relaxed) {
            number if number < limits::PREPARATION_LINES_MAX => self.push.log(format!("app output: {}", line.text)),
            limits::PREPARATION_LINES_MAX => self.push.log("app output: further lines are omitted"),
            _ => {}
        }
    }
}

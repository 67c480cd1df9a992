//! Operations on pushes and their logs in memory. Never touches other rows except a completed
//! push's release.

use isopod_policy::{AppName, PushEvent, PushId, PushState, ReleaseNumber};
use jiff::Timestamp;

use super::rows::{PushRow, Rows, one_more};
use crate::StoreError;
use crate::limits::{PAGE_ITEMS_MAX, PUSH_LOG_LINES_MAX, PUSHES_KEPT};
use crate::model::{Idempotency, Inserted, LogLine, NewActivity, NewPush, Push, Reason};
use crate::page::{Page, Paged};

impl Rows {
    pub(super) fn push(&mut self, id: &PushId) -> Result<&mut PushRow, StoreError> {
        let found = self.pushes.values_mut().find(|row| row.push.id == *id);
        found.ok_or_else(|| StoreError::UnknownPush { id: id.clone() })
    }

    /// Returns the result of sending a key again; `None` if the key is unknown or has expired.
    pub(super) fn sent_before(
        &self,
        app: &AppName,
        sent: &Idempotency,
        now: Timestamp,
    ) -> Result<Option<Inserted>, StoreError> {
        sent.check()?;
        let mut newest_first = self.pushes.values().rev().filter(|row| row.push.app == *app);
        let found = newest_first.find_map(|row| {
            let record = row.idempotency.as_ref().filter(|record| record.key == sent.key)?;
            Some((row.push.clone(), &record.upload))
        });
        Ok(found.and_then(|(earlier, upload)| Inserted::again(earlier, upload, sent, now)))
    }

    pub(super) fn insert_push(&mut self, push: NewPush) -> Result<Inserted, StoreError> {
        self.app(&push.app)?;
        if let Some(sent) = &push.idempotency
            && let Some(again) = self.sent_before(&push.app, sent, push.created_at)?
        {
            return Ok(again);
        }
        if self.push(&push.id).is_ok() {
            return Err(StoreError::PushExists { id: push.id });
        }
        let NewPush { id, app, bundle, idempotency, created_by, created_at } = push;
        let push = Push {
            id,
            app,
            state: PushState::Queued,
            bundle,
            release: None,
            reason: None,
            created_by,
            created_at,
            updated_at: created_at,
        };
        self.last_push += 1;
        let number = self.last_push;
        self.pushes.insert(number, PushRow { push: push.clone(), idempotency, log: Vec::new() });
        let of_app = self.pushes.iter().rev().filter(|(_, row)| row.push.app == push.app);
        let surplus = of_app.skip(PUSHES_KEPT as usize).filter(|(_, row)| row.push.state.is_final());
        for number in surplus.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.pushes.remove(&number);
        }
        Ok(Inserted::New(push))
    }

    pub(super) fn list_pushes(&self, app: &AppName, page: &Page) -> Result<Paged<Push>, StoreError> {
        let before = page.number(u64::MAX)?;
        let newest_first = self.pushes.range(..before).rev().filter(|(_, row)| row.push.app == *app);
        Ok(page_of(newest_first, page))
    }

    pub(super) fn unfinished_pushes(&self, page: &Page) -> Result<Paged<Push>, StoreError> {
        let after = page.number(0_u64)?;
        let oldest_first = self.pushes.range(after.saturating_add(1)..).filter(|(_, row)| !row.push.state.is_final());
        Ok(page_of(oldest_first, page))
    }

    pub(super) fn advance_push(
        &mut self,
        id: &PushId,
        event: PushEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let push = &mut self.push(id)?.push;
        push.state = push.state.step(event)?;
        push.reason = reason.map(Reason::truncated);
        push.updated_at = at;
        Ok(push.clone())
    }

    pub(super) fn complete_push(
        &mut self,
        id: &PushId,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let push = self.push(id)?.push.clone();
        let state = push.state.step(PushEvent::Complete)?;
        self.put_in_service(&push.app, number, at)?;
        self.append_activity(activity);
        let row = self.push(id)?;
        row.push = Push { state, release: Some(number), reason: None, updated_at: at, ..push };
        Ok(row.push.clone())
    }

    pub(super) fn append_push_log(&mut self, id: &PushId, text: &str, at: Timestamp) -> Result<bool, StoreError> {
        let row = self.push(id)?;
        let number = u32::try_from(row.log.len()).unwrap_or(u32::MAX).saturating_add(1);
        if number > PUSH_LOG_LINES_MAX {
            return Ok(false);
        }
        row.log.push(LogLine::truncated(number, at, text));
        Ok(true)
    }

    pub(super) fn push_log(&mut self, id: &PushId, after: u32) -> Result<Vec<LogLine>, StoreError> {
        let lines = self.push(id)?.log.iter().filter(|line| line.number > after);
        Ok(lines.take(PAGE_ITEMS_MAX as usize).cloned().collect())
    }
}

fn page_of<'a>(rows: impl Iterator<Item = (&'a u64, &'a PushRow)>, page: &Page) -> Paged<Push> {
    let paged = Paged::from_one_more(one_more(rows, page), page, |(number, _)| number.to_string());
    Paged { items: paged.items.into_iter().map(|(_, row)| row.push.clone()).collect(), next: paged.next }
}

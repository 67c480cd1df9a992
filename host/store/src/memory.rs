//! A control store that forgets: for tests, and for hosts that keep nothing. Owns plain maps behind one lock. It passes the
//! same contract as the one that lasts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use isopod_policy::{AppName, AppType, PushEvent, PushId, PushState, ReleaseNumber};
use jiff::Timestamp;

use crate::limits::{
    ACTIVITY_ENTRIES_MAX, ACTIVITY_TRIM_EVERY, PAGE_ITEMS_MAX, PUSH_LOG_LINE_BYTES_MAX, PUSH_LOG_LINES_MAX,
    PUSHES_KEPT, REASON_BYTES_MAX, RELEASES_KEPT, TOKENS_MAX,
};
use crate::model::{
    Activity, App, Intended, LogLine, NewActivity, NewApp, NewPush, NewRelease, Page, Paged, Push, Reason, Release,
    Token, cut,
};
use crate::{Control, StoreError};

/// A control store in memory.
#[derive(Debug, Default)]
pub struct Memory {
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    apps: BTreeMap<AppName, App>,
    last_releases: BTreeMap<AppName, u32>,
    /// By the order in which they were queued.
    pushes: BTreeMap<u64, PushRow>,
    last_push: u64,
    releases: BTreeMap<(AppName, ReleaseNumber), Release>,
    activity: BTreeMap<u64, Activity>,
    last_activity: u64,
    activity_counts: BTreeMap<Option<AppName>, u32>,
    tokens: BTreeMap<String, Token>,
}

#[derive(Debug)]
struct PushRow {
    push: Push,
    log: Vec<LogLine>,
}

impl Memory {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a cursor that is a row's number.
fn number_cursor(page: &Page, start: u64) -> Result<u64, StoreError> {
    match &page.cursor {
        None => Ok(start),
        Some(text) => text.parse().map_err(|_| StoreError::BadCursor { cursor: text.chars().take(80).collect() }),
    }
}

/// One more item than the page has, to know whether any follow.
fn one_more<T>(items: impl Iterator<Item = T>, page: &Page) -> Vec<T> {
    items.take(page.items() as usize + 1).collect()
}

impl Rows {
    fn app(&mut self, name: &AppName) -> Result<&mut App, StoreError> {
        self.apps.get_mut(name).ok_or_else(|| StoreError::UnknownApp { name: name.clone() })
    }

    fn change_app(&mut self, name: &AppName, at: Timestamp, change: impl FnOnce(&mut App)) -> Result<App, StoreError> {
        let app = self.app(name)?;
        change(app);
        app.updated_at = at;
        Ok(app.clone())
    }

    fn must_have_release(&self, app: &AppName, number: ReleaseNumber) -> Result<(), StoreError> {
        if self.releases.contains_key(&(app.clone(), number)) {
            return Ok(());
        }
        Err(StoreError::UnknownRelease { app: app.clone(), number })
    }

    fn push(&mut self, id: &PushId) -> Result<&mut PushRow, StoreError> {
        let found = self.pushes.values_mut().find(|row| row.push.id == *id);
        found.ok_or_else(|| StoreError::UnknownPush { id: id.clone() })
    }

    fn append_activity(&mut self, new: NewActivity) -> Activity {
        self.last_activity += 1;
        let entry = new.kept_as(self.last_activity);
        self.activity.insert(entry.id, entry.clone());
        let count = self.activity_counts.entry(entry.app.clone()).or_default();
        *count += 1;
        if *count >= ACTIVITY_ENTRIES_MAX + ACTIVITY_TRIM_EVERY {
            let surplus = (*count - ACTIVITY_ENTRIES_MAX) as usize;
            *count = ACTIVITY_ENTRIES_MAX;
            let same_app = self.activity.values().filter(|other| other.app == entry.app);
            for id in same_app.map(|other| other.id).take(surplus).collect::<Vec<_>>() {
                self.activity.remove(&id);
            }
        }
        entry
    }
}

#[async_trait]
impl Control for Memory {
    async fn create_app(&self, app: NewApp) -> Result<App, StoreError> {
        let mut rows = self.rows();
        if rows.apps.contains_key(&app.name) {
            return Err(StoreError::AppExists { name: app.name });
        }
        let NewApp { name, app_type, intended, created_at } = app;
        let app = App { name, app_type, intended, release: None, created_at, updated_at: created_at };
        rows.apps.insert(app.name.clone(), app.clone());
        Ok(app)
    }

    async fn app(&self, name: &AppName) -> Result<Option<App>, StoreError> {
        Ok(self.rows().apps.get(name).cloned())
    }

    async fn apps(&self, page: Page) -> Result<Paged<App>, StoreError> {
        let rows = self.rows();
        let after = page.cursor.as_deref().unwrap_or("");
        let items = one_more(rows.apps.values().filter(|app| app.name.as_str() > after).cloned(), &page);
        Ok(Paged::from_one_more(items, &page, |app| app.name.to_string()))
    }

    async fn delete_app(&self, name: &AppName) -> Result<(), StoreError> {
        let mut rows = self.rows();
        rows.apps.remove(name).ok_or_else(|| StoreError::UnknownApp { name: name.clone() })?;
        rows.last_releases.remove(name);
        rows.pushes.retain(|_, row| row.push.app != *name);
        rows.releases.retain(|(app, _), _| app != name);
        rows.activity.retain(|_, entry| entry.app.as_ref() != Some(name));
        rows.activity_counts.remove(&Some(name.clone()));
        Ok(())
    }

    async fn set_app_type(&self, name: &AppName, app_type: AppType, at: Timestamp) -> Result<App, StoreError> {
        self.rows().change_app(name, at, |app| app.app_type = app_type)
    }

    async fn set_intended(&self, name: &AppName, intended: Intended, at: Timestamp) -> Result<App, StoreError> {
        self.rows().change_app(name, at, |app| app.intended = intended)
    }

    async fn set_current_release(
        &self,
        name: &AppName,
        number: ReleaseNumber,
        at: Timestamp,
    ) -> Result<App, StoreError> {
        let mut rows = self.rows();
        rows.app(name)?;
        rows.must_have_release(name, number)?;
        rows.change_app(name, at, |app| app.release = Some(number))
    }

    async fn insert_push(&self, push: NewPush) -> Result<Push, StoreError> {
        let mut rows = self.rows();
        rows.app(&push.app)?;
        if rows.push(&push.id).is_ok() {
            return Err(StoreError::PushExists { id: push.id });
        }
        let NewPush { id, app, bundle, created_by, created_at } = push;
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
        rows.last_push += 1;
        let number = rows.last_push;
        rows.pushes.insert(number, PushRow { push: push.clone(), log: Vec::new() });
        let of_app = rows.pushes.iter().rev().filter(|(_, row)| row.push.app == push.app);
        let surplus = of_app.skip(PUSHES_KEPT as usize).filter(|(_, row)| row.push.state.is_final());
        for number in surplus.map(|(number, _)| *number).collect::<Vec<_>>() {
            rows.pushes.remove(&number);
        }
        Ok(push)
    }

    async fn push(&self, id: &PushId) -> Result<Option<Push>, StoreError> {
        Ok(self.rows().push(id).ok().map(|row| row.push.clone()))
    }

    async fn pushes(&self, app: &AppName, page: Page) -> Result<Paged<Push>, StoreError> {
        let rows = self.rows();
        let before = number_cursor(&page, u64::MAX)?;
        let newest_first = rows.pushes.range(..before).rev().filter(|(_, row)| row.push.app == *app);
        let items = one_more(newest_first, &page);
        let paged = Paged::from_one_more(items, &page, |(number, _)| number.to_string());
        Ok(Paged { items: paged.items.into_iter().map(|(_, row)| row.push.clone()).collect(), next: paged.next })
    }

    async fn unfinished_pushes(&self, page: Page) -> Result<Paged<Push>, StoreError> {
        let rows = self.rows();
        let after = number_cursor(&page, 0)?;
        let oldest_first = rows.pushes.range(after.saturating_add(1)..).filter(|(_, row)| !row.push.state.is_final());
        let items = one_more(oldest_first, &page);
        let paged = Paged::from_one_more(items, &page, |(number, _)| number.to_string());
        Ok(Paged { items: paged.items.into_iter().map(|(_, row)| row.push.clone()).collect(), next: paged.next })
    }

    async fn advance_push(
        &self,
        id: &PushId,
        event: PushEvent,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let mut rows = self.rows();
        let push = &mut rows.push(id)?.push;
        push.state = push.state.step(event)?;
        push.reason =
            reason.map(|reason| Reason { detail: cut(&reason.detail, REASON_BYTES_MAX).to_owned(), ..reason });
        push.updated_at = at;
        Ok(push.clone())
    }

    async fn complete_push(
        &self,
        id: &PushId,
        number: ReleaseNumber,
        activity: NewActivity,
        at: Timestamp,
    ) -> Result<Push, StoreError> {
        let mut rows = self.rows();
        let push = rows.push(id)?.push.clone();
        let state = push.state.step(PushEvent::Complete)?;
        rows.must_have_release(&push.app, number)?;
        rows.change_app(&push.app, at, |app| app.release = Some(number))?;
        rows.append_activity(activity);
        let row = rows.push(id)?;
        row.push = Push { state, release: Some(number), reason: None, updated_at: at, ..push };
        Ok(row.push.clone())
    }

    async fn append_push_log(&self, id: &PushId, text: &str, at: Timestamp) -> Result<bool, StoreError> {
        let mut rows = self.rows();
        let row = rows.push(id)?;
        let number = u32::try_from(row.log.len()).unwrap_or(u32::MAX).saturating_add(1);
        if number > PUSH_LOG_LINES_MAX {
            return Ok(false);
        }
        row.log.push(LogLine { number, at, text: cut(text, PUSH_LOG_LINE_BYTES_MAX).to_owned() });
        Ok(true)
    }

    async fn push_log(&self, id: &PushId, after: u32) -> Result<Vec<LogLine>, StoreError> {
        let mut rows = self.rows();
        let lines = rows.push(id)?.log.iter().filter(|line| line.number > after);
        Ok(lines.take(PAGE_ITEMS_MAX as usize).cloned().collect())
    }

    async fn insert_release(&self, release: NewRelease) -> Result<Release, StoreError> {
        let mut rows = self.rows();
        rows.app(&release.app)?;
        let last = rows.last_releases.entry(release.app.clone()).or_default();
        let number = last.checked_add(1).and_then(ReleaseNumber::new);
        let number = number.ok_or_else(|| StoreError::NoMoreReleases { app: release.app.clone() })?;
        *last = number.get();
        let NewRelease { app, bundle, manifest, size_bytes, created_by, created_at } = release;
        let release = Release { app, number, bundle, manifest, size_bytes, created_by, created_at };
        rows.releases.insert((release.app.clone(), number), release.clone());
        let current = rows.app(&release.app)?.release;
        let of_app = rows.releases.keys().rev().filter(|(app, _)| *app == release.app);
        let surplus = of_app.skip(RELEASES_KEPT as usize).filter(|(_, number)| Some(*number) != current);
        for key in surplus.cloned().collect::<Vec<_>>() {
            rows.releases.remove(&key);
        }
        Ok(release)
    }

    async fn release(&self, app: &AppName, number: ReleaseNumber) -> Result<Option<Release>, StoreError> {
        Ok(self.rows().releases.get(&(app.clone(), number)).cloned())
    }

    async fn releases(&self, app: &AppName, page: Page) -> Result<Paged<Release>, StoreError> {
        let rows = self.rows();
        let before = number_cursor(&page, u64::MAX)?;
        let of_app = rows.releases.values().rev().filter(|release| release.app == *app);
        let items = one_more(of_app.filter(|release| u64::from(release.number.get()) < before).cloned(), &page);
        Ok(Paged::from_one_more(items, &page, |release| release.number.get().to_string()))
    }

    async fn append_activity(&self, activity: NewActivity) -> Result<Activity, StoreError> {
        Ok(self.rows().append_activity(activity))
    }

    async fn activity(&self, app: Option<&AppName>, page: Page) -> Result<Paged<Activity>, StoreError> {
        let rows = self.rows();
        let before = number_cursor(&page, u64::MAX)?;
        let newest_first = rows.activity.range(..before).rev().map(|(_, entry)| entry);
        let wanted = newest_first.filter(|entry| app.is_none() || entry.app.as_ref() == app);
        Ok(Paged::from_one_more(one_more(wanted.cloned(), &page), &page, |entry| entry.id.to_string()))
    }

    async fn activity_after(&self, app: Option<&AppName>, id: u64) -> Result<Vec<Activity>, StoreError> {
        let rows = self.rows();
        let later = rows.activity.range(id.saturating_add(1)..).map(|(_, entry)| entry);
        let wanted = later.filter(|entry| app.is_none() || entry.app.as_ref() == app);
        Ok(wanted.take(PAGE_ITEMS_MAX as usize).cloned().collect())
    }

    async fn insert_token(&self, token: Token) -> Result<(), StoreError> {
        let mut rows = self.rows();
        if rows.tokens.len() >= TOKENS_MAX as usize {
            return Err(StoreError::TooManyTokens);
        }
        if rows.tokens.values().any(|known| known.name == token.name || known.hash == token.hash) {
            return Err(StoreError::TokenExists { name: token.name });
        }
        rows.tokens.insert(token.name.clone(), token);
        Ok(())
    }

    async fn token(&self, hash: &str) -> Result<Option<Token>, StoreError> {
        Ok(self.rows().tokens.values().find(|token| token.hash == hash).cloned())
    }

    async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        Ok(self.rows().tokens.values().cloned().collect())
    }

    async fn delete_token(&self, name: &str) -> Result<(), StoreError> {
        match self.rows().tokens.remove(name) {
            Some(_) => Ok(()),
            None => Err(StoreError::UnknownToken { name: name.to_owned() }),
        }
    }
}

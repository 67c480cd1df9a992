//! Owns the routes of an app's dead letters: list, redrive and drop. Never delivers an event.

use std::sync::Arc;

use axum::extract::State;
use isopod_policy::ProcessName;
use isopod_store::{DeadChange, EventFilter, EventState, Page};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use super::{
    Api,
    error::{Error, EventError},
    path::AppPath,
    request::{List, OptionalObject, PageParams, Params, Path, app_name},
    stored_events::{self, EventView, refused},
};
use crate::{api::limits, control::AppRecord};

/// Selects dead letters by equal attributes. Without any, all are selected.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadParams {
    /// The attribute `type`.
    r#type: Option<String>,
    subject: Option<String>,
    id: Option<String>,
    source: Option<String>,
    /// The process type that handles the event.
    #[param(value_type = Option<ProcessName>, inline)]
    process: Option<String>,
}

/// Selects dead letters by equal attributes. Without any, all are selected. A null member is
/// refused: a script with an unset variable would otherwise select all dead letters.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Redrive {
    /// The attribute `type`.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    r#type: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    subject: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    source: Option<String>,
    /// The process type that handles the event.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<ProcessName>, nullable = false)]
    process: Option<String>,
    /// The maximum number of events to redrive; by default all.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 4_294_967_295_u64, nullable = false)]
    limit: Option<u64>,
}

/// Deserialises a member that is present, and refuses null.
fn given<'de, D: Deserializer<'de>>(json: D) -> Result<Option<String>, D::Error> {
    String::deserialize(json).map(Some)
}

/// Deserialises a whole number in any JSON notation, and refuses null.
fn whole<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(json)?;
    let number = isopod_policy::json::whole(&value).filter(|number| (1..=u64::from(u32::MAX)).contains(number));
    number.map(Some).ok_or_else(|| D::Error::custom(format!("it must be a whole number from 1 to {}", u32::MAX)))
}

/// The number of events that a request changed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ChangedEvents {
    /// The number of events.
    events: u64,
}

/// The result of a redrive.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RedrivenEvents {
    /// The number of events.
    events: u64,
    /// The process types of selected dead letters that the app's current release lacks. Their dead
    /// letters are not redriven: they would wait for a handler.
    missing_processes: Vec<ProcessName>,
}

impl DeadParams {
    fn filter(self) -> Result<EventFilter, Error> {
        Ok(EventFilter {
            state: Some(EventState::Dead),
            process: self.process.as_deref().map(stored_events::process).transpose()?,
            event_type: self.r#type,
            subject: self.subject,
            id: self.id,
            source: self.source,
        })
    }
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/dead-letters",
    operation_id = "list_dead_letters",
    summary = "Lists the dead letters of an app, the last accepted first",
    params(AppPath, DeadParams, PageParams),
    responses(
        (status = 200, description = "A page, which may be empty and have a next page", body = List<EventView>),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(params): Params<DeadParams>,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<List<EventView>>, Error> {
    stored_events::page_of(&api, &app, params.filter()?, &page).await
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/dead-letters/redrive",
    operation_id = "redrive_dead_letters",
    summary = "Returns dead letters to the queue with their attempts reset to 0: without a body, all of them",
    params(AppPath),
    request_body = Option<Redrive>,
    responses(
        (status = 200, description = "The number of events that were returned", body = RedrivenEvents),
    )
)]
pub(super) async fn redrive(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    OptionalObject(wanted): OptionalObject<Redrive>,
) -> Result<axum::Json<RedrivenEvents>, Error> {
    let Redrive { r#type, subject, id, source, process, limit } = wanted;
    let filter = DeadParams { r#type, subject, id, source, process }.filter()?;
    let (record, limit) = (api.control.apps.app(&app_name(&app)?)?, limit.unwrap_or(u64::MAX));
    let selected = selected_processes(&api, &record, &filter).await?;
    if selected.missing.is_empty() {
        let events = change_all(&api, &record, DeadChange::Redrive, filter, limit).await?;
        return Ok(axum::Json(RedrivenEvents { events, missing_processes: Vec::new() }));
    }
    let mut events = 0;
    for process in selected.present {
        let filter = EventFilter { process: Some(process), ..filter.clone() };
        events += change_all(&api, &record, DeadChange::Redrive, filter, limit - events).await?;
    }
    if events == 0 {
        return Err(EventError::NoProcess { app, processes: selected.missing }.into());
    }
    Ok(axum::Json(RedrivenEvents { events, missing_processes: selected.missing }))
}

/// The process types of the selected dead letters.
#[derive(Default)]
struct SelectedProcesses {
    /// Process types of the app's current release. Some may have no selected dead letters.
    present: Vec<ProcessName>,
    /// Process types that the app's current release lacks.
    missing: Vec<ProcessName>,
}

async fn selected_processes(api: &Api, record: &AppRecord, filter: &EventFilter) -> Result<SelectedProcesses, Error> {
    let stats = api.control.events.stats(record).await.map_err(|error| refused(record.name.as_str(), error))?;
    let handlers = api.control.queries.event_handlers(record).await?;
    let mut selected = SelectedProcesses::default();
    let is_wanted = |process: &ProcessName| filter.process.as_ref().is_none_or(|wanted| wanted == process);
    for process in stats.into_iter().filter(|of| of.dead > 0).map(|of| of.process).filter(is_wanted) {
        if handlers.attempts(&process).is_some() {
            selected.present.push(process);
        } else if has_dead(api, record, EventFilter { process: Some(process.clone()), ..filter.clone() }).await? {
            selected.missing.push(process);
        }
    }
    Ok(selected)
}

/// Returns whether the filter selects any event.
async fn has_dead(api: &Api, record: &AppRecord, filter: EventFilter) -> Result<bool, Error> {
    let mut page = Page { cursor: None, limit: Some(1) };
    loop {
        let found = api.control.events.list(record, filter.clone(), page).await;
        let found = found.map_err(|error| refused(record.name.as_str(), error))?;
        match found.next {
            // A page may be empty and have a next one.
            Some(next) if found.items.is_empty() => page = Page { cursor: Some(next), limit: Some(1) },
            Some(_) | None => return Ok(!found.items.is_empty()),
        }
    }
}

#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/dead-letters",
    operation_id = "drop_dead_letters",
    summary = "Deletes dead letters",
    params(AppPath, DeadParams),
    responses(
        (status = 200, description = "The number of events that were deleted", body = ChangedEvents),
    )
)]
pub(super) async fn drop_all(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(params): Params<DeadParams>,
) -> Result<axum::Json<ChangedEvents>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    let events = change_all(&api, &record, DeadChange::Drop, params.filter()?, u64::MAX).await?;
    Ok(axum::Json(ChangedEvents { events }))
}

/// Changes up to `most` selected dead letters, in transactions of a bounded size. Returns their
/// number.
async fn change_all(
    api: &Api,
    record: &Arc<AppRecord>,
    what: DeadChange,
    filter: EventFilter,
    most: u64,
) -> Result<u64, Error> {
    let (mut events, mut after) = (0, None);
    while events < most {
        let step = usize::try_from(most - events).unwrap_or(usize::MAX).min(limits::DEAD_LETTERS_PER_STEP);
        let swept = api.control.events.change_dead(record, what, filter.clone(), after, step).await;
        let swept = swept.map_err(|error| refused(record.name.as_str(), error))?;
        events += swept.changed;
        after = swept.next;
        if after.is_none() {
            break;
        }
    }
    Ok(events)
}

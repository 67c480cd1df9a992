//! The contract of the control store. Every function here is run against every backend.

use isopod_policy::{AppName, AppType, PushEvent, PushId, PushState, ReleaseNumber, Role, Scope};
use isopod_store::{Control, Intended, NewPush, Page, Paged, Reason, StoreError, Token, limits, memory::Memory};

use crate::{at, name, new_activity, new_app, new_push, new_release, on_disk, push_id};

macro_rules! every_backend {
    ($($fact:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(&super::Memory::default()).await;
            })+
        }
        mod in_sqlite {
            $(#[tokio::test]
            async fn $fact() {
                let backend = super::on_disk();
                super::$fact(&backend.store).await;
            })+
        }
    };
}

every_backend!(
    an_app_is_kept_as_it_was_created,
    two_apps_of_the_same_name_are_refused,
    apps_are_listed_by_name_page_by_page,
    changes_of_an_app_are_kept,
    what_concerns_an_unknown_app_is_refused,
    a_deleted_app_leaves_nothing_behind,
    a_push_goes_its_way_and_no_other,
    a_failed_push_keeps_its_reason,
    a_push_is_made_once_and_only_for_an_app_that_exists,
    pushes_are_listed_newest_first,
    unfinished_pushes_are_found_again,
    a_completed_push_makes_its_release_current,
    a_push_that_cannot_be_completed_changes_nothing,
    the_log_of_a_push_is_kept_in_order_and_bounded,
    releases_are_numbered_per_app_and_never_reused,
    the_oldest_pushes_that_are_done_make_room,
    the_oldest_releases_make_room_but_not_the_one_that_serves,
    what_is_too_long_is_cut_off,
    activity_is_kept_in_order,
    the_oldest_activity_makes_room,
    a_token_is_found_by_its_hash,
    a_cursor_of_another_kind_is_refused,
    only_one_of_many_creators_of_a_name_succeeds,
);

fn page(cursor: Option<&str>, limit: u32) -> Page {
    Page { cursor: cursor.map(str::to_owned), limit: Some(limit) }
}

async fn create(store: &dyn Control, app: &str) -> AppName {
    store.create_app(new_app(app)).await.expect("the app can be created").name
}

fn number(release: u32) -> ReleaseNumber {
    ReleaseNumber::new(release).expect("releases count from 1")
}

async fn an_app_is_kept_as_it_was_created(store: &dyn Control) {
    let created = store.create_app(new_app("greeter")).await.expect("it is created");
    assert_eq!(created.name, name("greeter"));
    assert_eq!((created.app_type, created.intended, created.release), (AppType::Dev, Intended::Running, None));
    assert_eq!((created.created_at, created.updated_at), (at(0), at(0)));
    assert_eq!(store.app(&name("greeter")).await, Ok(Some(created)));
    assert_eq!(store.app(&name("other")).await, Ok(None));
}

async fn two_apps_of_the_same_name_are_refused(store: &dyn Control) {
    create(store, "greeter").await;
    let refused = store.create_app(new_app("greeter")).await;
    assert_eq!(refused, Err(StoreError::AppExists { name: name("greeter") }));
}

async fn apps_are_listed_by_name_page_by_page(store: &dyn Control) {
    for app in ["c", "a", "e", "b", "d"] {
        create(store, app).await;
    }
    let names = |paged: &Paged<isopod_store::App>| {
        paged.items.iter().map(|app| app.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    let first = store.apps(page(None, 2)).await.expect("the list is read");
    assert_eq!((names(&first).as_str(), first.next.as_deref()), ("a b", Some("b")));
    let second = store.apps(page(first.next.as_deref(), 2)).await.expect("the list is read");
    assert_eq!(names(&second), "c d");
    let last = store.apps(page(second.next.as_deref(), 2)).await.expect("the list is read");
    assert_eq!((names(&last).as_str(), last.next), ("e", None));
    let all = store.apps(Page::default()).await.expect("the list is read");
    assert_eq!((names(&all).as_str(), all.next), ("a b c d e", None));
}

async fn changes_of_an_app_are_kept(store: &dyn Control) {
    let app = create(store, "greeter").await;
    store.set_app_type(&app, AppType::Production, at(1)).await.expect("the type is set");
    let changed = store.set_intended(&app, Intended::Stopped, at(2)).await.expect("the intent is set");
    assert_eq!((changed.app_type, changed.intended), (AppType::Production, Intended::Stopped));
    assert_eq!((changed.created_at, changed.updated_at), (at(0), at(2)));
    let unknown = store.set_current_release(&app, number(1), at(3)).await;
    assert_eq!(unknown, Err(StoreError::UnknownRelease { app: app.clone(), number: number(1) }));
    store.insert_release(new_release("greeter", 3)).await.expect("a release is made");
    let rolled_back = store.set_current_release(&app, number(1), at(4)).await.expect("now it exists");
    assert_eq!(rolled_back.release, Some(number(1)));
    assert_eq!(store.app(&app).await, Ok(Some(rolled_back)));
}

async fn what_concerns_an_unknown_app_is_refused(store: &dyn Control) {
    let ghost = name("ghost");
    let unknown = StoreError::UnknownApp { name: ghost.clone() };
    assert_eq!(store.delete_app(&ghost).await, Err(unknown.clone()));
    assert_eq!(store.set_app_type(&ghost, AppType::Dev, at(1)).await, Err(unknown.clone()));
    assert_eq!(store.set_intended(&ghost, Intended::Stopped, at(1)).await, Err(unknown.clone()));
    assert_eq!(store.set_current_release(&ghost, number(1), at(1)).await, Err(unknown.clone()));
    assert_eq!(store.insert_release(new_release("ghost", 1)).await, Err(unknown));
    assert_eq!(store.release(&ghost, number(1)).await, Ok(None));
    assert_eq!(store.pushes(&ghost, Page::default()).await, Ok(Paged { items: vec![], next: None }));
}

async fn a_deleted_app_leaves_nothing_behind(store: &dyn Control) {
    let app = create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("a push is queued");
    store.append_push_log(&push_id(1), "compiling", at(1)).await.expect("it logs");
    store.insert_release(new_release("greeter", 1)).await.expect("a release is made");
    store.append_activity(new_activity(Some("greeter"), "scaled")).await.expect("it is recorded");
    store.append_activity(new_activity(None, "host started")).await.expect("it is recorded");
    store.delete_app(&app).await.expect("it is deleted");

    assert_eq!(store.app(&app).await, Ok(None));
    assert_eq!(store.push(&push_id(1)).await, Ok(None));
    assert_eq!(store.push_log(&push_id(1), 0).await, Err(StoreError::UnknownPush { id: push_id(1) }));
    let left = store.activity(None, Page::default()).await.expect("activity is read").items;
    assert_eq!(left.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>(), ["host started"]);

    create(store, "greeter").await;
    assert_eq!(store.releases(&app, Page::default()).await, Ok(Paged { items: vec![], next: None }));
    let first = store.insert_release(new_release("greeter", 2)).await.expect("a release is made");
    assert_eq!(first.number, ReleaseNumber::FIRST);
}

async fn a_push_goes_its_way_and_no_other(store: &dyn Control) {
    create(store, "greeter").await;
    let queued = store.insert_push(new_push(1, "greeter")).await.expect("it is queued");
    assert_eq!((queued.state, queued.release, queued.reason), (PushState::Queued, None, None));
    for (event, state) in [
        (PushEvent::Take, PushState::Running),
        (PushEvent::Build, PushState::Building),
        (PushEvent::Deploy, PushState::Deploying),
    ] {
        let moved = store.advance_push(&push_id(1), event, None, at(5)).await.expect("it moves on");
        assert_eq!((moved.state, moved.updated_at), (state, at(5)));
    }
    let refused = store.advance_push(&push_id(1), PushEvent::Cancel, None, at(6)).await;
    let Err(StoreError::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!((refused.state, refused.event), ("deploying", "cancel"));
    let kept = store.push(&push_id(1)).await.expect("it is read").expect("it is there");
    assert_eq!((kept.state, kept.updated_at), (PushState::Deploying, at(5)));
}

async fn a_failed_push_keeps_its_reason(store: &dyn Control) {
    create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("it is queued");
    let reason = Reason { code: "unknown-import".to_owned(), detail: "it imports wasi:gpu".to_owned() };
    store.advance_push(&push_id(1), PushEvent::Fail, Some(reason.clone()), at(2)).await.expect("it fails");
    let kept = store.push(&push_id(1)).await.expect("it is read").expect("it is there");
    assert_eq!((kept.state, kept.reason), (PushState::Failed, Some(reason)));
}

async fn a_push_is_made_once_and_only_for_an_app_that_exists(store: &dyn Control) {
    let refused = store.insert_push(new_push(1, "ghost")).await;
    assert_eq!(refused, Err(StoreError::UnknownApp { name: name("ghost") }));
    create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("it is queued");
    let refused = store.insert_push(new_push(1, "greeter")).await;
    assert_eq!(refused, Err(StoreError::PushExists { id: push_id(1) }));
    let refused = store.advance_push(&push_id(2), PushEvent::Take, None, at(1)).await;
    assert_eq!(refused, Err(StoreError::UnknownPush { id: push_id(2) }));
}

async fn pushes_are_listed_newest_first(store: &dyn Control) {
    create(store, "greeter").await;
    create(store, "other").await;
    for number in 1..=5 {
        store.insert_push(new_push(number, "greeter")).await.expect("it is queued");
    }
    store.insert_push(new_push(6, "other")).await.expect("it is queued");
    let first = store.pushes(&name("greeter"), page(None, 3)).await.expect("the list is read");
    let ids = |paged: &Paged<isopod_store::Push>| paged.items.iter().map(|push| push.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), [push_id(5), push_id(4), push_id(3)]);
    let second = store.pushes(&name("greeter"), page(first.next.as_deref(), 3)).await.expect("the list is read");
    assert_eq!((ids(&second), second.next), (vec![push_id(2), push_id(1)], None));
}

async fn unfinished_pushes_are_found_again(store: &dyn Control) {
    create(store, "greeter").await;
    for number in 1..=4 {
        store.insert_push(new_push(number, "greeter")).await.expect("it is queued");
    }
    store.advance_push(&push_id(1), PushEvent::Take, None, at(1)).await.expect("it is taken");
    store.advance_push(&push_id(2), PushEvent::Cancel, None, at(1)).await.expect("it is cancelled");
    store.advance_push(&push_id(3), PushEvent::Fail, None, at(1)).await.expect("it fails");
    let first = store.unfinished_pushes(page(None, 1)).await.expect("the list is read");
    assert_eq!(first.items[0].id, push_id(1));
    let second = store.unfinished_pushes(page(first.next.as_deref(), 1)).await.expect("the list is read");
    assert_eq!((second.items[0].id.clone(), second.next), (push_id(4), None));
}

/// Brings a push to the state before its completion.
async fn deploying(store: &dyn Control, push: u8) {
    store.insert_push(new_push(push, "greeter")).await.expect("it is queued");
    for event in [PushEvent::Take, PushEvent::Build, PushEvent::Deploy] {
        store.advance_push(&push_id(push), event, None, at(1)).await.expect("it moves on");
    }
}

async fn a_completed_push_makes_its_release_current(store: &dyn Control) {
    let app = create(store, "greeter").await;
    deploying(store, 1).await;
    let release = store.insert_release(new_release("greeter", 1)).await.expect("a release is made");
    let activity = new_activity(Some("greeter"), "v1 serves");
    let done = store.complete_push(&push_id(1), release.number, activity, at(7)).await.expect("it is completed");
    assert_eq!((done.state, done.release), (PushState::Completed, Some(release.number)));
    assert_eq!(store.push(&push_id(1)).await, Ok(Some(done)));
    let app = store.app(&app).await.expect("it is read").expect("it is there");
    assert_eq!((app.release, app.updated_at), (Some(release.number), at(7)));
    let activity = store.activity(Some(&app.name), Page::default()).await.expect("it is read");
    assert_eq!(activity.items[0].text, "v1 serves");
}

async fn a_push_that_cannot_be_completed_changes_nothing(store: &dyn Control) {
    let app = create(store, "greeter").await;
    deploying(store, 1).await;
    let activity = new_activity(Some("greeter"), "v1 serves");
    let refused = store.complete_push(&push_id(1), number(1), activity.clone(), at(7)).await;
    assert_eq!(refused, Err(StoreError::UnknownRelease { app: app.clone(), number: number(1) }));
    store.insert_release(new_release("greeter", 1)).await.expect("a release is made");
    store.insert_push(new_push(2, "greeter")).await.expect("it is queued");
    let refused = store.complete_push(&push_id(2), number(1), activity, at(7)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");

    let push = store.push(&push_id(1)).await.expect("it is read").expect("it is there");
    assert_eq!((push.state, push.release), (PushState::Deploying, None));
    assert_eq!(store.app(&app).await.expect("it is read").expect("it is there").release, None);
    assert_eq!(store.activity(Some(&app), Page::default()).await.expect("it is read").items, []);
}

async fn the_log_of_a_push_is_kept_in_order_and_bounded(store: &dyn Control) {
    create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("it is queued");
    for line in ["received", "compiled", "ready"] {
        assert_eq!(store.append_push_log(&push_id(1), line, at(3)).await, Ok(true));
    }
    let lines = store.push_log(&push_id(1), 1).await.expect("the log is read");
    let texts: Vec<_> = lines.iter().map(|line| (line.number, line.text.as_str(), line.at)).collect();
    assert_eq!(texts, [(2, "compiled", at(3)), (3, "ready", at(3))]);

    let long = "ä".repeat(limits::PUSH_LOG_LINE_BYTES_MAX);
    store.append_push_log(&push_id(1), &long, at(3)).await.expect("a long line is cut");
    let kept = store.push_log(&push_id(1), 3).await.expect("the log is read").remove(0).text;
    assert!(kept.len() <= limits::PUSH_LOG_LINE_BYTES_MAX && long.starts_with(&kept));
    let unknown = store.append_push_log(&push_id(2), "lost", at(3)).await;
    assert_eq!(unknown, Err(StoreError::UnknownPush { id: push_id(2) }));
}

async fn releases_are_numbered_per_app_and_never_reused(store: &dyn Control) {
    create(store, "greeter").await;
    create(store, "other").await;
    let mut made = Vec::new();
    for second in 1..=3 {
        made.push(store.insert_release(new_release("greeter", second)).await.expect("a release is made"));
    }
    let other = store.insert_release(new_release("other", 4)).await.expect("a release is made");
    assert_eq!(made.iter().map(|release| release.number.get()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(other.number, ReleaseNumber::FIRST);
    let expected = new_release("greeter", 2);
    assert_eq!((&made[1].manifest, &made[1].bundle), (&expected.manifest, &expected.bundle));
    assert_eq!(store.release(&name("greeter"), number(2)).await, Ok(Some(made[1].clone())));
    assert_eq!(store.release(&name("greeter"), number(4)).await, Ok(None));
    let listed = store.releases(&name("greeter"), page(None, 2)).await.expect("the list is read");
    assert_eq!(listed.items, [made[2].clone(), made[1].clone()]);
    let rest = store.releases(&name("greeter"), page(listed.next.as_deref(), 2)).await.expect("the list is read");
    assert_eq!((rest.items, rest.next), (vec![made[0].clone()], None));
}

async fn the_oldest_pushes_that_are_done_make_room(store: &dyn Control) {
    create(store, "greeter").await;
    let id = |number: u32| {
        let [.., high, low] = number.to_be_bytes();
        PushId::from_random([high, low / 32, low % 32, 0, 0, 0, 0, 0, 0, 0])
    };
    let queue = |number: u32| store.insert_push(NewPush { id: id(number), ..new_push(1, "greeter") });
    for number in 0..3 {
        queue(number).await.expect("it is queued");
    }
    store.advance_push(&id(0), PushEvent::Cancel, None, at(1)).await.expect("it is done");
    store.advance_push(&id(1), PushEvent::Take, None, at(1)).await.expect("it is under way");
    store.advance_push(&id(2), PushEvent::Fail, None, at(1)).await.expect("it is done");
    for queued in futures::future::join_all((3..limits::PUSHES_KEPT + 2).map(queue)).await {
        queued.expect("it is queued");
    }
    assert_eq!(store.push(&id(0)).await, Ok(None), "it was the oldest, and done");
    assert!(store.push(&id(1)).await.expect("it is read").is_some(), "it is not done");
    assert!(store.push(&id(2)).await.expect("it is read").is_some(), "it is within the bound");
}

async fn the_oldest_releases_make_room_but_not_the_one_that_serves(store: &dyn Control) {
    let app = create(store, "greeter").await;
    for second in 0..2 {
        store.insert_release(new_release("greeter", second)).await.expect("a release is made");
    }
    store.set_current_release(&app, number(1), at(3)).await.expect("it is set");
    let more = (0..limits::RELEASES_KEPT).map(|_| store.insert_release(new_release("greeter", 4)));
    for made in futures::future::join_all(more).await {
        made.expect("a release is made");
    }
    assert!(store.release(&app, number(1)).await.expect("it is read").is_some(), "it serves");
    assert_eq!(store.release(&app, number(2)).await, Ok(None));
    assert!(store.release(&app, number(3)).await.expect("it is read").is_some());
}

async fn what_is_too_long_is_cut_off(store: &dyn Control) {
    create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("it is queued");
    let long = "ä".repeat(limits::REASON_BYTES_MAX);
    let reason = Reason { code: "build-failed".to_owned(), detail: long.clone() };
    let failed = store.advance_push(&push_id(1), PushEvent::Fail, Some(reason), at(1)).await.expect("it fails");
    assert_eq!(failed.reason.expect("it has a reason").detail.len(), limits::REASON_BYTES_MAX);
    let entry = store.append_activity(new_activity(None, &long)).await.expect("it is recorded");
    assert_eq!(entry.text.len(), limits::ACTIVITY_TEXT_BYTES_MAX);
    assert_eq!(store.activity(None, Page::default()).await.expect("it is read").items, [entry]);
}

async fn activity_is_kept_in_order(store: &dyn Control) {
    create(store, "greeter").await;
    let mut entries = Vec::new();
    for text in ["one", "two", "three"] {
        entries.push(store.append_activity(new_activity(Some("greeter"), text)).await.expect("it is recorded"));
        store.append_activity(new_activity(None, "noise")).await.expect("it is recorded");
    }
    let app = name("greeter");
    let newest = store.activity(Some(&app), page(None, 2)).await.expect("it is read");
    assert_eq!(newest.items, [entries[2].clone(), entries[1].clone()]);
    let oldest = store.activity(Some(&app), page(newest.next.as_deref(), 2)).await.expect("it is read");
    assert_eq!((oldest.items, oldest.next), (vec![entries[0].clone()], None));
    let later = store.activity_after(Some(&app), entries[0].id).await.expect("it is read");
    assert_eq!(later, [entries[1].clone(), entries[2].clone()]);
    assert_eq!(store.activity(None, Page::default()).await.expect("it is read").items.len(), 6);
    assert_eq!(store.activity_after(None, entries[1].id).await.expect("it is read").len(), 3);
}

async fn the_oldest_activity_makes_room(store: &dyn Control) {
    let many = limits::ACTIVITY_ENTRIES_MAX + limits::ACTIVITY_TRIM_EVERY;
    let first = store.append_activity(new_activity(None, "the very first")).await.expect("it is recorded");
    let appends = (0..many).map(|_| store.append_activity(new_activity(Some("busy"), "again")));
    for appended in futures::future::join_all(appends).await {
        appended.expect("it is recorded");
    }
    let mut kept = 0;
    let mut after = 0;
    loop {
        let some = store.activity_after(Some(&name("busy")), after).await.expect("it is read");
        let Some(last) = some.last() else { break };
        kept += some.len();
        after = last.id;
    }
    assert_eq!(kept, limits::ACTIVITY_ENTRIES_MAX as usize);
    let others = store.activity_after(None, 0).await.expect("it is read");
    assert_eq!(others[0], first, "an app makes room only among its own entries");
}

async fn a_token_is_found_by_its_hash(store: &dyn Control) {
    let token = |name: &str, hash: &str| Token {
        name: name.to_owned(),
        hash: hash.to_owned(),
        role: Role::Deploy,
        scope: Scope::Apps(vec![crate::name("greeter")]),
        created_at: at(1),
    };
    store.insert_token(token("ci", "aa")).await.expect("it is kept");
    store.insert_token(token("admin", "bb")).await.expect("it is kept");
    assert_eq!(store.token("aa").await, Ok(Some(token("ci", "aa"))));
    assert_eq!(store.token("cc").await, Ok(None));
    assert_eq!(store.tokens().await, Ok(vec![token("admin", "bb"), token("ci", "aa")]));
    let refused = store.insert_token(token("ci", "dd")).await;
    assert_eq!(refused, Err(StoreError::TokenExists { name: "ci".to_owned() }));
    store.delete_token("ci").await.expect("it is removed");
    assert_eq!(store.token("aa").await, Ok(None));
    assert_eq!(store.delete_token("ci").await, Err(StoreError::UnknownToken { name: "ci".to_owned() }));
}

async fn a_cursor_of_another_kind_is_refused(store: &dyn Control) {
    let bad = || page(Some("not-a-number"), 2);
    let expected = StoreError::BadCursor { cursor: "not-a-number".to_owned() };
    assert_eq!(store.pushes(&name("greeter"), bad()).await, Err(expected.clone()));
    assert_eq!(store.releases(&name("greeter"), bad()).await, Err(expected.clone()));
    assert_eq!(store.unfinished_pushes(bad()).await, Err(expected.clone()));
    assert_eq!(store.activity(None, bad()).await, Err(expected));
}

async fn only_one_of_many_creators_of_a_name_succeeds(store: &dyn Control) {
    let creations = (0..20).map(|_| store.create_app(new_app("greeter")));
    let outcomes = futures::future::join_all(creations).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

//! Releases: numbered, listed, and how long they are kept.

use isopod_policy::ReleaseNumber;
use isopod_store::{Control, limits};

use super::{create, number, page};
use crate::{at, name, new_release};

every_backend!(
    releases_are_numbered_per_app_and_never_reused,
    the_oldest_releases_make_room_but_not_the_one_that_serves,
);

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

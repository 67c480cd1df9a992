//! The contract of the control store. Every fact here is held by every backend.

macro_rules! every_backend {
    ($($fact:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $fact() {
                super::$fact(&isopod_store::memory::Memory::default()).await;
            })+
        }
        mod in_sqlite {
            $(#[tokio::test]
            async fn $fact() {
                let backend = crate::on_disk();
                super::$fact(&backend.store).await;
            })+
        }
    };
}

mod apps;
mod pushes;
mod records;
mod releases;

use isopod_policy::{AppName, ReleaseNumber};
use isopod_store::{Control, Page};

use crate::new_app;

fn page(cursor: Option<&str>, limit: u32) -> Page {
    Page { cursor: cursor.map(str::to_owned), limit: Some(limit) }
}

async fn create(store: &dyn Control, app: &str) -> AppName {
    store.create_app(new_app(app)).await.expect("the app can be created").name
}

fn number(release: u32) -> ReleaseNumber {
    ReleaseNumber::new(release).expect("releases count from 1")
}

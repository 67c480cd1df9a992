//! The app `greedy` over Isopod's flat interface: collects the bodies that `greedy` streams. Does
//! nothing at start, so that snapshots can be taken.

use isopod_sdk::prelude::*;

/// A response with everything that its producer writes.
macro_rules! stream {
    ($producer:expr) => {
        crate::collected($producer).await?
    };
}

#[path = "../../greedy/src/acts.rs"]
mod acts;
#[path = "../../greedy/src/relay.rs"]
mod relay;
#[path = "../../greedy/src/storms.rs"]
mod storms;

isopod_sdk::http!(acts::act);

/// Collects what a producer writes.
#[derive(Default)]
struct Collected(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

impl Collected {
    async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.0.borrow_mut().extend_from_slice(bytes.as_ref());
        Ok(())
    }
}

async fn collected(producer: impl AsyncFnOnce(Collected) -> Result<()>) -> Result<Response> {
    let all = Collected::default();
    producer(Collected(all.0.clone())).await?;
    Ok(Response::new(200).with_body(all.0.take()))
}

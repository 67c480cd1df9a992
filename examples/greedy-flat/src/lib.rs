//! The app `greedy`, reached through Isopod's flat interface where the host takes that. It does nothing while it is started,
//! so that snapshots can be taken of it.

#[path = "../../greedy/src/acts.rs"]
mod acts;
#[path = "../../greedy/src/relay.rs"]
mod relay;
#[path = "../../greedy/src/storms.rs"]
mod storms;

isopod_sdk::http!(acts::act);

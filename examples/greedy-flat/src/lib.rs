//! The app `greedy`, reached through Isopod's flat interface where the host takes that.

#[path = "../../greedy/src/acts.rs"]
mod acts;
#[path = "../../greedy/src/start.rs"]
mod start;
#[path = "../../greedy/src/storms.rs"]
mod storms;

isopod_sdk::http!(acts::act);

//! Runs the middlewares of an app: in order for a request, in reverse order for its response. Each
//! runs in an instance of its plugin, on the CPU account of the app. Never chooses the response to
//! a failure of a plugin: the ingress does.

mod body;
mod chain;

pub(crate) use body::{AskedBody, Content};
pub(crate) use chain::{Asked, BrokenResponse, Completed, PluginFailure, RequestOutcome, ResponseFailure};

//! HTTP behaviour shared by the ingress and the API. Never routes a request.

pub(crate) mod byte_budget;
pub(crate) mod connections;
pub(crate) mod discarded_body;
pub(crate) mod field_classes;
pub(crate) mod limits;
pub(crate) mod problem;
pub(crate) mod refusal;
pub(crate) mod response_rules;
pub(crate) mod retry_after;
pub(crate) mod shares;
pub(crate) mod trailers;

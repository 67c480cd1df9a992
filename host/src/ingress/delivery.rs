//! Delivers a request to a release: through the middlewares of its app, then to one of its
//! instances. Never chooses the release.

use super::{
    body,
    failure::{self, Failed},
};
use crate::{
    http::connections::DrainedBody,
    runtime::{
        ActiveRelease, Answered, App, Chain, Directory, HttpRequest, InvokeError, PhaseTimes, WholeBody,
        middleware::{Asked, AskedBody, Completed, Content, PluginFailure, RequestOutcome, ResponseFailure},
    },
};
use http::{Response, request::Parts};
use http_body::Body;
use isopod_engine::{BadBody, BodyMonitor, Fault, RequestBody, ResponseBody};
use isopod_policy::{AppName, InstanceId, Phase, RequestId};

/// A request whose body hasn't been read.
pub(super) type Received = (Box<Parts>, DrainedBody);

/// The identity of a request in the logs, and the times of its phases.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) id: RequestId,
    pub(super) times: &'a PhaseTimes,
}

/// The outcome of a request.
pub(super) struct Delivered {
    /// The response, or why there is none.
    pub(super) outcome: Result<Response<ResponseBody>, Box<Failed>>,
    /// The plugin that responded or failed in place of the app.
    pub(super) plugin: Option<AppName>,
    /// The instance of the app that got the request.
    pub(super) instance: Option<InstanceId>,
}

impl Delivered {
    /// Returns the failure of a request that no instance got.
    pub(super) fn failed(failed: Failed) -> Self {
        Self::of_host(Err(Box::new(failed)))
    }

    fn of_host(outcome: Result<Response<ResponseBody>, Box<Failed>>) -> Self {
        Self { outcome, plugin: None, instance: None }
    }
}

/// Delivers a request to a release, or to one of its instances.
pub(super) async fn deliver(
    directory: &Directory,
    app: &App,
    running: &ActiveRelease,
    instance: Option<&InstanceId>,
    request: Received,
    context: Context<'_>,
) -> Delivered {
    match running.middleware() {
        None => to_app(app, running, instance, request, context).await,
        Some(chain) => through(chain, directory, app, running, instance, request, context).await,
    }
}

/// Delivers a request through middlewares, which see it before its body is read and before it waits
/// for an instance. The response passes back through those that wait for it.
pub(super) async fn through(
    chain: &Chain,
    directory: &Directory,
    app: &App,
    running: &ActiveRelease,
    instance: Option<&InstanceId>,
    (head, body): Received,
    context: Context<'_>,
) -> Delivered {
    let Context { id, times } = context;
    let refused = |failure: PluginFailure, instance| {
        let outcome = Err(Box::new(failure::plugin_failed(&failure, app.resources().is_dev())));
        Delivered { outcome, plugin: Some(failure.plugin), instance }
    };
    let mut body = AskedBody::new(body, running.program().body_limit(), app.resources(), times);
    let Asked { outcome, waiting } = chain.ask(app, directory, running, head, &mut body, id).await;
    let delivered = match outcome {
        RequestOutcome::Continue(head) => match body.into_content() {
            Content::Unread(body) => to_app(app, running, instance, (head, body), context).await,
            Content::Whole(WholeBody { bytes, trailers }) => {
                let body = RequestBody::received(bytes, trailers);
                send(app, running, instance, (head, body), context).await
            }
        },
        RequestOutcome::Respond { plugin, response } => {
            Delivered { plugin: Some(plugin), ..Delivered::of_host(Ok(response)) }
        }
        RequestOutcome::Refuse(failure) => return refused(failure, None),
        RequestOutcome::Fail(failure) => return Delivered::failed(failure::assets_failed(&failure)),
        RequestOutcome::Unreadable(body) => return Delivered::failed(failure::unreadable(body)),
    };
    let Delivered { outcome: Ok(response), plugin, instance } = delivered else { return delivered };
    let completed = chain.complete(app, directory, running, waiting, response, id);
    match completed.await {
        Ok(Completed { response, replaced_by }) => {
            Delivered { outcome: Ok(response), plugin: replaced_by.or(plugin), instance }
        }
        Err(ResponseFailure::Plugin(failure)) => refused(failure, instance),
        Err(ResponseFailure::Body(error)) => {
            Delivered { outcome: Err(Box::new(failure::response_broken(error))), plugin, instance }
        }
    }
}

/// Delivers a request to a release, bypassing its middlewares.
pub(super) async fn to_app(
    app: &App,
    running: &ActiveRelease,
    instance: Option<&InstanceId>,
    (head, body): Received,
    context: Context<'_>,
) -> Delivered {
    let (limit, times) = (running.program().body_limit(), context.times);
    let body = if body.is_end_stream() {
        RequestBody::empty()
    } else {
        // Boxed, so that the future of a request without a body stays small.
        let resources = app.resources();
        match Box::pin(times.measure(Phase::Body, body::take_in(&head.headers, body, limit, running, resources))).await
        {
            Ok(body) => body,
            Err(failed) => return Delivered::failed(failed),
        }
    };
    send(app, running, instance, (head, body), context).await
}

/// Sends a request to an instance of a release.
async fn send(
    app: &App,
    running: &ActiveRelease,
    instance: Option<&InstanceId>,
    (head, body): (Box<Parts>, RequestBody),
    Context { id, times }: Context<'_>,
) -> Delivered {
    let limit = running.program().body_limit();
    let monitor = body.monitor();
    let request = HttpRequest { head, body, times };
    let Answered { response, instance } = match instance {
        None => running.http(request, id).await,
        Some(instance) => Box::pin(running.http_on(instance, request, id)).await,
    };
    let outcome = match monitor.as_ref().and_then(BodyMonitor::fault) {
        // The client caused the failure, so the app's response to an incomplete body is discarded.
        Some(BadBody::TooLarge) => Err(failure::too_large(limit).into()),
        Some(BadBody::TooSlow) => {
            Err(failure::too_slow("the rest of the body did not arrive in time".to_owned()).into())
        }
        Some(BadBody::Broken { detail }) => Err(failure::broken(detail.clone()).into()),
        None => response.map_err(|refused| {
            let (problem, fault) = failure::explain(&refused);
            let problem = match refused {
                // The SDK guarantees that a handler's error text appears only in the log. A crash
                // has no other text, so `dev` apps show it.
                InvokeError::Fault(Fault::Failed { .. }) => problem,
                InvokeError::Fault(fault) if app.resources().is_dev() => {
                    failure::with_guest_output(problem, running, &fault, id)
                }
                _ => problem,
            };
            Box::new((problem, fault))
        }),
    };
    Delivered { outcome, plugin: None, instance }
}

//! Webhooks: `POST /hooks/PLUGIN/…`, by which other services call plugins.

mod answer;
mod verify;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
    routing::post,
};

pub(crate) use answer::{Answer, status};
pub(crate) use verify::is_secret;

use self::answer::refusal;
use crate::{
    address::ClientAddress,
    admission::{check_shared_address, rate_limited},
    api,
    audit::Entry,
    clock,
    config::Scheme,
    dispatch::Dispatcher,
    error::WireError,
    guest::webhooks,
    plugin::Plugin,
    registry::Hooked,
    telemetry::SpanContext,
    transport::net::Peer,
};

/// What all paths of webhooks begin with.
const HOOKS: &str = "/hooks/";

/// A request that may be handed to a plugin.
pub(crate) struct Delivery {
    /// What the plugin gets of it.
    pub request: webhooks::Request,
    /// Who sent it.
    pub client: ClientAddress,
    /// The sender's span, if it names one and requests are traced.
    pub span: Option<SpanContext>,
    /// The delivery's id, and how long it is remembered; none if it is not known who sends.
    pub known: Option<(String, Duration)>,
}

/// The routes of webhooks.
pub(crate) fn router(dispatcher: Arc<Dispatcher>) -> Router {
    Router::new()
        .route("/hooks/{*path}", post(receive))
        .method_not_allowed_fallback(api::method_not_allowed)
        .with_state(dispatcher)
}

async fn receive(State(dispatcher): State<Arc<Dispatcher>>, request: Request) -> Response {
    let (name, path) = target(request.uri());
    let hooked = dispatcher.registry.load().hooked(&name).cloned();
    let Some(hooked) = hooked else {
        return api::not_found().await.into_response();
    };
    let address = client(&dispatcher, &request);
    let received = match admit(&dispatcher, &hooked, path, request).await {
        Ok(delivery) => {
            // In a task of its own: a sender that hangs up comes again, and finds what came of it.
            let (this, hooked) = (dispatcher.clone(), hooked.clone());
            let deliver = async move { this.deliver(&hooked, delivery).await };
            let delivered = dispatcher.tasks.spawn(deliver).await;
            // It has panicked: the log has the reason.
            delivered.unwrap_or_else(|_| Err(WireError::new("internal", "the server failed")))
        }
        Err(error) => {
            let plugin = &*name;
            tracing::debug!(plugin, code = %error.code, "a webhook is refused: {}", error.message);
            dispatcher.audit.write(|| Entry::WebhookRefused {
                address: address.ip(),
                plugin,
                code: &error.code,
            });
            Err(error)
        }
    };
    received.map_or_else(refusal, IntoResponse::into_response)
}

/// The plugin that a request is for, and the rest of its path.
fn target(uri: &Uri) -> (String, String) {
    let path = uri.path().strip_prefix(HOOKS).unwrap_or_default();
    match path.find('/') {
        Some(at) => (path[..at].to_owned(), path[at..].to_owned()),
        None => (path.to_owned(), "/".to_owned()),
    }
}

/// Whatever is checked before the plugin is called.
async fn admit(
    dispatcher: &Dispatcher,
    hooked: &Hooked,
    path: String,
    request: Request,
) -> Result<Delivery, WireError> {
    let client = client(dispatcher, &request);
    let limit = hooked.limit.check_address(client);
    limit.map_err(|wait| rate_limited("webhooks", wait))?;
    if hooked.plugin.shares_limits()
        && let Some(cluster) = dispatcher.broadcast.others()
    {
        let limit = check_shared_address(cluster, &hooked.limit, client).await;
        limit.map_err(|wait| rate_limited("webhooks", wait))?;
    }
    let config = hooked.plugin.webhook();
    let (head, body) = request.into_parts();
    let body = api::whole_body(body, config.max_body.as_usize()).await?;
    let known = match &config.verification {
        None => None,
        Some(verification) if verification.secrets.is_empty() => {
            let message = "the server has no secret to check webhooks of this plugin with";
            return Err(WireError::temporary("plugin_unavailable", message));
        }
        Some(verification) => {
            let now = clock::since_1970().as_secs();
            let id = verify::verify(verification, &head.headers, &body, now);
            let id = id.map_err(|error| WireError::new("invalid_signature", error.to_string()))?;
            Some((id, verification.remember))
        }
    };
    let scheme = config.verification.as_ref().map(|it| it.scheme);
    let tracer = dispatcher.broadcast.tracer();
    Ok(Delivery {
        span: tracer.and_then(|_| SpanContext::of_headers(&head.headers)),
        request: webhooks::Request {
            method: head.method.to_string(),
            path,
            query: query(&head.uri),
            headers: headers(&hooked.plugin, scheme, &head.headers),
            body: body.into(),
            delivery: known.as_ref().map(|(id, _)| id.clone()),
        },
        client,
        known,
    })
}

fn client(dispatcher: &Dispatcher, request: &Request) -> ClientAddress {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.0.ip());
    let settings = dispatcher.settings.load();
    settings.trusted_proxies.client(peer, request.headers())
}

fn query(uri: &Uri) -> Vec<(String, String)> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.into_owned().collect()
}

/// The headers that a plugin gets: those that say what is in the body, and what is granted.
fn headers(plugin: &Plugin, scheme: Option<Scheme>, headers: &HeaderMap) -> Vec<(String, String)> {
    let needed: &[&str] = match scheme {
        Some(Scheme::Standard) => &["webhook-id", "webhook-timestamp"],
        Some(Scheme::Github) => &["x-github-event", "x-github-delivery"],
        Some(Scheme::Stripe) | None => &[],
    };
    let grants = plugin.grants();
    let is_given =
        |name: &str| name == "content-type" || needed.contains(&name) || grants.header(name);
    let given = headers.iter().filter(|(name, _)| is_given(name.as_str()));
    given
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}

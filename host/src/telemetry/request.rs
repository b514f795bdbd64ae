//! Spans of requests by HTTP: those of backends and webhooks, and those of plugins to other servers.

use std::sync::Arc;

use axum::{
    extract::{Request as Incoming, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderValue, Request, StatusCode, header::Entry};
use tokio::time::error::Elapsed;

use super::{Context, Kind, Span, SpanContext, TRACEPARENT, Tracer};
use crate::http_client::{Answer, NoAnswer};

/// A route, and who traces the requests to it.
pub(crate) type Route = (Arc<Tracer>, &'static str);

/// Traces a request to a route of the API, as a part of the span that its header names. Its handler finds the
/// [`Context`] among the request's extensions.
pub(crate) async fn trace_request(
    State((tracer, route)): State<Route>,
    mut request: Incoming,
    next: Next,
) -> Response {
    let parent = SpanContext::of_headers(request.headers());
    let method = request.method().to_string();
    let mut span = tracer.begin(Kind::Server, format!("{method} {route}"), parent);
    span.say(|it| {
        _ = it
            .set("http.request.method", method)
            .set("http.route", route)
    });
    request.extensions_mut().insert(span.context());
    let response = next.run(request).await;
    match response.status() {
        // Who has no key has no say in what is recorded, nor in what spans are called.
        StatusCode::UNAUTHORIZED | StatusCode::METHOD_NOT_ALLOWED => span.forget(),
        status => span.answers(status.as_u16()),
    }
    response
}

impl Span {
    /// Begins that of a webhook, as a part of the sender's span if it is known who sends.
    pub(crate) fn of_webhook(
        tracer: Option<&Arc<Tracer>>,
        plugin: &str,
        sender: Option<SpanContext>,
        is_known: bool,
    ) -> Self {
        let Some(tracer) = tracer else {
            return Self::NONE;
        };
        let parent = sender.filter(|_| is_known);
        let span = tracer.begin(Kind::Server, format!("POST /hooks/{plugin}"), parent);
        span.say(|it| {
            it.set("http.request.method", "POST")
                .set("http.route", format!("/hooks/{plugin}/{{*path}}"))
                .set("mixlab.plugin.name", plugin.to_owned())
                .link(sender.filter(|_| !is_known));
        });
        span
    }

    /// The status that a request is answered with.
    pub(crate) fn answers(&self, status: u16) {
        self.say(|it| {
            it.set("http.response.status_code", u64::from(status));
            if status >= 500 {
                it.fail(status.to_string());
            }
        });
    }

    /// Begins that of a request to another server, which is told of it, if the request does not say itself what
    /// it is a part of.
    pub(crate) fn requests<B>(parent: &Context, request: &mut Request<B>) -> Self {
        let span = parent.child(Kind::Client, || request.method().to_string());
        let Some(id) = span.id() else {
            return span;
        };
        if let Entry::Vacant(header) = request.headers_mut().entry(TRACEPARENT) {
            let value = HeaderValue::try_from(id.to_string());
            header.insert(value.expect("it is of digits and dashes"));
        }
        let uri = request.uri();
        span.say(|it| {
            it.set("http.request.method", request.method().to_string());
            if let Some(host) = uri.host() {
                it.set("server.address", host.to_owned());
            }
            let is_secure = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
            it.set("server.port", u64::from(port));
            // What is asked for may be a secret.
            let url = uri.to_string();
            let url = url.split('?').next().unwrap_or_default();
            it.set("url.full", url.to_owned());
        });
        span
    }

    /// What came of a request to another server.
    pub(crate) fn is_answered(&self, sent: &Result<Result<Answer, NoAnswer>, Elapsed>) {
        self.say(|it| match sent {
            Ok(Ok(answer)) => {
                let status = answer.status.as_u16();
                it.set("http.response.status_code", u64::from(status));
                if status >= 400 {
                    it.fail(status.to_string());
                }
            }
            Ok(Err(NoAnswer::TooLarge)) => _ = it.fail("too_large"),
            Ok(Err(NoAnswer::OutOfReach)) => _ = it.fail("out_of_reach"),
            Ok(Err(NoAnswer::Broken(_))) => _ = it.fail("unreachable"),
            Err(_) => _ = it.fail("timeout"),
        });
    }
}

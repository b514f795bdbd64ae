//! Requests that send events to clients. One with an `Idempotency-Key` happens once, however often it comes.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Api, Body,
    auth::Backend,
    idempotency::{Idempotency, Key},
};
use crate::{broadcast::Broadcast, error::WireError, transport::Delivery};

/// Where the body alone says all of the request.
const EMIT: &str = "/api/v1/emit";

/// A request that sends events: who asks, and what sends them.
pub(super) struct Push {
    backend: Backend,
    broadcast: Broadcast,
    once: Option<Once>,
}

/// By what a request is known again.
struct Once {
    idempotency: Idempotency,
    key: Key,
    path: Box<str>,
}

/// The answer to a push.
#[derive(Serialize)]
pub(super) struct Pushed {
    /// Sockets that it was delivered to; not known in a cluster, where others deliver it, too.
    delivered: Option<usize>,
}

impl FromRequestParts<Api> for Push {
    type Rejection = WireError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, WireError> {
        let backend = Backend::from_request_parts(parts, api).await?;
        let key = Option::<Key>::from_request_parts(parts, api).await?;
        let once = key.map(|key| Once {
            idempotency: api.idempotency.clone(),
            key,
            path: parts.uri.path().into(),
        });
        let broadcast = match parts.extensions.remove() {
            Some(context) => api.broadcast.within_context(context),
            None => api.broadcast.clone(),
        };
        Ok(Self {
            backend,
            broadcast,
            once,
        })
    }
}

impl Push {
    /// Has `send` do what the body says, unless that has happened already; the answer is what came of it, in JSON.
    pub(super) async fn perform<A: Serialize>(
        self,
        body: Body,
        send: impl FnOnce(&Backend, &Broadcast, &RawValue) -> Result<A, WireError> + Send + 'static,
    ) -> Result<Response, WireError> {
        let Self {
            backend,
            broadcast,
            once,
        } = self;
        let send = move |backend: &Backend, broadcast: &Broadcast, body: &RawValue| {
            let answer = serde_json::to_string(&send(backend, broadcast, body)?);
            Ok(answer.expect("numbers always serialise"))
        };
        let answer = match once {
            Some(once) if broadcast.is_clustered() => {
                // In a task of its own: the others are to know what came of it, also when the backend has hung up
                // meanwhile.
                let task = tokio::spawn(async move {
                    let act = || send(&backend, &broadcast, &body);
                    let what = once.what(&body);
                    let Once {
                        idempotency, key, ..
                    } = once;
                    let all = idempotency.once_among_all(&broadcast, &backend.key, key, &what, act);
                    all.await
                });
                let failed = |_| Err(WireError::new("internal", "the server failed"));
                task.await.unwrap_or_else(failed)?
            }
            Some(once) => {
                let what = once.what(&body);
                let act = || send(&backend, &broadcast, &body);
                once.idempotency.once(&backend.key, once.key, &what, act)?
            }
            // Events are sent without a pause: a backend that hangs up would leave the rest of a list behind.
            None => Arc::from(send(&backend, &broadcast, &body)?),
        };
        Ok(([(CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
    }
}

impl Once {
    /// All that the request says.
    fn what<'a>(&self, body: &'a RawValue) -> Cow<'a, str> {
        match &*self.path {
            EMIT => body.get().into(),
            path => format!("{path}\n{}", body.get()).into(),
        }
    }
}

impl Pushed {
    pub(super) fn new(broadcast: &Broadcast, delivery: Delivery) -> Self {
        Self {
            delivered: (!broadcast.is_clustered()).then_some(delivery.delivered),
        }
    }
}

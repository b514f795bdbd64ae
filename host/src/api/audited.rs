//! What requests of backends leave in the audit log: whatever changes the server or ends connections, and
//! whatever is refused. Events are neither.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, Request, State},
    http::{Method, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::Response,
};

use super::Api;
use crate::{
    audit::{By, Entry},
    shorten::shortened,
    transport::net::Peer,
};

/// How much is kept of a path, in characters: anybody may ask for any.
const MAX_PATH_CHARS: usize = 200;

/// The largest body that is kept, in bytes.
const MAX_BODY: usize = 4096;

/// What becomes known of a request while it is handled; among its extensions.
#[derive(Clone, Default)]
pub(super) struct Audited(Arc<Known>);

#[derive(Default)]
struct Known {
    by: OnceLock<By>,
    body: OnceLock<Bytes>,
}

impl Audited {
    /// Whose request it is.
    pub(super) fn is_by(&self, by: By) {
        // A request has one caller.
        let _ = self.0.by.set(by);
    }

    /// What is in it.
    pub(super) fn has(&self, body: Bytes) {
        // And one body.
        let _ = self.0.body.set(body);
    }
}

/// Has requests on these routes written down, if there is an audit log.
pub(super) fn audited(router: Router<Api>, api: &Api) -> Router<Api> {
    match api.audit.is_on() {
        true => router.layer(from_fn_with_state(api.clone(), audit)),
        false => router,
    }
}

async fn audit(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let audited = Audited::default();
    request.extensions_mut().insert(audited.clone());
    let Some(ConnectInfo(Peer(peer))) = request.extensions().get().copied() else {
        return next.run(request).await;
    };
    let settings = api.settings.load();
    let address = settings
        .trusted_proxies
        .client(peer.ip(), request.headers());
    let address = address.ip();
    drop(settings);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let changes = !matches!(method, Method::GET | Method::HEAD) && !sends_event(&path);

    let response = next.run(request).await;
    let is_refused = matches!(
        response.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    );
    let path = shortened(&path, MAX_PATH_CHARS);
    let (method, path, status) = (method.as_str(), &*path, response.status().as_u16());
    let Known { by, body } = &*audited.0;
    if is_refused {
        api.audit.write(|| Entry::RequestRefused {
            by: by.get().unwrap_or(&By::Unknown),
            address,
            method,
            path,
            status,
        });
    } else if let (true, Some(by)) = (changes, by.get()) {
        let body = body.get().filter(|body| body.len() <= MAX_BODY);
        api.audit.write(|| Entry::Requested {
            by,
            address,
            method,
            path,
            status,
            body: body.and_then(|body| serde_json::from_slice(body).ok()),
        });
    }
    response
}

/// Whether a request on this path is an event for clients. All others that are not asked by GET change something.
fn sends_event(path: &str) -> bool {
    match path.strip_prefix("/api/v1/").unwrap_or_default() {
        "emit" | "payments/updates" => true,
        path => {
            path.starts_with("roles/")
                || path.starts_with("users/") && path.ends_with("/notifications")
        }
    }
}

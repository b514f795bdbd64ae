//! What requests of backends leave in the audit log: whatever changes the server or ends connections, and
//! whatever is refused. Events are neither.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

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
    audit::{Audit, By, Entry, MAX_NAME_CHARS},
    shorten::shortened,
    transport::net::Peer,
};

/// The largest body that is kept, in bytes, without what stands between its words.
const MAX_BODY: usize = 4096;

/// The largest body that is looked at for that.
const MAX_READ_BODY: usize = 65_536;

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
    drop(settings);
    let path = request.uri().path();
    let mut asked = Asked {
        audit: api.audit,
        address: address.ip(),
        changes: !matches!(*request.method(), Method::GET | Method::HEAD) && !sends_event(path),
        path: shortened(path, MAX_NAME_CHARS),
        method: request.method().clone(),
        status: None,
        audited,
    };
    let response = next.run(request).await;
    asked.status = Some(response.status());
    response
}

/// A request that is written down when it is over: also if whoever asked has hung up before that.
struct Asked {
    audit: Audit,
    audited: Audited,
    address: IpAddr,
    method: Method,
    path: String,
    changes: bool,
    status: Option<StatusCode>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let is_refused = matches!(
            self.status,
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
        );
        let (address, method, path) = (self.address, self.method.as_str(), &*self.path);
        let status = self.status.map(|status| status.as_u16());
        let Known { by, body } = &*self.audited.0;
        if is_refused {
            self.audit.write(|| Entry::RequestRefused {
                by: by.get().unwrap_or(&By::Unknown),
                address,
                method,
                path,
                status,
            });
        } else if let (true, Some(by)) = (self.changes, by.get()) {
            self.audit.write(|| Entry::Requested {
                by,
                address,
                method,
                path,
                status,
                body: body.get().and_then(|body| kept(body)),
            });
        }
    }
}

/// A body that is not long.
fn kept(body: &[u8]) -> Option<serde_json::Value> {
    if body.len() > MAX_READ_BODY {
        return None;
    }
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    (json.to_string().len() <= MAX_BODY).then_some(json)
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

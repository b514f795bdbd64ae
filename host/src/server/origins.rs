//! What pages of other sites may do: connect, and read what they are answered.

use axum::{
    Json,
    extract::{Request, State},
    http::{
        HeaderValue, Method, StatusCode,
        header::{ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::settings;

/// Refuses requests of other sites' pages to the Socket.IO endpoint, where that is configured.
pub(super) async fn check(
    State(settings): State<settings::Current>,
    request: Request,
    next: Next,
) -> Response {
    if settings.load().origins.admit(request.headers()) {
        return next.run(request).await;
    }
    tracing::debug!(
        origin = ?request.headers().get(ORIGIN),
        "a page of another site is refused ([cors] check_origins)"
    );
    // As Node's server says it where `allowRequest` refuses.
    let body = Json(json!({ "code": 4, "message": "Forbidden" }));
    (StatusCode::FORBIDDEN, body).into_response()
}

/// Tells browsers that pages of listed sites may call, with credentials and with any headers.
pub(super) fn cors(settings: settings::Current) -> CorsLayer {
    let is_listed = move |origin: &HeaderValue, _: &_| settings.load().origins.lists(origin);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_listed))
        .allow_methods([Method::GET, Method::POST])
        // Which headers plugins may read changes while the server runs, and what nobody reads does
        // no harm.
        .allow_headers(AllowHeaders::mirror_request())
        .allow_credentials(true)
}

/// Leaves a page that may not call without the rest of what one that may would be told.
pub(super) async fn tell_listed_only(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        let told = |name: &&axum::http::HeaderName| name.as_str().starts_with("access-control-");
        let told: Vec<_> = headers.keys().filter(told).cloned().collect();
        for name in told {
            headers.remove(name);
        }
    }
    response
}

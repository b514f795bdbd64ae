//! What browsers are told so that they come by HTTPS only (RFC 6797).

use std::time::Duration;

use axum::{
    Router,
    http::{HeaderValue, header::STRICT_TRANSPORT_SECURITY},
    middleware,
    response::Response,
};

/// Says it with every answer, for so long. Only to be said over TLS.
pub(super) fn tell(router: Router, age: Duration) -> Router {
    let value = HeaderValue::try_from(format!("max-age={}", age.as_secs()));
    let value = value.expect("digits are good for a header");
    router.layer(middleware::map_response(move |mut response: Response| {
        let headers = response.headers_mut();
        headers.insert(STRICT_TRANSPORT_SECURITY, value.clone());
        std::future::ready(response)
    }))
}

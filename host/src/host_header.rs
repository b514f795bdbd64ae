//! Every request names the host that it is for (RFC 9112, section 3.2).

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Version,
        header::{CONNECTION, HOST},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::error::WireError;

/// Refuses requests that name no host, several, or none that can be. What stands in front of the
/// server may have taken them for another host's.
pub(crate) async fn require(request: Request, next: Next) -> Response {
    if names_a_host(request.version(), request.headers()) {
        return next.run(request).await;
    }
    let refusal = WireError::new(
        "invalid_payload",
        "a request has one header Host, with the host",
    );
    // What follows on the connection is nobody's to guess.
    ([(CONNECTION, "close")], refusal).into_response()
}

fn names_a_host(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => is_host(host),
        (Some(_), Some(_)) => false,
    }
}

fn is_host(host: &HeaderValue) -> bool {
    let authority = Authority::try_from(host.as_bytes());
    authority
        .is_ok_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
}

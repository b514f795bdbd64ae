//! What is for the machine alone that the server runs on.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{FORWARDED, HOST, VIA},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{api, config::Config};

/// What says that a request has come a longer way.
const FROM_ELSEWHERE: [HeaderName; 4] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// Whether only this machine reaches a server at this address, and nobody who is passed on from elsewhere.
pub(crate) fn is_alone_with_it(config: &Config, address: SocketAddr) -> bool {
    address.ip().is_loopback() && config.limits.trusted_proxies.is_empty()
}

/// For others there is nothing: neither for whom a proxy on this machine passes on, nor for a page of another
/// site whose name leads here.
pub(super) async fn require(request: Request, next: Next) -> Response {
    if is_named_by(request.headers().get(HOST)) && !is_passed_on(request.headers()) {
        return next.run(request).await;
    }
    api::not_found().await.into_response()
}

fn is_named_by(host: Option<&HeaderValue>) -> bool {
    let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    host.is_some_and(|authority| {
        let name = authority.host().trim_matches(['[', ']']);
        let address = name.parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
    })
}

fn is_passed_on(headers: &HeaderMap) -> bool {
    FROM_ELSEWHERE.iter().any(|name| headers.contains_key(name))
}

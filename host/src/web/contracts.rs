//! What clients may send and get, for who writes them: a page, and the same for programs. On this machine only.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, FORWARDED, HOST, VIA,
            X_CONTENT_TYPE_OPTIONS,
        },
        uri::Authority,
    },
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};

use crate::{
    api,
    config::Config,
    contracts::{Contracts, OPENAPI, POLICY},
    error::WireError,
    registry, settings,
};

/// Where the page is.
pub(crate) const CONTRACTS_PAGE: &str = "/mixlab/";

/// What says that a request has come a longer way.
const FROM_ELSEWHERE: [HeaderName; 4] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// Whether only this machine reaches a server at this address, and nobody who is passed on from elsewhere.
pub(crate) fn serves_contracts(config: &Config, address: SocketAddr) -> bool {
    address.ip().is_loopback() && config.limits.trusted_proxies.is_empty()
}

#[derive(Clone)]
struct Served {
    registry: registry::Current,
    settings: settings::Current,
}

/// The routes, for a server that only this machine reaches.
pub(crate) fn contracts(registry: registry::Current, settings: settings::Current) -> Router {
    let page = |State(served): State<Served>| async {
        served
            .written("text/html; charset=utf-8", Contracts::to_page)
            .await
    };
    let types = |State(served): State<Served>| async {
        served
            .written("text/plain; charset=utf-8", Contracts::to_typescript)
            .await
    };
    let asyncapi = |State(served): State<Served>| async {
        served
            .written("application/json", Contracts::to_asyncapi)
            .await
    };
    let openapi = || async { file("application/json", OPENAPI.to_owned()) };
    Router::new()
        .route(
            "/mixlab",
            get(|| async { Redirect::temporary(CONTRACTS_PAGE) }),
        )
        .route(CONTRACTS_PAGE, get(page))
        .route("/mixlab/events.d.ts", get(types))
        .route("/mixlab/asyncapi.json", get(asyncapi))
        .route("/mixlab/openapi.json", get(openapi))
        .method_not_allowed_fallback(api::method_not_allowed)
        .with_state(Served { registry, settings })
        .layer(middleware::from_fn(from_this_machine))
}

impl Served {
    /// Of the plugins that serve now.
    async fn written(self, media_type: &'static str, write: fn(&Contracts) -> String) -> Response {
        let writing = tokio::task::spawn_blocking(move || {
            let checks_tokens = self.settings.load().verifier.is_some();
            write(&Contracts::of(&self.registry.load(), checks_tokens))
        });
        match writing.await {
            Ok(text) => file(media_type, text),
            Err(_) => WireError::new("internal", "the server failed").into_response(),
        }
    }
}

fn file(media_type: &'static str, text: String) -> Response {
    let headers = [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

/// For others there is nothing: neither for whom a proxy on this machine passes on, nor for a page of another
/// site whose name leads here.
async fn from_this_machine(request: Request, next: Next) -> Response {
    if names_this_machine(request.headers().get(HOST)) && !is_passed_on(request.headers()) {
        return next.run(request).await;
    }
    api::not_found().await.into_response()
}

fn names_this_machine(host: Option<&HeaderValue>) -> bool {
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

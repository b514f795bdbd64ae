//! What clients may send and get, for who writes them: a page, and the same for programs. On this machine only.

use axum::{
    Router,
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};

use super::this_machine;
use crate::{
    api,
    contracts::{Contracts, OPENAPI, POLICY},
    error::WireError,
    registry, settings,
};

/// Where the page is.
pub(crate) const CONTRACTS_PAGE: &str = "/mixlab/";

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
        .layer(middleware::from_fn(this_machine::require))
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

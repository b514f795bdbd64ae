//! The console: a page on which operators see how plugins and the server stand, and have plugins reloaded and rolled
//! back. It holds nothing itself: what it shows and does goes through the HTTP API, with a key that its reader enters.

use axum::Router;

use super::page::{CSS, HTML, JAVASCRIPT, PAGE_CSS, TEXT_JS, file};
use crate::api;

/// Where the page is.
const CONSOLE: &str = "/mixlab/console";

/// The routes.
pub(crate) fn console() -> Router {
    Router::new()
        .route(CONSOLE, file(HTML, include_str!("console.html")))
        .route("/mixlab/console/page.css", file(CSS, PAGE_CSS))
        .route("/mixlab/console/text.js", file(JAVASCRIPT, TEXT_JS))
        .route(
            "/mixlab/console/console.css",
            file(CSS, include_str!("console.css")),
        )
        .route(
            "/mixlab/console/console.js",
            file(JAVASCRIPT, include_str!("console.js")),
        )
        .route(
            "/mixlab/console/views.js",
            file(JAVASCRIPT, include_str!("views.js")),
        )
        .method_not_allowed_fallback(api::method_not_allowed)
}

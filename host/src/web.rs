//! Static files: the example page or whatever `[web] root` names, and the stock client's bundle.

use std::path::Path;

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use tower_http::services::{ServeDir, ServeFile};

use crate::{api, config, error::WireError};

/// The builds of the stock client that a Node server offers too.
const BUNDLES: [&str; 6] = [
    "socket.io.js",
    "socket.io.js.map",
    "socket.io.min.js",
    "socket.io.min.js.map",
    "socket.io.esm.min.js",
    "socket.io.esm.min.js.map",
];

/// The page that `/` leads to, where there is one.
const START_PAGE: &str = "socket-example.html";

/// The client's bundle below the Socket.IO path, and the files of the root folder below `/`.
pub fn router(web: &config::Web, socket_path: &str) -> Router {
    let mut router = Router::new();
    for bundle in BUNDLES {
        let path = format!("{socket_path}/{bundle}");
        router = match web.client.as_ref().map(|folder| folder.join(bundle)) {
            Some(file) if file.is_file() => router.route_service(&path, ServeFile::new(file)),
            _ => router.route(&path, get(client_not_installed)),
        };
    }
    match &web.root {
        Some(root) => router.merge(files(root)),
        None => router.fallback(api::not_found),
    }
}

fn files(root: &Path) -> Router {
    let mut router = Router::new();
    if root.join(START_PAGE).is_file() && !root.join("index.html").is_file() {
        let start = format!("/{START_PAGE}");
        router = router.route("/", get(move || async move { Redirect::temporary(&start) }));
    }
    let files = ServeDir::new(root).fallback(get(api::not_found));
    router
        .fallback_service(files)
        .layer(middleware::from_fn(hide_private))
}

/// Dot files and installed packages lie in the folder but are not for the public.
async fn hide_private(request: Request, next: Next) -> Response {
    let private = |segment: &str| segment.starts_with('.') || segment == "node_modules";
    // Percent signs can hide a dot, and no file that is served needs one.
    let path = request.uri().path();
    if path.split('/').any(private) || path.to_ascii_lowercase().contains("%2e") {
        return api::not_found().await.into_response();
    }
    next.run(request).await
}

async fn client_not_installed() -> Response {
    let error = WireError::new(
        "not_found",
        "the stock client is not installed here: run `npm ci --prefix examples/web` or set \
         [web] client, or load it from https://cdn.socket.io/4.8.1/socket.io.min.js",
    );
    (StatusCode::NOT_FOUND, error).into_response()
}

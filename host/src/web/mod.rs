//! Static files: the example page or whatever `[web] root` names, and the stock client's bundle; and what is
//! written of the plugins' contracts; and the playground, and the console.

mod console;
mod contracts;
mod page;
mod play;
mod public_folder;
mod this_machine;

use std::path::Path;

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, get_service},
};
use tower_http::services::{ServeDir, ServeFile};

use self::public_folder::PublicFolder;
pub(crate) use self::{
    console::console,
    contracts::{CONTRACTS_PAGE, contracts},
    play::{PLAYGROUND, Playground, playground},
    this_machine::is_alone_with_it,
};
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
pub(crate) const START_PAGE: &str = "socket-example.html";

/// Whether that page is served.
pub(crate) fn has_start_page(web: &config::Web) -> bool {
    web.root.as_deref().is_some_and(has_page)
}

fn has_page(root: &Path) -> bool {
    root.join(START_PAGE).is_file()
}

/// The client's bundle below the Socket.IO path, and the files of the root folder below `/`.
pub(crate) fn router(web: &config::Web, socket_path: &str) -> Router {
    let mut router = Router::new();
    for bundle in BUNDLES {
        let path = format!("{socket_path}/{bundle}");
        let file = web.client.as_ref().map(|folder| folder.join(bundle));
        let answer = match file.filter(|file| file.is_file()) {
            Some(file) => get_service(ServeFile::new(file)),
            None => get(client_not_installed),
        };
        router = router.route(&path, answer.fallback(api::method_not_allowed));
    }
    match &web.root {
        Some(root) => router.merge(files(root)),
        None => router.fallback(api::not_found),
    }
}

fn files(root: &Path) -> Router {
    let mut router = Router::new();
    if has_page(root) && !root.join("index.html").is_file() {
        let start = format!("/{START_PAGE}");
        router = router.route("/", get(move || async move { Redirect::temporary(&start) }));
    }
    let nothing = get(api::not_found).fallback(api::method_not_allowed);
    let files = ServeDir::with_backend(root, PublicFolder::new(root))
        .fallback(nothing)
        .call_fallback_on_method_not_allowed(true);
    router
        .fallback_service(files)
        .layer(middleware::from_fn(refuse_hidden_separators))
}

/// A path whose parts cannot be told before it is decoded means one thing to a proxy in front and
/// another here. Nothing that is served needs one.
async fn refuse_hidden_separators(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let hides = path.split('%').skip(1).any(is_separator);
    if hides || path.contains('\\') || path.contains("//") {
        return api::not_found().await.into_response();
    }
    next.run(request).await
}

/// Whether what follows a percent sign stands for a slash, a backslash or a control character.
fn is_separator(code: &str) -> bool {
    let byte = code.get(..2).map(|digits| u8::from_str_radix(digits, 16));
    matches!(byte, Some(Ok(b'/' | b'\\' | ..0x20 | 0x7f)))
}

async fn client_not_installed() -> Response {
    let error = WireError::new(
        "not_found",
        "the stock client is not installed here: run `npm ci --prefix examples/web` or set \
         [web] client, or load it from https://cdn.socket.io/4.8.1/socket.io.min.js",
    );
    (StatusCode::NOT_FOUND, error).into_response()
}

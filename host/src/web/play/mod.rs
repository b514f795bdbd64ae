//! The playground: a page that sends events as any user, and shows what comes of them and of what its reader
//! saves. It is there only while somebody tries the server out on this machine, and whoever asks for a token or
//! for the log shows the key that `mixlab up` has printed for this run.

mod news;

use std::{convert::Infallible, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::news::News;
use super::{
    page::{CSS, HTML, JAVASCRIPT, PAGE_CSS, TEXT_JS, file, headers},
    this_machine,
};
use crate::{
    api::{self, LocalKey},
    auth,
    error::WireError,
    origins,
    recent_log::RecentLog,
    registry,
    reload::{Builds, Status},
    settings,
    user::{MAX_ROLES, TokenClaims, User, UserId, is_role},
};

/// Where the page is.
pub(crate) const PLAYGROUND: &str = "/mixlab/play";

/// How long a token is good that the page has asked for.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// What the playground shows, and works with.
#[derive(Clone)]
pub(crate) struct Playground {
    pub log: RecentLog,
    pub registry: registry::Current,
    pub settings: settings::Current,
    pub status: Arc<ArcSwap<Status>>,
    /// The builds of plugins, if this process builds them from their sources.
    pub builds: Option<Arc<Builds>>,
    pub local_key: LocalKey,
    /// What tokens are signed with.
    pub secret: Arc<[u8]>,
    /// Where the Socket.IO endpoint is.
    pub socket_path: String,
    pub stop: CancellationToken,
}

/// The routes, for a server that only this machine reaches.
pub(crate) fn playground(playground: Playground) -> Router {
    let asking = middleware::from_fn_with_state(playground.clone(), require_key);
    let for_those_with_key = Router::new()
        .route("/mixlab/play/news/{after}", get(news))
        .route("/mixlab/play/token", post(token))
        .layer(asking);
    Router::new()
        .route(PLAYGROUND, file(HTML, include_str!("play.html")))
        .route("/mixlab/play/page.css", file(CSS, PAGE_CSS))
        .route("/mixlab/play/text.js", file(JAVASCRIPT, TEXT_JS))
        .route("/mixlab/play/play.css", file(CSS, include_str!("play.css")))
        .route(
            "/mixlab/play/play.js",
            file(JAVASCRIPT, include_str!("play.js")),
        )
        .route(
            "/mixlab/play/form.js",
            file(JAVASCRIPT, include_str!("form.js")),
        )
        .merge(for_those_with_key)
        .method_not_allowed_fallback(api::method_not_allowed)
        .layer(middleware::from_fn_with_state(
            playground.clone(),
            while_trying_out,
        ))
        .layer(middleware::from_fn(this_machine::require))
        .with_state(playground)
}

/// A configuration that names issuers while the server runs, or switches tokens off, ends the playground.
async fn while_trying_out(
    State(playground): State<Playground>,
    request: Request,
    next: Next,
) -> Response {
    match playground.settings.load().trying_out {
        Some(_) => next.run(request).await,
        None => api::not_found().await.into_response(),
    }
}

/// Pages of other sites are refused even if they know the key.
async fn require_key(
    State(playground): State<Playground>,
    request: Request,
    next: Next,
) -> Response {
    if !origins::is_of_this_server(request.headers()) {
        let refusal = WireError::new("permission_denied", "a page of another site asks");
        return refusal.into_response();
    }
    if !playground.local_key.is_sent_with(request.headers()) {
        let refusal = WireError::new(
            "unauthorized",
            "open the link to the playground that `mixlab up` has printed: it has the key of this run",
        );
        return refusal.into_response();
    }
    next.run(request).await
}

/// What happens, as lines of JSON, until the page has enough or the server stops. Of the log it is what came
/// after the line that the page had last.
async fn news(State(playground): State<Playground>, Path(after): Path<u64>) -> Response {
    let lines = stream::unfold(News::new(playground, after), |mut news| async {
        let lines = news.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(lines)), news))
    });
    (headers("application/x-ndjson"), Body::from_stream(lines)).into_response()
}

/// Whose token the page asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    id: String,
    username: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

async fn token(
    State(playground): State<Playground>,
    body: Bytes,
) -> Result<Json<Value>, WireError> {
    let invalid = |message: String| WireError::new("invalid_payload", message);
    let Whose {
        id,
        username,
        roles,
    } = serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))?;
    let id = UserId::from_text(&id)
        .ok_or_else(|| invalid("a user id has 1 to 128 bytes and no control characters".into()))?;
    if let Some(role) = roles.iter().find(|role| !is_role(role)) {
        return Err(invalid(format!(
            "a role has 1 to 256 bytes and no control characters; {role:?} does not"
        )));
    }
    if roles.len() > MAX_ROLES {
        return Err(invalid(format!("a user has {MAX_ROLES} roles at most")));
    }
    let user = User {
        id,
        username,
        roles,
        token: TokenClaims::default(),
    };
    let settings = playground.settings.load();
    let Some(auth) = &settings.trying_out else {
        return Err(api::not_found().await);
    };
    let token = auth::sign(&user, &playground.secret, TOKEN_LIFETIME, auth);
    Ok(Json(json!({ "token": token })))
}

//! How the server stands, for balancers and operators.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::time::Instant;

use super::{Api, auth::Backend};
use crate::{
    cluster::{Members, Sample},
    config,
    error::WireError,
    metrics::Hits,
    reload::Status,
    server::Phase,
};

/// How long other servers may take to answer.
const ANSWERS: Duration = Duration::from_secs(1);

/// When a server started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started(SystemTime, Instant);

impl Started {
    /// Just now.
    pub(crate) fn now() -> Self {
        Self(SystemTime::now(), Instant::now())
    }
}

/// A server, for operators.
#[derive(Serialize)]
struct Standing {
    version: &'static str,
    /// The id of its process.
    process: u32,
    /// In RFC 3339.
    started: String,
    uptime_seconds: u64,
    phase: Phase,
    clients: Clients,
    namespaces: usize,
    /// What is not as it should be, as `/readyz` has it.
    problems: Vec<String>,
    limits: Limits,
    store: Store,
    /// None: it is on its own.
    cluster: Option<Cluster>,
    /// Who asks.
    key: Key,
}

#[derive(Serialize)]
struct Clients {
    here: usize,
    /// In the whole cluster.
    all: usize,
}

/// Which limits were hit, since the server started.
#[derive(Serialize)]
struct Limits {
    #[serde(flatten)]
    hits: Hits,
    /// Packets that found a client's send buffer full.
    dropped_emits: u64,
}

#[derive(Serialize)]
struct Store {
    /// `disk` or `redis`; none as long as no plugin has needed it.
    on: Option<&'static str>,
    /// Why what is committed does not become durable.
    failure: Option<String>,
}

#[derive(Serialize)]
struct Cluster {
    /// What this server is called there.
    name: String,
    connected: bool,
    waiting_entries: usize,
    waiting_bytes: usize,
    #[serde(flatten)]
    members: Option<Members>,
    /// Why the others are not known.
    unheard: Option<String>,
}

/// The key that somebody asks with.
#[derive(Serialize)]
struct Key {
    name: String,
    /// Whether it may reload plugins and roll them back.
    operate: bool,
}

/// How this server stands, and which others there are.
pub(super) async fn server(
    backend: Backend,
    State(api): State<Api>,
) -> Result<Response, WireError> {
    backend.may(backend.rights.inspect(), "inspect")?;
    let Started(started, since) = api.started;
    let on = |store: &config::Store| match store.is_in_redis() {
        true => "redis",
        false => "disk",
    };
    let cluster = match (api.broadcast.others(), api.broadcast.cluster()) {
        (Some(others), Some(sample)) => {
            let members = others.members(Instant::now() + ANSWERS).await;
            let (members, unheard) = match members {
                Ok(members) => (Some(members), None),
                Err(reason) => (None, Some(reason.to_string())),
            };
            let Sample {
                is_connected,
                waiting_entries,
                waiting_bytes,
                passed_on: _,
            } = sample;
            Some(Cluster {
                name: others.name().to_owned(),
                connected: is_connected,
                waiting_entries,
                waiting_bytes,
                members,
                unheard,
            })
        }
        _ => None,
    };
    let standing = Standing {
        version: env!("CARGO_PKG_VERSION"),
        process: std::process::id(),
        started: humantime::format_rfc3339_millis(started).to_string(),
        uptime_seconds: since.elapsed().as_secs(),
        phase: api.drain.phase(),
        clients: Clients {
            here: api.broadcast.clients_here(),
            all: api.broadcast.connected_clients_count(),
        },
        namespaces: api.namespaces.count(),
        problems: problems(&api, &api.status.load()),
        limits: Limits {
            hits: api.metrics.hits(),
            dropped_emits: api.namespaces.dropped_emits(),
        },
        store: Store {
            on: api.store.opened().map(|store| on(store.config())),
            failure: api.store.failure().map(|reason| reason.to_string()),
        },
        cluster,
        key: Key {
            name: backend.name.to_string(),
            operate: backend.rights.operate(),
        },
    };
    Ok(Json(standing).into_response())
}

/// Ready means that every plugin that is switched on serves what its file holds, or what somebody rolled it back to, that
/// `mixlab.toml` is in force, that the store takes what is written, that it is known who is present by other servers, that the
/// server is not to leave, and that its own tasks run. Paused plugins are named besides: who is not ready gets no clients, and
/// no client is to bring that about.
pub(super) async fn ready(
    State(api): State<Api>,
    State(status): State<Arc<ArcSwap<Status>>>,
) -> Response {
    let status = status.load();
    let problems = problems(&api, &status);
    // Names only: the reasons may show paths, and this door needs no key.
    let (code, mut text) = if problems.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        let text = format!("not ready: {}\n", problems.join(", "));
        (StatusCode::SERVICE_UNAVAILABLE, text)
    };
    for (what, names) in [
        ("nobody enters without", status.missing_guards()),
        ("rolled back", status.rolled_back()),
        ("paused", status.paused(|pauses| pauses.everybody)),
        (
            "paused for some addresses",
            status.paused(|pauses| !pauses.everybody && pauses.addresses > 0),
        ),
    ] {
        if !names.is_empty() {
            text += &format!("{what}: {}\n", names.join(", "));
        }
    }
    (code, text).into_response()
}

/// What is not as it should be.
fn problems(api: &Api, status: &Status) -> Vec<String> {
    let Api {
        broadcast,
        down,
        store,
        drain,
        providers,
        settings,
        ..
    } = api;
    let mut problems: Vec<String> = status.problems().into_iter().map(Into::into).collect();
    let down = down.names().into_iter();
    problems.extend(down.map(|task| format!("the server's task {task}")));
    if store.failure().is_some() {
        problems.push("the store cannot be written".to_owned());
    }
    if broadcast
        .cluster()
        .is_some_and(|cluster| !cluster.is_connected)
    {
        problems.push("the cluster's Redis is not connected".to_owned());
    }
    if !broadcast.presence().is_known() {
        problems.push("who is present by other servers".to_owned());
    }
    let settings = settings.load();
    let verifier = settings.verifier.as_ref();
    if verifier.is_some_and(|verifier| verifier.revocations().are_unknown()) {
        problems.push("what is revoked cannot be read".to_owned());
    }
    let missing = providers.missing().into_iter();
    problems.extend(missing.map(|issuer| format!("the keys of {issuer}")));
    if drain.phase() != Phase::Serving {
        problems.push("the server leaves".to_owned());
    }
    problems
}

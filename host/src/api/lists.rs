//! `GET /api/v1/sockets`, `users` and `rooms`: who is connected and where, a page at a time.

use std::time::{Duration, UNIX_EPOCH};

use axum::{
    Json,
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{InPath, auth::Backend, query::Query, user_in_path, whom::granted_namespace};
use crate::{
    broadcast::Broadcast,
    cluster::{Silent, Unheard},
    error::WireError,
    grant::Grants,
    listing::{self, Listed, Of, Page, Person, RoomFilter, RoomKind, Row},
    selected::{Named, Selected},
    transport::Selection,
};

/// How long other servers may take to answer.
const ANSWERS: Duration = Duration::from_secs(2);

/// A page, under the name of what is listed.
#[derive(Serialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    sockets: Option<Vec<Socket>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<Vec<User>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<Vec<Room>>,
    /// The cursor of the next page, if there is one.
    next: Option<String>,
    /// The servers of the cluster whose part is missing.
    silent: Option<Silent>,
}

#[derive(Serialize)]
struct Socket {
    id: String,
    namespace: String,
    user: Option<Person>,
    /// Those that the key may know of.
    rooms: Vec<String>,
    address: String,
    recovered: bool,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct User {
    #[serde(flatten)]
    person: Person,
    sockets: usize,
    since: String,
}

#[derive(Serialize)]
struct Room {
    name: String,
    kind: RoomKind,
    sockets: usize,
}

/// The sockets of a selection.
pub(super) async fn sockets(
    backend: Backend,
    State(broadcast): State<Broadcast>,
    uri: Uri,
) -> Result<Response, WireError> {
    let known = [
        "namespace",
        "room",
        "user",
        "role",
        "socket",
        "except",
        "data",
        "limit",
        "cursor",
    ];
    let mut query = Query::parse(uri.query().unwrap_or_default(), &known)?;
    backend.may(backend.rights.find(), "find")?;
    let whom = std::mem::take(&mut query.whom).granted(&backend, None)?;
    let of = Of::Sockets { data: query.data };
    answer(&backend, &broadcast, &query, whom, of).await
}

/// One socket.
pub(super) async fn socket(
    backend: Backend,
    InPath(id): InPath<String>,
    State(broadcast): State<Broadcast>,
    uri: Uri,
) -> Result<Response, WireError> {
    let mut query = Query::parse(uri.query().unwrap_or_default(), &["namespace", "data"])?;
    backend.may(backend.rights.find(), "find")?;
    query.whom.named.sockets.push(id);
    query.whom.everyone = false;
    let whom = query.whom.granted(&backend, None)?;
    let row = one(&broadcast, &whom, Of::Sockets { data: query.data }).await?;
    let namespace = whom.namespace.unwrap_or_default();
    match row {
        Some(Row::Socket(it)) => {
            Ok(Json(Socket::new(it, &namespace, &backend.rights)).into_response())
        }
        _ => Err(not_there("no socket with this id is connected")),
    }
}

/// The users of a selection's sockets.
pub(super) async fn users(
    backend: Backend,
    State(broadcast): State<Broadcast>,
    uri: Uri,
) -> Result<Response, WireError> {
    let known = [
        "namespace",
        "room",
        "user",
        "role",
        "socket",
        "except",
        "limit",
        "cursor",
    ];
    let mut query = Query::parse(uri.query().unwrap_or_default(), &known)?;
    backend.may(backend.rights.find(), "find")?;
    let whom = std::mem::take(&mut query.whom).granted(&backend, None)?;
    answer(&backend, &broadcast, &query, whom, Of::Users).await
}

/// One user.
pub(super) async fn user(
    backend: Backend,
    InPath(id): InPath<String>,
    State(broadcast): State<Broadcast>,
    uri: Uri,
) -> Result<Response, WireError> {
    let mut query = Query::parse(uri.query().unwrap_or_default(), &["namespace"])?;
    backend.may(backend.rights.find(), "find")?;
    query.whom.named = Named {
        users: vec![user_in_path(&id)?.as_str().to_owned()],
        ..Named::default()
    };
    query.whom.everyone = false;
    let whom = query.whom.granted(&backend, None)?;
    match one(&broadcast, &whom, Of::Users).await? {
        Some(Row::User(it)) => Ok(Json(User::from(it)).into_response()),
        _ => Err(not_there("this user is not connected")),
    }
}

/// The rooms that somebody is in.
pub(super) async fn rooms(
    backend: Backend,
    State(broadcast): State<Broadcast>,
    uri: Uri,
) -> Result<Response, WireError> {
    let known = ["namespace", "prefix", "kind", "limit", "cursor"];
    let mut query = Query::parse(uri.query().unwrap_or_default(), &known)?;
    backend.may(backend.rights.find(), "find")?;
    let namespace = granted_namespace(&backend, query.whom.namespace.take())?;
    let kinds = match &*query.kinds {
        [] => &[RoomKind::Room],
        kinds => kinds,
    };
    let filter = RoomFilter::granted(&backend.rights, kinds, query.prefix.clone());
    let whom = Selected {
        namespace: Some(namespace),
        selection: Selection::default(),
    };
    answer(&backend, &broadcast, &query, whom, Of::Rooms(filter)).await
}

async fn answer(
    backend: &Backend,
    broadcast: &Broadcast,
    query: &Query,
    whom: Selected,
    of: Of,
) -> Result<Response, WireError> {
    let page = query.page(of)?;
    let namespace = whom.namespace.unwrap_or_default();
    let until = Instant::now() + ANSWERS;
    let listed = broadcast.page(&namespace, &whom.selection, &page, until);
    let Listed { rows, next, silent } = listed.await.map_err(|reason| unheard(&reason))?;
    let next = next.map(|key| query.next(&page.of, &key));
    let mut answer = Answer {
        sockets: None,
        users: None,
        rooms: None,
        next,
        silent,
    };
    match page.of {
        Of::Sockets { .. } => answer.sockets = Some(Vec::with_capacity(rows.len())),
        Of::Users => answer.users = Some(Vec::with_capacity(rows.len())),
        Of::Rooms(_) => answer.rooms = Some(Vec::with_capacity(rows.len())),
    }
    for row in rows {
        match row {
            Row::Socket(it) => {
                let socket = Socket::new(it, &namespace, &backend.rights);
                answer.sockets.get_or_insert_default().push(socket);
            }
            Row::User(it) => answer.users.get_or_insert_default().push(it.into()),
            Row::Room(it) => answer.rooms.get_or_insert_default().push(it.into()),
        }
    }
    Ok(Json(answer).into_response())
}

/// The one that there may be of a selection; an error if a server that may have it does not answer.
async fn one(broadcast: &Broadcast, whom: &Selected, of: Of) -> Result<Option<Row>, WireError> {
    let page = Page {
        of,
        after: None,
        limit: 1,
    };
    let namespace = whom.namespace.as_deref().unwrap_or_default();
    let until = Instant::now() + ANSWERS;
    let listed = broadcast.page(namespace, &whom.selection, &page, until);
    let Listed { rows, silent, .. } = listed.await.map_err(|reason| unheard(&reason))?;
    match (rows.into_iter().next(), silent) {
        (Some(row @ Row::Socket(_)), _) | (Some(row), None) => Ok(Some(row)),
        (_, Some(silent)) => {
            let message = "servers of the cluster do not answer";
            Err(WireError::temporary("cluster_unavailable", message).with_details(&silent))
        }
        (None, None) => Ok(None),
    }
}

fn unheard(reason: &Unheard) -> WireError {
    WireError::temporary("cluster_unavailable", reason.to_string())
}

fn not_there(message: &'static str) -> WireError {
    WireError::new("not_found", message)
}

impl Socket {
    fn new(socket: listing::Socket, namespace: &str, rights: &Grants) -> Self {
        let listing::Socket {
            id,
            user,
            mut rooms,
            address,
            recovered,
            since,
            data,
        } = socket;
        rooms.retain(|room| rights.room(room));
        Self {
            id,
            namespace: namespace.to_owned(),
            user,
            rooms,
            address,
            recovered,
            since: date(since),
            data,
        }
    }
}

impl From<listing::User> for User {
    fn from(user: listing::User) -> Self {
        let listing::User {
            person,
            sockets,
            since,
        } = user;
        Self {
            person,
            sockets,
            since: date(since),
        }
    }
}

impl From<listing::Room> for Room {
    fn from(room: listing::Room) -> Self {
        Self {
            kind: RoomKind::of(&room.name),
            name: room.name,
            sockets: room.sockets,
        }
    }
}

/// As JavaScript's `toISOString` writes it.
fn date(milliseconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds));
    humantime::format_rfc3339_millis(time.unwrap_or(UNIX_EPOCH)).to_string()
}

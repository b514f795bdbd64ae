//! `POST /api/v1/sockets/join`, `leave` and `disconnect`: what happens to the sockets of a selection.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{
    auth::Backend,
    body::{JsonBody, object},
    check_room,
    whom::{Whom, invalid},
};
use crate::{
    broadcast::Broadcast, capability::check_room_name, cluster::Change, error::WireError,
    selected::Named,
};

/// How many rooms sockets join or leave at once.
const MAX_ROOMS: usize = 100;

/// A request as a backend writes it; each has some of the last three.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    namespace: Option<String>,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    sockets: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    everyone: bool,
    /// The rooms that they join.
    join: Option<Vec<String>>,
    /// The rooms that they leave.
    leave: Option<Vec<String>>,
    /// Whether the transports of their clients end, too.
    close: Option<bool>,
}

/// What happens to sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Join,
    Leave,
    Disconnect,
}

/// The answer.
#[derive(Serialize)]
pub(super) struct Done {
    /// How many sockets it has happened to; not known in a cluster, where it happens on others, too.
    selected: Option<usize>,
}

/// Has sockets join rooms.
pub(super) async fn join(
    backend: Backend,
    State(broadcast): State<Broadcast>,
    JsonBody(body): JsonBody,
) -> Result<Json<Done>, WireError> {
    perform(Act::Join, &backend, broadcast, object(&body)?).await
}

/// Has sockets leave rooms.
pub(super) async fn leave(
    backend: Backend,
    State(broadcast): State<Broadcast>,
    JsonBody(body): JsonBody,
) -> Result<Json<Done>, WireError> {
    perform(Act::Leave, &backend, broadcast, object(&body)?).await
}

/// Ends the connections of sockets.
pub(super) async fn disconnect(
    backend: Backend,
    State(broadcast): State<Broadcast>,
    JsonBody(body): JsonBody,
) -> Result<Json<Done>, WireError> {
    perform(Act::Disconnect, &backend, broadcast, object(&body)?).await
}

async fn perform(
    act: Act,
    backend: &Backend,
    broadcast: Broadcast,
    written: Written,
) -> Result<Json<Done>, WireError> {
    let Written {
        namespace,
        rooms,
        users,
        roles,
        sockets,
        except,
        everyone,
        join,
        leave,
        close,
    } = written;
    let whom = Whom {
        namespace,
        named: Named {
            rooms,
            users,
            roles,
            sockets,
            except,
        },
        everyone,
    };
    whom.check()?;
    let change = match (act, join, leave, close) {
        (Act::Join, Some(rooms), None, None) => Change::Join(granted_rooms(backend, rooms)?),
        (Act::Leave, None, Some(rooms), None) => Change::Leave(granted_rooms(backend, rooms)?),
        (Act::Disconnect, None, None, close) => {
            backend.may(backend.rights.disconnect(), "disconnect")?;
            Change::Disconnect {
                close: close.unwrap_or_default(),
            }
        }
        (Act::Join, ..) => return Err(invalid("say the rooms to \"join\", and nothing else")),
        (Act::Leave, ..) => return Err(invalid("say the rooms to \"leave\", and nothing else")),
        (Act::Disconnect, ..) => return Err(invalid("nothing is joined or left here")),
    };
    let whom = whom.granted(backend, None)?;
    check_room(&broadcast)?;
    // Not on a thread that serves sockets: there may be very many.
    let performing = spawn_blocking(move || {
        let selected = (!broadcast.is_clustered()).then(|| whom.count(None, &broadcast));
        whom.change(None, &broadcast, change);
        selected
    });
    let failed = |_| WireError::new("internal", "the server failed");
    let selected = performing.await.map_err(failed)?;
    Ok(Json(Done { selected }))
}

/// The rooms, if the backend may have sockets join and leave them.
fn granted_rooms(backend: &Backend, rooms: Vec<String>) -> Result<Vec<String>, WireError> {
    backend.may(backend.rights.moves(), "move")?;
    if !(1..=MAX_ROOMS).contains(&rooms.len()) {
        return Err(invalid(format!("name 1 to {MAX_ROOMS} rooms")));
    }
    for room in &rooms {
        backend.may(backend.rights.room(room), format_args!("room:{room}"))?;
        check_room_name(room).map_err(invalid)?;
    }
    Ok(rooms)
}

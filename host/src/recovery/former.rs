//! What is kept of a connection that dropped.

use std::sync::Arc;

use super::{Stream, stream::State};
use crate::{
    auth::Verifier,
    broadcast::PAYMENTS_ROOM,
    data::Data,
    settings::Settings,
    transport::{Selection, SocketKey},
    user::{User, UserId},
};

/// A connection that dropped and may come back.
#[derive(Debug, Clone)]
pub struct Former {
    /// The private id that its client identifies itself with.
    pub pid: String,
    /// The public id.
    pub id: String,
    /// What broadcasts that leave it out know it by.
    pub key: SocketKey,
    /// What it alone was sent.
    pub stream: Arc<Stream>,
    /// The rooms it was in.
    pub rooms: Vec<String>,
    /// What plugins kept with it.
    pub data: Arc<Data>,
    /// Whose it was, and the token that said so.
    pub user: Option<(UserId, String)>,
}

impl Former {
    /// Whose the connection is when it comes back, with `verified` for the token that the client
    /// has shown now. None if it may not come back: as somebody else, or with the token of then,
    /// which is not good any more.
    pub fn identity(
        &self,
        verified: Option<&(User, String)>,
        verifier: Option<&Verifier>,
    ) -> Option<Option<(User, String)>> {
        match (&self.user, verified) {
            (None, None) => Some(None),
            (None, Some(_)) => None,
            (Some((id, _)), Some(verified)) => {
                (*id == verified.0.id).then(|| Some(verified.clone()))
            }
            (Some((_, token)), None) => {
                let user = verifier?.verify(token).ok()?;
                Some(Some((user, token.clone())))
            }
        }
    }

    /// Leaves it only the rooms that it would be let into now.
    pub fn retain_rooms(&mut self, user: Option<&User>, settings: &Settings) {
        let own = user.map(User::rooms).unwrap_or_default();
        let roles = user.map(|user| user.roles.as_slice()).unwrap_or_default();
        let payments = settings.payments.admits(user.is_some(), roles);
        let allowed = |room: &str| match room {
            PAYMENTS_ROOM => payments,
            room if User::is_own_room(room) => own.iter().any(|own| own == room),
            _ => true,
        };
        self.rooms.retain(|room| allowed(room));
        self.stream.lock().forget_rooms(allowed);
    }

    /// Whether a broadcast with this number was for it, with the state of its stream.
    pub fn was_selected(&self, stream: &State, selection: &Selection, broadcast: u64) -> bool {
        let was_in = |room: &String| {
            let then = stream.was_in(room, broadcast);
            then.unwrap_or_else(|| self.rooms.contains(room))
        };
        let excepted = selection
            .except_socket
            .is_some_and(|key| key.is_same_client(&self.key));
        !excepted
            && !selection
                .except
                .iter()
                .any(|other| *other == self.id || was_in(other))
            && (selection.is_everyone()
                || selection.sockets.contains(&self.id)
                || selection.rooms.iter().any(was_in))
    }
}

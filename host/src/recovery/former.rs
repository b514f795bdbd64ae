//! What is kept of a connection that dropped.

use crate::{
    auth::Verifier,
    broadcast::PAYMENTS_ROOM,
    settings::Settings,
    transport::SocketKey,
    user::{User, UserId},
};

/// A connection that dropped and may come back.
#[derive(Debug, Clone)]
pub struct Former {
    /// The private id that its client identifies itself with.
    pub pid: String,
    /// The public id.
    pub id: String,
    /// What the log knows it by.
    pub key: SocketKey,
    /// The rooms it was in.
    pub rooms: Vec<String>,
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
        verifier: &Verifier,
    ) -> Option<Option<(User, String)>> {
        match (&self.user, verified) {
            (None, None) => Some(None),
            (None, Some(_)) => None,
            (Some((id, _)), Some(verified)) => {
                (*id == verified.0.id).then(|| Some(verified.clone()))
            }
            (Some((_, token)), None) => {
                let user = verifier.verify(token).ok()?;
                Some(Some((user, token.clone())))
            }
        }
    }

    /// Leaves it only the rooms that it would be let into now.
    pub fn retain_rooms(&mut self, user: Option<&User>, settings: &Settings) {
        let own = user.map(User::rooms).unwrap_or_default();
        let roles = user.map(|user| user.roles.as_slice()).unwrap_or_default();
        let payments = settings.payments.admits(user.is_some(), roles);
        self.rooms.retain(|room| match room.as_str() {
            PAYMENTS_ROOM => payments,
            room if User::is_own_room(room) => own.iter().any(|own| own == room),
            _ => true,
        });
    }
}

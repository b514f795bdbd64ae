//! Which sockets a selection means. socketioxide's adapter knows who is in which room.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions};

use super::{super::selection::Selection, Adapter, CATCHING_UP};
use crate::transport::{engine::Session, key::SessionKey};

impl Adapter {
    /// The sockets of a selection whose clients know that they are connected, but for those that
    /// are catching up.
    pub fn selected(&self, selection: &Selection) -> Vec<SessionKey> {
        let members = self.members(&self.sockets(selection));
        members.into_iter().map(|(socket, _)| socket).collect()
    }

    /// How many these are.
    pub fn count(&self, selection: &Selection) -> usize {
        let sockets = self.sockets(selection);
        let members = self.members.read();
        let is_here = |socket: &&SessionKey| members.session(**socket).is_some();
        sockets.iter().filter(is_here).count()
    }

    /// The rooms that some socket is in, also one that is not let in yet.
    pub(crate) fn all_rooms(&self) -> HashSet<Cow<'static, str>> {
        self.local.rooms(self.options(&Selection::default()))
    }

    /// The sockets of a selection, also of those that do not know yet. A plugin may name very many: no name costs more
    /// than a look-up.
    pub(super) fn sockets(&self, selection: &Selection) -> Vec<SessionKey> {
        let Selection {
            rooms,
            sockets,
            except,
            ..
        } = selection;
        let options = self.options(selection);
        if sockets.is_empty() && except.is_empty() {
            return self.local.sockets(options);
        }
        let with_id = |ids: &[String]| -> HashSet<SessionKey> {
            let members = self.members.read();
            ids.iter().filter_map(|id| members.socket(id)).collect()
        };
        let mut selected = with_id(sockets);
        if !selected.is_empty() && !options.except.is_empty() {
            let mut excepted = BroadcastOptions::default();
            excepted.rooms = options.except.clone();
            for socket in self.local.sockets(excepted) {
                selected.remove(&socket);
            }
        }
        if let Some(sender) = options.sid {
            selected.remove(&sender);
        }
        if !rooms.is_empty() || sockets.is_empty() {
            selected.extend(self.local.sockets(options));
        }
        let excepted = with_id(except);
        selected.difference(&excepted).copied().collect()
    }

    fn options(&self, selection: &Selection) -> BroadcastOptions {
        let mut options = BroadcastOptions::default();
        options.rooms = selection.rooms.iter().cloned().map(Cow::Owned).collect();
        options.except = selection.except.iter().cloned().map(Cow::Owned).collect();
        options.sid = selection.except_socket.map(|socket| socket.session);
        if self.journal.is_some() {
            options.except.push(CATCHING_UP.into());
        }
        // The flag means "not to `sid`"; without rooms it is also what selects everybody.
        options.add_flag(BroadcastFlags::Broadcast);
        options
    }

    pub(super) fn member(&self, socket: SessionKey) -> Option<Arc<Session>> {
        let members = self.members.read();
        members.session(socket).cloned()
    }

    /// Those of the sockets that are connected.
    pub(super) fn members(&self, sockets: &[SessionKey]) -> Vec<(SessionKey, Arc<Session>)> {
        let members = self.members.read();
        let member = |socket: &SessionKey| Some((*socket, members.session(*socket)?.clone()));
        sockets.iter().filter_map(member).collect()
    }
}

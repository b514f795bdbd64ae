//! Connections that end and come back: here, or from another server of the cluster.

use std::sync::Arc;

use super::{
    super::{packet::Packet, selection::Selection},
    Adapter, CATCHING_UP,
};
use crate::{
    address::ClientAddress,
    cluster::{EntryId, Kept, Written},
    message::Message,
    recovery::{Former, Replay, Returning, Stream},
    transport::{
        engine::{Forms, Pushed, Session},
        key::{SessionKey, SocketKey},
    },
    user::UserId,
};

impl Adapter {
    /// The stream of a new connection; none if connections cannot come back here.
    pub fn begin(&self, socket: SocketKey) -> Option<Arc<Stream>> {
        let journal = self.journal.as_ref()?;
        Some(journal.begin(socket.session))
    }

    /// Notes that a connection has lost its socket, and keeps what `former` makes of it. Called
    /// before the socket leaves its rooms.
    pub fn end(&self, socket: SocketKey, stream: &Stream, former: impl FnOnce() -> Option<Former>) {
        if let Some(journal) = &self.journal {
            journal.end(stream, socket.session, former);
        }
    }

    /// Has `end` end the connection that a client has still, as far as is known here, while it is
    /// back over another one, and returns when it is gone; at once if `end` says that it stays.
    pub async fn supersede(
        &self,
        pid: &str,
        socket: SessionKey,
        end: impl FnOnce(SessionKey) -> bool,
    ) {
        self.present.supersede(pid, socket, end).await;
    }

    /// The connection of a client that is back as `user`; see [`Journal::take`].
    pub fn take_former(
        &self,
        pid: &str,
        offset: Option<&str>,
        user: Option<&UserId>,
    ) -> Option<Returning> {
        self.journal.as_ref()?.take(pid, offset, user)
    }

    /// The connection of a client that had it on another server; see [`Journal::adopt`].
    pub(crate) fn adopt(
        &self,
        kept: Kept,
        offset: Option<&str>,
        address: ClientAddress,
    ) -> Option<Returning> {
        let Kept {
            carried, events, ..
        } = kept;
        self.journal
            .as_ref()?
            .adopt(carried, events, offset, address)
    }

    /// What other servers are to know of a connection; none on a server on its own.
    pub(crate) fn carry(&self, former: &Former) -> Option<Written> {
        let (journal, cluster) = (self.journal.as_ref()?, self.cluster()?);
        let (carried, events) = journal.carry(former, cluster.name(), self.namespace());
        Some(Written { carried, events })
    }

    /// Puts a connection that has come back into its rooms. It gets nothing before
    /// [`Adapter::catch_up`].
    pub fn resume(&self, socket: SocketKey, returning: Returning) -> Option<Replay> {
        let mut rooms = returning.former.rooms.clone();
        rooms.push(CATCHING_UP.to_owned());
        let join = || self.local.add_all(socket.session, rooms);
        self.journal
            .as_ref()?
            .resume(socket.session, returning, join)
    }

    /// Sends a connection what it missed; from now on it gets what others get. False if some of
    /// it is gone, so that the connection must end.
    pub fn catch_up(&self, socket: SocketKey, session: &Arc<Session>, replay: Replay) -> bool {
        let Some(journal) = &self.journal else {
            return false;
        };
        let rooms = || self.rooms(socket);
        // One packet to the outbox: the log bounds how large they are, so their number does not matter.
        let send = |packets: &[Packet]| {
            let frames: Vec<&[u8]> = packets.iter().map(|packet| &packet.frames()[..]).collect();
            let pushed = session.push(&Forms::new(&frames.concat().into()), false);
            matches!(pushed, Pushed::Taken | Pushed::Waiting)
        };
        let leave = || self.local.del(socket.session, vec![CATCHING_UP.to_owned()]);
        let complete = journal.catch_up(socket.session, replay, rooms, send, leave);
        session.flush();
        complete
    }

    /// It gets, or has got, all broadcasts from this one on.
    pub(crate) fn start_at(&self, entry: EntryId) {
        if let Some(journal) = &self.journal {
            journal.start_at(entry.number());
        }
    }

    /// A broadcast was sent before this server was there, and is for those only who come here from others.
    pub(crate) fn remember(&self, entry: EntryId, to: Selection, event: &str, message: Message) {
        if let Some(journal) = &self.journal {
            let encode = |place: &str| Packet::event(self.namespace(), event, message, Some(place));
            journal.broadcasts().push(Some(entry), to, encode);
        }
    }

    /// Entries of the cluster's stream were lost: who drops now, or has dropped, starts afresh.
    pub(crate) fn interrupt(&self) {
        if let Some(journal) = &self.journal {
            journal.interrupt();
        }
    }
}

//! What a change does to the sockets of this server.

use std::sync::Arc;

use super::Broadcast;
use crate::{
    cluster::{Change, EntryId},
    connection::Connection,
    presence::{self, Lost},
    reserved::is_reserved,
    telemetry::Span,
    transport::Selection,
};

impl Broadcast {
    /// Changes sockets of a namespace that are here; of a cluster, as an `entry` of its stream says.
    pub(crate) fn perform(
        &self,
        entry: Option<EntryId>,
        namespace: &str,
        to: Selection,
        change: Change,
    ) {
        let change = match change {
            Change::Keep(kept) => {
                // On a server on its own it is kept at once.
                if let Some(id) = entry {
                    self.history.keep_entry(id, kept);
                }
                return;
            }
            Change::Presence(news) => {
                let lost = self.presence().hear(news);
                lost.iter().for_each(|lost| self.begin_anew(lost));
                return;
            }
            Change::Tell(message) => match self.presence().hear_told(namespace, &message) {
                Some(message) => Change::Tell(message),
                None => return,
            },
            change => change,
        };
        let Some(adapter) = self.namespaces.get(namespace) else {
            if let Some(id) = entry {
                self.keep_unopened(id, namespace, to, change);
            }
            return;
        };
        let selected = |to| self.connections.of(&adapter.selected(to), namespace);
        match change {
            Change::Emit {
                event,
                message,
                volatile,
                sender,
            } => {
                let span = Span::delivers(self.tracer(), sender, namespace, &event);
                let delivery = adapter.broadcast(entry, to, &event, message, volatile);
                span.reached(delivery.delivered);
            }
            Change::Tell(message) => {
                adapter.broadcast(entry, to, presence::EVENT, message, false);
            }
            Change::Keep(_) | Change::Presence(_) => {}
            Change::Join(rooms) => join(&selected(&to), &rooms),
            Change::Leave(rooms) => {
                let leave = |it: &Arc<Connection>| it.leave(rooms.clone());
                selected(&to).iter().for_each(leave);
            }
            Change::Release => {
                let end = |it: &Arc<Connection>| it.end_transport();
                selected(&to).iter().for_each(end);
            }
            Change::Disconnect { close } => {
                let end = |it: &Arc<Connection>| self.connections.disconnect(it, close);
                selected(&to).iter().for_each(end);
            }
        }
    }

    /// Changes sockets of a namespace that are here while the cluster's Redis is away.
    pub(super) fn perform_alone(&self, namespace: &str, to: Selection, change: Change) {
        match change {
            Change::Emit {
                event,
                message,
                volatile,
                sender,
            } => {
                let _span = Span::delivers(self.tracer(), sender, namespace, &event);
                if let Some(adapter) = self.namespaces.get(namespace) {
                    adapter.broadcast_alone(to, &event, message, volatile);
                }
            }
            Change::Tell(message) => {
                let new = self.presence().hear_told_alone(namespace, &message);
                if let (Some(message), Some(adapter)) = (new, self.namespaces.get(namespace)) {
                    adapter.broadcast_alone(to, presence::EVENT, message, false);
                }
            }
            Change::Keep(kept) => self.history.keep_ahead(kept),
            Change::Presence(news) => self.presence().do_alone(&news),
            change => self.perform(None, namespace, to, change),
        }
    }

    /// Others have taken this server for gone, and a connection of its for lost: its client connects anew.
    fn begin_anew(&self, lost: &Lost) {
        let Some(adapter) = self.namespaces.get(&lost.namespace) else {
            return;
        };
        let its = Selection {
            sockets: vec![lost.connection.clone()],
            ..Selection::default()
        };
        let its = self
            .connections
            .of(&adapter.selected(&its), &lost.namespace);
        its.iter().for_each(|connection| connection.end_transport());
    }
}

fn join(connections: &[Arc<Connection>], rooms: &[String]) {
    // Who is in those of the host, it decides itself.
    for room in rooms.iter().filter(|room| !is_reserved(room)) {
        let stays_out = |it: &&Arc<Connection>| it.join_one_more(room.clone()).is_err();
        let left_out = connections.iter().filter(stays_out).count();
        if left_out > 0 {
            tracing::warn!(
                room,
                connections = left_out,
                "connections stay out of a room: they are in socket.max_rooms already"
            );
        }
    }
}

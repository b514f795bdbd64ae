//! `mixlab:plugin/emit`: events to clients.

use super::{State, checked_event, denied};
use crate::{
    connection::Connection,
    effect::Effect,
    guest::{Error, Message, emit, types},
    namespace::MAIN_NAMESPACE,
    selected::{Named, Selected, Unreachable},
};

impl emit::Host for State {
    fn emit(
        &mut self,
        target: types::Target,
        event: String,
        message: Message,
        options: emit::Options,
    ) -> wasmtime::Result<Result<(), Error>> {
        let attachments: usize = message.attachments.iter().map(Vec::len).sum();
        let topic = options.keep.as_ref().map_or(0, String::len);
        let bytes = event.len() + message.arguments.len() + attachments + topic;
        self.meter.host_call(target_size(&target) + bytes)?;
        Ok(self.emit_event(target, event, message, options))
    }
}

impl State {
    fn emit_event(
        &mut self,
        target: types::Target,
        event: String,
        message: Message,
        options: emit::Options,
    ) -> Result<(), Error> {
        let emit::Options { volatile, keep } = options;
        if !self.grants().emit(&event) {
            return Err(denied(format_args!("emit:{event}")));
        }
        checked_event(&event)?;
        if let Some(topic) = &keep {
            self.granted_topic(topic)?;
        }
        let message = self.checked(message)?;
        self.record(match target {
            types::Target::Sender => Effect::Emit {
                event,
                message,
                volatile,
                keep,
            },
            types::Target::Sockets(selection) => {
                let sockets = self.granted_selection(selection, Some(&event))?;
                Effect::EmitTo {
                    sockets,
                    event,
                    message,
                    volatile,
                    keep,
                }
            }
        })
    }

    /// The sockets of a selection, if the plugin may emit an `event` to them, or do anything else with
    /// them.
    pub(super) fn granted_selection(
        &self,
        selection: types::Selection,
        event: Option<&str>,
    ) -> Result<Selected, Error> {
        let types::Selection {
            namespace,
            rooms,
            users,
            roles,
            sockets,
            except,
            include_sender,
        } = selection;
        let named = Named {
            rooms,
            users,
            roles,
            sockets,
            except,
        };
        let mut selection = named.granted(&self.grants(), event)?;
        let namespace = self.granted_namespace(namespace)?;
        let connection = self.connection.as_ref();
        let sender = connection.filter(|_| namespace.is_none() && !include_sender);
        selection.except_socket = sender.map(|connection| connection.key);
        Ok(Selected {
            namespace,
            selection,
        })
    }

    /// The namespace that is meant; none if it is that of the connection.
    fn granted_namespace(&self, named: Option<String>) -> Result<Option<String>, Error> {
        let own = self.connection.as_deref().map(Connection::namespace);
        match named {
            None if own.is_some() => Ok(None),
            Some(path) if own == Some(&path) => Ok(None),
            None => Ok(Some(MAIN_NAMESPACE.to_owned())),
            Some(path) if path == MAIN_NAMESPACE || self.grants().namespace(&path) => {
                Ok(Some(path))
            }
            Some(path) => Err(denied(format_args!("namespace:{path}"))),
        }
    }
}

impl From<Unreachable> for Error {
    fn from(unreachable: Unreachable) -> Self {
        match unreachable {
            Unreachable::NotGranted(grant) => denied(grant),
            Unreachable::Invalid(reason) => Self::Invalid(reason),
        }
    }
}

/// What the names in a target take as they cross the boundary, in bytes.
pub(super) fn target_size(target: &types::Target) -> usize {
    match target {
        types::Target::Sender => 0,
        types::Target::Sockets(selection) => selection_size(selection),
    }
}

/// What the names in a selection take as they cross the boundary, in bytes: each of them is looked up,
/// so the shortest counts as well.
pub(super) fn selection_size(selection: &types::Selection) -> usize {
    let types::Selection {
        namespace,
        rooms,
        users,
        roles,
        sockets,
        except,
        include_sender: _,
    } = selection;
    let names = [rooms, users, roles, sockets, except].into_iter().flatten();
    let names = names.chain(namespace);
    names.map(|name| name.len() + size_of::<String>()).sum()
}

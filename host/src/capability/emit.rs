//! `mixlab:plugin/emit`: events to clients.

use super::{State, checked_event, denied};
use crate::{
    effect::Effect,
    guest::{Error, Message, emit, types},
    transport::Selection,
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
        let bytes = event.len() + message.arguments.len() + attachments;
        self.meter.host_call(target_size(&target) + bytes)?;
        Ok(self.emit_event(target, event, message, options.volatile))
    }
}

impl State {
    fn emit_event(
        &mut self,
        target: types::Target,
        event: String,
        message: Message,
        volatile: bool,
    ) -> Result<(), Error> {
        if !self.grants().emit(&event) {
            return Err(denied(format_args!("emit:{event}")));
        }
        checked_event(&event)?;
        let message = self.checked(message)?;
        self.record(match target {
            types::Target::Sender => Effect::Emit {
                event,
                message,
                volatile,
            },
            types::Target::Sockets(selection) => {
                let selection = self.granted_selection(selection)?;
                Effect::EmitTo {
                    selection,
                    event,
                    message,
                    volatile,
                }
            }
        })
    }

    pub(super) fn granted_selection(
        &self,
        selection: types::Selection,
    ) -> Result<Selection, Error> {
        let types::Selection {
            rooms,
            sockets,
            except,
            include_sender,
        } = selection;
        if rooms.is_empty() && sockets.is_empty() && !self.grants().everyone() {
            return Err(denied("everyone"));
        }
        if !sockets.is_empty() && !self.grants().socket() {
            return Err(denied("socket"));
        }
        if let Some(room) = rooms.iter().find(|room| !self.grants().room(room)) {
            return Err(denied(format_args!("room:{room}")));
        }
        let except_socket = if include_sender {
            None
        } else {
            Some(self.connection()?.key)
        };
        Ok(Selection {
            rooms,
            sockets,
            except,
            except_socket,
        })
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
        rooms,
        sockets,
        except,
        include_sender: _,
    } = selection;
    let names = rooms.iter().chain(sockets).chain(except);
    names.map(|name| name.len() + size_of::<String>()).sum()
}

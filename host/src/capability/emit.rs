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
        self.meter
            .host_call(event.len() + message.arguments.len() + attachments)?;
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

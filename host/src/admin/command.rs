//! What pages may do to sockets, unless they may only look.

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::Admin;
use crate::{
    audit::Entry,
    broadcast::Broadcast,
    capability::{check_room_name, is_reserved_event},
    cluster::{self, Change},
    message::{Arguments, Message},
    namespace::is_namespace,
    reserved::is_reserved,
    transport::Selection,
};

/// So many may wait for those before them; there may be very many sockets.
pub(super) const MAX_WAITING: usize = 64;

/// Longer names, in bytes, are passed over: they are written to logs.
const MAX_NAMESPACE: usize = 512;

/// What is to happen to sockets of a namespace.
#[derive(Debug)]
pub(super) struct Command {
    namespace: String,
    /// A room, or the id of a socket, which is in a room of that name in Node; without one it is everybody.
    filter: Option<String>,
    change: Change,
}

/// Why it is not understood, or not allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Invalid {
    #[error("no command")]
    Unknown,
    #[error("its arguments are not those of the command")]
    Arguments,
    #[error("{0}")]
    Name(String),
    #[error("the server keeps the room itself")]
    Reserved,
    #[error("no such namespace")]
    Namespace,
    #[error("the event is one of Socket.IO's own, or of the host's")]
    Event,
}

/// Why a page does not get what it wants.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("pages may only look")]
    ReadOnly,
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Full(#[from] cluster::Full),
    #[error("too many commands wait")]
    Waiting,
}

impl Command {
    /// `emit (namespace, filter, event, …)`, `join` and `leave (namespace, room, filter)`, `_disconnect (namespace, close,
    /// filter)`.
    fn read(event: &str, message: Message) -> Result<Self, Invalid> {
        let Message {
            arguments,
            attachments,
        } = message;
        let arguments: Vec<Box<RawValue>> =
            serde_json::from_str(arguments.as_str()).map_err(|_| Invalid::Arguments)?;
        let text = |at: usize| -> Result<String, Invalid> {
            let argument = arguments.get(at).ok_or(Invalid::Arguments)?;
            serde_json::from_str(argument.get()).map_err(|_| Invalid::Arguments)
        };
        let named = |name: &str| check_room_name(name).map_err(Invalid::Name);
        let filter = |at: usize| -> Result<Option<String>, Invalid> {
            let written = arguments.get(at).map_or("null", |filter| filter.get());
            let filter: Option<String> =
                serde_json::from_str(written).map_err(|_| Invalid::Arguments)?;
            // As in Node, where a text without letters is none.
            let filter = filter.filter(|it| !it.is_empty());
            filter.as_deref().map_or(Ok(()), named)?;
            Ok(filter)
        };
        let room = |at| {
            let room = text(at)?;
            named(&room)?;
            match is_reserved(&room) {
                true => Err(Invalid::Reserved),
                false => Ok(vec![room]),
            }
        };
        let takes = |most: usize| match arguments.len() <= most {
            true => Ok(()),
            false => Err(Invalid::Arguments),
        };
        let (filter, change) = match event {
            "emit" => {
                let event = text(2)?;
                if is_reserved_event(&event) {
                    return Err(Invalid::Event);
                }
                let rest: Vec<&RawValue> = arguments[3..].iter().map(|it| &**it).collect();
                let message = Message::new(Arguments::from_serialized(&rest), attachments);
                let message = message.map_err(|_| Invalid::Arguments)?;
                let volatile = false;
                let emit = Change::Emit {
                    event,
                    message,
                    volatile,
                    sender: None,
                };
                (filter(1)?, emit)
            }
            "join" => {
                takes(3)?;
                (filter(2)?, Change::Join(room(1)?))
            }
            "leave" => {
                takes(3)?;
                (filter(2)?, Change::Leave(room(1)?))
            }
            "_disconnect" => {
                takes(3)?;
                let close = arguments.get(1).ok_or(Invalid::Arguments)?;
                let close = serde_json::from_str(close.get()).map_err(|_| Invalid::Arguments)?;
                (filter(2)?, Change::Disconnect { close })
            }
            _ => return Err(Invalid::Unknown),
        };
        let namespace = text(0)?;
        if !is_namespace(&namespace) || namespace.len() > MAX_NAMESPACE {
            return Err(Invalid::Namespace);
        }
        Ok(Self {
            namespace,
            filter,
            change,
        })
    }

    /// The room that is joined or left.
    fn room(&self) -> Option<&str> {
        match &self.change {
            Change::Join(rooms) | Change::Leave(rooms) => rooms.first().map(|room| &**room),
            _ => None,
        }
    }

    /// Has it happen, on all servers of a cluster. Takes long where there are very many sockets.
    pub(super) fn perform(self, broadcast: &Broadcast) {
        let Self {
            namespace,
            filter,
            change,
        } = self;
        let to = filter.map_or_else(Selection::default, |name| Selection {
            sockets: vec![name.clone()],
            ..Selection::room(name)
        });
        match change {
            Change::Emit {
                event,
                message,
                volatile,
                sender: _,
            } => {
                broadcast.emit(None, &namespace, to, &event, message, volatile);
            }
            change => broadcast.change(&namespace, to, change),
        }
    }
}

impl Admin {
    /// Has it done what a page wants, if it may, after what was wanted before.
    pub(super) fn obey(&self, page: &str, event: &str, message: Message) {
        let (command, place) = match self.accept(event, message) {
            Ok(accepted) => accepted,
            Err(refused) => {
                match refused {
                    Refused::ReadOnly => tracing::debug!(page, "{refused}"),
                    _ => tracing::warn!(page, "an admin page's event is passed over: {refused}"),
                }
                self.audit.page_refused(page, event, &refused);
                return;
            }
        };
        let namespace = &command.namespace;
        let (filter, room) = (command.filter.as_deref(), command.room());
        tracing::info!(
            page,
            command = event,
            namespace,
            filter,
            room,
            "an admin page's command"
        );
        // As what backends have the server do: their emits are not in it.
        if !matches!(command.change, Change::Emit { .. }) {
            self.audit.write(|| Entry::PageCommanded {
                page,
                command: event.trim_start_matches('_'),
                namespace,
                filter,
                room,
            });
        }
        place.send(command);
    }

    /// What a page wants, and a place for it among those that wait, if it may.
    fn accept(
        &self,
        event: &str,
        message: Message,
    ) -> Result<(Command, mpsc::Permit<'_, Command>), Refused> {
        if self.config.readonly {
            return Err(Refused::ReadOnly);
        }
        let command = Command::read(event, message)?;
        self.broadcast.check_room()?;
        let place = self.commands.try_reserve();
        Ok((command, place.map_err(|_| Refused::Waiting)?))
    }
}

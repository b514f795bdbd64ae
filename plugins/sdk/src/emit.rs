//! Events to clients.
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ask::ask_sockets;
use crate::bindings::mixlab::plugin::types::{Selection, Target};
use crate::host::emit::{self, Options};
use crate::{Answers, Context, Error, Message};

impl Context {
    /// Emits an event with one argument to the sender. Grant: `emit` or `emit:EVENT`.
    pub fn emit(&self, event: &str, argument: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.sender().emit(event, argument)
    }

    /// Emits an event with several arguments to the sender. Grant: `emit` or `emit:EVENT`.
    pub fn emit_args(
        &self,
        event: &str,
        arguments: &(impl Serialize + ?Sized),
    ) -> Result<(), Error> {
        self.sender().emit_args(event, arguments)
    }

    /// Emits an event with a ready-made payload to the sender. Grant: `emit` or `emit:EVENT`.
    pub fn emit_message(&self, event: &str, message: &Message) -> Result<(), Error> {
        self.sender().emit_message(event, message)
    }

    /// An emit to the sender that a client may miss: `cx.volatile().emit(…)`.
    pub fn volatile(&self) -> Emit {
        self.sender().volatile()
    }

    /// An emit to everyone in a room, except for the sender. Grant: `room:ROOM`.
    pub fn to(&self, room: impl Into<String>) -> Emit {
        self.broadcast().to(room)
    }

    /// An emit to the connection with this id, also to the sender's own. Grant: `socket`.
    pub fn to_socket(&self, id: impl Into<String>) -> Emit {
        self.broadcast().to_socket(id).include_sender()
    }

    /// An emit to all connections of the user with this id, the sender's own among them:
    /// `cx.to_user("7").emit("booked", &booking)?`. Grant: `user:ID` or `user:ID:EVENT`.
    pub fn to_user(&self, id: impl Into<String>) -> Emit {
        self.broadcast().to_user(id).include_sender()
    }

    /// An emit to all users with this role, the sender among them. Grant: `role:ROLE` or
    /// `role:ROLE:EVENT`.
    pub fn to_role(&self, role: impl Into<String>) -> Emit {
        self.broadcast().to_role(role).include_sender()
    }

    /// An emit to everyone in another namespace, or in some of its rooms:
    /// `cx.of("/staff").to("studio:7").emit("booked", &booking)?`. Grant: `namespace:/PATH`, but not for
    /// `/`; and `everyone` where no room is named.
    pub fn of(&self, namespace: impl Into<String>) -> Emit {
        self.broadcast().of(namespace)
    }

    /// An emit to everyone in the namespace, except for the sender. Grant: `everyone`.
    pub fn broadcast(&self) -> Emit {
        Emit {
            target: everyone_else(),
            volatile: false,
            keep: None,
        }
    }

    fn sender(&self) -> Emit {
        Emit {
            target: Target::Sender,
            volatile: false,
            keep: None,
        }
    }
}

/// An emit that says whom it is for: `cx.to("studio:7").except("muted").emit("beat", &bpm)?`.
#[derive(Debug)]
#[must_use = "nothing is sent without `emit`"]
pub struct Emit {
    target: Target,
    volatile: bool,
    /// The topic of the history that it is kept in.
    pub(crate) keep: Option<String>,
}

impl Emit {
    /// In this namespace, and not in the sender's. Grant: `namespace:/PATH`, but not for `/`.
    pub fn of(mut self, namespace: impl Into<String>) -> Self {
        self.selection().namespace = Some(namespace.into());
        self
    }

    /// Also to everyone in this room. Grant: `room:ROOM`.
    pub fn to(mut self, room: impl Into<String>) -> Self {
        self.selection().rooms.push(room.into());
        self
    }

    /// Also to the connections of the user with this id. Grant: `user:ID` or `user:ID:EVENT`.
    pub fn to_user(mut self, id: impl Into<String>) -> Self {
        self.selection().users.push(id.into());
        self
    }

    /// Also to users with this role. Grant: `role:ROLE` or `role:ROLE:EVENT`.
    pub fn to_role(mut self, role: impl Into<String>) -> Self {
        self.selection().roles.push(role.into());
        self
    }

    /// Also to the connection with this id. Grant: `socket`.
    pub fn to_socket(mut self, id: impl Into<String>) -> Self {
        self.selection().sockets.push(id.into());
        self
    }

    /// But not to those in this room, `user:ID` and `role:ROLE` among them, or to the connection with this
    /// id.
    pub fn except(mut self, room: impl Into<String>) -> Self {
        self.selection().except.push(room.into());
        self
    }

    /// The sender as well, if it is among those selected.
    pub fn include_sender(mut self) -> Self {
        self.selection().include_sender = true;
        self
    }

    /// May be dropped for a client that is not ready to receive.
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Emits an event with one argument. Grant: `emit` or `emit:EVENT`.
    pub fn emit(&self, event: &str, argument: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        self.emit_message(event, &Message::of(argument)?)
    }

    /// Emits an event with several arguments, as a tuple or anything else that serialises as an
    /// array. Grant: `emit` or `emit:EVENT`.
    pub fn emit_args(
        &self,
        event: &str,
        arguments: &(impl Serialize + ?Sized),
    ) -> Result<(), Error> {
        self.emit_message(event, &Message::of_args(arguments)?)
    }

    /// Emits an event with a ready-made payload. Grant: `emit` or `emit:EVENT`.
    pub fn emit_message(&self, event: &str, message: &Message) -> Result<(), Error> {
        emit::emit(
            &self.target,
            event,
            message,
            &Options {
                volatile: self.volatile,
                keep: self.keep.clone(),
            },
        )
    }

    /// Emits an event with one argument and waits until everyone selected has answered, or the
    /// time is over. It acts at once, like [`Context::ask`]. Grant: `ask` or `ask:EVENT`.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// use mixlab_plugin::prelude::*;
    ///
    /// fn vote(cx: &Context, motion: String) -> Result<usize, Rejection> {
    ///     let votes = cx.to("board").ask::<bool>("vote", &motion, Duration::from_secs(3))?;
    ///     Ok(votes.given.iter().filter(|(_, yes)| *yes).count())
    /// }
    /// ```
    pub fn ask<T: DeserializeOwned>(
        &self,
        event: &str,
        argument: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<Answers<T>, Error> {
        let answers = self.ask_message(event, &Message::of(argument)?, timeout)?;
        Ok(answers.typed())
    }

    /// Emits an event with a ready-made payload and waits for all acks, with their attachments.
    /// Grant: `ask` or `ask:EVENT`.
    pub fn ask_message(
        &self,
        event: &str,
        message: &Message,
        timeout: Duration,
    ) -> Result<Answers<Message>, Error> {
        if self.volatile {
            return Err(Error::Invalid("a volatile emit has no acks".to_owned()));
        }
        if self.keep.is_some() {
            return Err(Error::Invalid("what is asked is not kept".to_owned()));
        }
        ask_sockets(self.sockets()?, event, message, timeout)
    }

    /// Who is selected.
    pub(crate) fn sockets(&self) -> Result<&Selection, Error> {
        match &self.target {
            Target::Sockets(selection) => Ok(selection),
            Target::Sender => Err(Error::Invalid(
                "no rooms: for the sender alone, call it on the context".to_owned(),
            )),
        }
    }

    /// Whom it is for.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The sockets selected. An emit to the sender alone becomes one to the rooms that follow.
    fn selection(&mut self) -> &mut Selection {
        if matches!(self.target, Target::Sender) {
            self.target = everyone_else();
        }
        match &mut self.target {
            Target::Sockets(selection) => selection,
            Target::Sender => unreachable!("replaced above"),
        }
    }
}

fn everyone_else() -> Target {
    Target::Sockets(Selection {
        namespace: None,
        rooms: Vec::new(),
        users: Vec::new(),
        roles: Vec::new(),
        sockets: Vec::new(),
        except: Vec::new(),
        include_sender: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emit_is_for_the_rooms_it_names() {
        let mut emit = Emit {
            target: Target::Sender,
            volatile: false,
            keep: None,
        };
        emit = emit.volatile().to("a").to("b").except("c").include_sender();
        emit = emit
            .to_socket("s1")
            .of("/staff")
            .to_user("7")
            .to_role("admin");
        let selection = emit.selection();
        assert_eq!(selection.namespace.as_deref(), Some("/staff"));
        assert_eq!(selection.rooms, ["a", "b"]);
        assert_eq!(selection.users, ["7"]);
        assert_eq!(selection.roles, ["admin"]);
        assert_eq!(selection.sockets, ["s1"]);
        assert_eq!(selection.except, ["c"]);
        assert!(selection.include_sender);
        assert!(emit.volatile);
        assert_eq!(emit.keep("chat:42").keep.as_deref(), Some("chat:42"));
    }
}

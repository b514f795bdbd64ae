//! One page, and all that are open.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;

use super::Admin;
use crate::{
    message::{Arguments, Message, split_event},
    transport::{EndReason, Malformed, Packet, Receiver, Session},
};

/// So many may be open: each is told everything.
const MAX_PAGES: usize = 64;

/// A page's connection, for what it sends.
pub(super) struct Page {
    /// Its public id.
    pub id: String,
    pub admin: Arc<Admin>,
}

impl Receiver for Page {
    fn id(&self) -> &str {
        &self.id
    }

    fn event(&self, array: &str, attachments: Vec<Bytes>, _: Option<i64>) -> Result<(), Malformed> {
        let Ok((event, arguments)) = split_event(array) else {
            return Err(Malformed);
        };
        match Message::new(arguments, attachments) {
            Ok(message) => self.admin.obey(&self.id, &event, message),
            Err(error) => tracing::debug!(page = self.id, %error, "an admin page sent something"),
        }
        Ok(())
    }

    fn oversized(&self, _: &str, _: Option<i64>) -> Result<(), Malformed> {
        tracing::warn!(
            page = self.id,
            "an admin page sent more attachments than the server takes"
        );
        Ok(())
    }

    fn acked(&self, _: Option<i64>, _: &str, _: Vec<Bytes>) -> Result<(), Malformed> {
        // It is asked nothing.
        Ok(())
    }

    fn ended(&self, _: EndReason) {
        self.admin.pages.remove(&self.id);
    }
}

/// All pages that are open.
pub(super) struct Pages {
    namespace: Box<str>,
    /// By public id; none while one is let in.
    sessions: Mutex<BTreeMap<String, Option<Arc<Session>>>>,
}

impl Pages {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            sessions: Mutex::default(),
        }
    }

    /// One is about to be let in; false if there are as many as there may be.
    pub(super) fn expect(&self, id: &str) -> bool {
        let mut sessions = self.sessions.lock();
        let has_room = sessions.len() < MAX_PAGES;
        if has_room {
            sessions.insert(id.to_owned(), None);
        }
        has_room
    }

    /// It is let in: the first that it hears is that.
    pub(super) fn introduce(&self, id: &str, session: &Arc<Session>) {
        #[derive(Serialize)]
        struct Introduction<'a> {
            sid: &'a str,
        }
        let introduction = serde_json::to_string(&Introduction { sid: id });
        let introduction = introduction.expect("texts always serialise");
        session.introduce(&self.namespace, &introduction);
        session.show_introduction();
    }

    /// It is told what all are told from now on, unless it is gone again.
    pub(super) fn open(&self, id: &str, session: &Arc<Session>) {
        if let Some(place) = self.sessions.lock().get_mut(id) {
            *place = Some(session.clone());
        }
    }

    pub(super) fn remove(&self, id: &str) {
        self.sessions.lock().remove(id);
    }

    pub(super) fn count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Those that are told.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().values().flatten().cloned().collect()
    }

    /// Emits an event with one argument.
    pub(super) fn emit<T: Serialize>(&self, pages: &[Arc<Session>], event: &str, argument: &T) {
        self.emit_all(pages, event, &(argument,));
    }

    /// Emits an event with these arguments, a tuple, to pages, or ends those that read too slowly for it.
    pub(super) fn emit_all<T: Serialize>(
        &self,
        pages: &[Arc<Session>],
        event: &str,
        arguments: &T,
    ) {
        let arguments = serde_json::to_string(arguments).expect("texts and JSON always serialise");
        let message = Message::text(Arguments::known(arguments));
        let packet = Packet::event(&self.namespace, event, message, None);
        let forms = packet.forms();
        pages.iter().for_each(|page| page.send_event(&forms));
    }
}

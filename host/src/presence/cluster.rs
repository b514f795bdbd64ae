//! Presence among the servers of a cluster: what is said, heard and told, and who is asked for what was missed.

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Lost, Place, Presence, State,
    shared::{Shared, Side},
    shown::{read_told, told},
    steps::{Done, News, Step},
    table::Change,
    until,
};
use crate::{message::Message, transport::Selection};

/// How long another server may take to tell what it knows.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// Servers that have said nothing for so long when this one starts, or has missed something, are not waited for.
const THERE_WITHIN: Duration = Duration::from_secs(5);

impl Presence {
    /// As [`Presence::tell`] in a cluster, where `send` sends what is said here. It is said where connections are locked, and sending
    /// may do what somebody else has sent.
    pub(crate) async fn tell_together(
        &self,
        emit: impl Fn(&str, Selection, Message),
        send: impl Fn(News),
    ) {
        loop {
            let due = {
                let state = self.state.lock();
                let shared = state.shared.as_ref();
                shared.and_then(|shared| shared.next_due(&state.side))
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = until(due) => {}
            }
            let changes = {
                let State { side, shared } = &mut *self.state.lock();
                let Some(shared) = shared else { return };
                shared.expire(side);
                shared.take_due(side)
            };
            self.take_said().into_iter().for_each(&send);
            for (place, change) in changes {
                let room = Selection::room(place.room());
                emit(place.namespace(), room, told(place.room(), &change));
            }
        }
    }

    /// What was said here and is to be sent, in this order.
    pub(crate) fn take_said(&self) -> Vec<News> {
        let mut state = self.state.lock();
        let said = state.shared.as_mut().map(Shared::take_outbox);
        said.unwrap_or_default()
    }

    /// Does what a server has said. Returns which of the connections here others have taken for gone.
    pub(crate) fn hear(&self, news: News) -> Vec<Lost> {
        let (done, answered) = {
            let State { side, shared } = &mut *self.state.lock();
            let Some(shared) = shared else {
                return Vec::new();
            };
            shared.hear(side, news, self.bounds.batch)
        };
        if answered.is_some() {
            self.answered.send_replace(answered);
        }
        self.changed.notify_one();
        self.complain(&done);
        let lost = done.lost.into_iter();
        lost.map(|(place, connection)| Lost {
            namespace: place.namespace().to_owned(),
            connection: connection.into(),
        })
        .collect()
    }

    /// Does what this server has said, before it is in the stream.
    pub(crate) fn do_alone(&self, news: &News) {
        let done = {
            let mut state = self.state.lock();
            let shared = state.shared.as_mut();
            shared.map(|shared| shared.do_alone(news, self.bounds.batch))
        };
        self.changed.notify_one();
        self.complain(&done.unwrap_or_default());
    }

    fn complain(&self, done: &Done) {
        if let Some(full) = &done.full {
            self.complaints.say(|| {
                tracing::warn!(
                    %full,
                    "somebody whom another server of the cluster has let in is not present here: all need the same [presence]"
                );
            });
        }
    }

    /// A room is told something by a server of the cluster: what of it its clients have not been told.
    pub(crate) fn hear_told(&self, namespace: &str, message: &Message) -> Option<Message> {
        self.is_told(namespace, message, |shared, side, place, change| {
            shared.is_told(side, place, change, self.bounds.batch)
        })
    }

    /// The same of what was told before this server has started.
    pub(crate) fn hear_told_before(&self, namespace: &str, message: &Message) -> Option<Message> {
        self.is_told(namespace, message, |shared, _, place, change| {
            shared.is_told_before(place, change)
        })
    }

    /// The same before it is in the stream.
    pub(crate) fn hear_told_alone(&self, namespace: &str, message: &Message) -> Option<Message> {
        self.is_told(namespace, message, |shared, _, place, change| {
            shared.is_told_alone(place, change, self.bounds.batch)
        })
    }

    fn is_told(
        &self,
        namespace: &str,
        message: &Message,
        note: impl FnOnce(&mut Shared, &mut Side, &Place, Change) -> Change,
    ) -> Option<Message> {
        let (room, change) = read_told(message)?;
        let new = {
            let State { side, shared } = &mut *self.state.lock();
            note(
                shared.as_mut()?,
                side,
                &Place::new(namespace, &room),
                change,
            )
        };
        self.changed.notify_one();
        (new != Change::default()).then(|| told(&room, &new))
    }

    /// Clients here get what is not in the stream yet, or all of it is.
    pub(crate) fn set_ahead(&self, is_ahead: bool) {
        let State { side, shared } = &mut *self.state.lock();
        if let Some(shared) = shared {
            shared.set_ahead(is_ahead, side);
        }
        self.changed.notify_one();
    }

    /// Entries of the stream were lost, here or for others.
    pub(crate) fn is_interrupted(&self) {
        let State { side, shared } = &mut *self.state.lock();
        if let Some(shared) = shared {
            shared.is_interrupted(side);
        }
        self.interrupted.notify_one();
        self.changed.notify_one();
    }

    /// These servers of the cluster are there, and no others.
    pub(crate) fn others_are(&self, there: &[String]) {
        let State { side, shared } = &mut *self.state.lock();
        if let Some(shared) = shared {
            shared.lose_others(side, there);
        }
        self.changed.notify_one();
    }

    /// Whether this server, since it has started, has learnt who is present by others, or has given up to.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    fn now_known(&self) {
        self.is_known.store(true, Ordering::Release);
    }

    /// Asks other servers who is present, at the start and whenever entries were lost.
    /// These are the servers that it `hears_of`.
    pub(crate) async fn catch_up(&self, hears_of: watch::Receiver<Vec<String>>) {
        loop {
            let asked = async {
                tokio::select! {
                    () = self.ask_others(hears_of.clone()) => {}
                    // If nobody has, nobody does.
                    () = sleep(THERE_WITHIN) => {}
                }
                self.with_shared(Shared::is_whole);
                self.now_known();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = asked => {}
                () = self.interrupted.notified() => {}
            }
        }
    }

    /// Asks one after the other, also those who say only later that they are there, until one knows of everybody.
    async fn ask_others(&self, mut hears_of: watch::Receiver<Vec<String>>) {
        hears_of.mark_changed();
        let mut answered = HashSet::new();
        while hears_of.changed().await.is_ok() {
            let servers = hears_of.borrow_and_update().clone();
            if servers.is_empty() {
                continue;
            }
            for server in servers {
                if self.is_own(&server) || answered.contains(&server) {
                    continue;
                }
                match self.ask(&server).await {
                    Some(true) => return,
                    Some(false) => answered.insert(server),
                    None => continue,
                };
            }
            self.with_shared(Shared::tells);
            self.now_known();
        }
    }

    fn is_own(&self, server: &str) -> bool {
        let state = self.state.lock();
        state.shared.as_ref().is_some_and(|it| it.is_own(server))
    }

    fn with_shared(&self, change: impl FnOnce(&mut Shared)) {
        if let Some(shared) = &mut self.state.lock().shared {
            change(shared);
        }
        self.changed.notify_one();
    }

    /// Asks a server; whether it knows of everybody, if it answers.
    async fn ask(&self, server: &str) -> Option<bool> {
        let id = rand::random();
        let mut answers = self.answered.subscribe();
        let whom = server.to_owned();
        self.with_shared(|shared| shared.say(Step::Ask { whom, id }));
        let its = answers.wait_for(|it| it.is_some_and(|(its, _)| its == id));
        match timeout(ANSWERED_WITHIN, its).await {
            Ok(Ok(answered)) => answered.map(|(_, is_whole)| is_whole),
            _ => {
                tracing::debug!(server, "it does not say who is present");
                None
            }
        }
    }
}

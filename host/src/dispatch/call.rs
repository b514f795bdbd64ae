//! A call for an event, from when it is let in until it is answered.

use std::{mem, sync::Arc};

use tokio::sync::OwnedMutexGuard;

use super::{answer::Answer, filtering::Chain, serial::Turn};
use crate::{
    capability::Written,
    connection::Identity,
    guest,
    message::Message,
    plugin::{CallKind, Job, Lease, Plugin, Spent},
    registry::{Filter, Route},
};

/// A call for an event, which may run more than once.
pub(super) struct Call {
    /// Who is to be answered.
    pub answer: Answer,
    /// Whom it is for.
    pub route: Arc<Route>,
    /// Who sent the event.
    pub identity: Arc<Identity>,
    /// The event's message, or what a filter has put in its place.
    pub message: Arc<guest::Message>,
    /// How often it has run and is not to be counted.
    pub conflicts: u32,
    /// What it has used of its time.
    pub spent: Spent,
    /// Who sees the event before its handler; none if nobody does.
    pub chain: Option<Box<Chain>>,
    /// Its turn among calls with the same key.
    turn: Option<Turn>,
    /// Its turn among calls that kept conflicting, of each of its plugins.
    pub contended: Vec<OwnedMutexGuard<()>>,
}

/// A call's turns among others.
pub(super) type Turns = (Option<Turn>, Vec<OwnedMutexGuard<()>>);

/// A call that has run, until it is answered.
pub(super) struct Ended {
    /// The call.
    pub call: Call,
    /// What the guest wrote, for the log line of a failure.
    pub written: Option<Box<Written>>,
    /// Whether something of it has happened already.
    pub acted: bool,
    /// The instance that it ran on.
    pub lease: Option<Lease>,
}

impl Call {
    /// One that has not run yet.
    pub(super) fn new(
        answer: Answer,
        route: Arc<Route>,
        identity: Arc<Identity>,
        message: Message,
    ) -> Self {
        let message = Arc::new(message.into());
        let chain = match route.filters.as_slice() {
            [] => None,
            filters => {
                let (namespace, event) = (answer.connection.namespace(), &answer.event);
                let sees = |filter: &&Arc<Filter>| filter.sees(namespace, event);
                Chain::new(filters.iter().filter(sees).cloned().collect(), &message)
            }
        };
        Self {
            answer,
            route,
            identity,
            message,
            conflicts: 0,
            spent: Spent::default(),
            chain,
            turn: None,
            contended: Vec::new(),
        }
    }

    /// It is its turn among calls with the same key.
    pub(super) fn with_turn(self, turn: Turn) -> Self {
        Self {
            turn: Some(turn),
            ..self
        }
    }

    /// Whether it is its turn among calls with this key.
    pub(super) fn has_turn(&self, key: &str) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.is_for(key))
    }

    /// It has used so much by now.
    pub(super) fn having(mut self, spent: Spent) -> Self {
        self.spent = spent;
        if let Some(chain) = &mut self.chain {
            chain.has_spent(spent);
        }
        self
    }

    /// What is held against the plugin's time.
    pub(super) fn spent(&self) -> Spent {
        self.chain
            .as_ref()
            .map_or(self.spent, |chain| chain.spent())
    }

    /// It runs again from the start, as nothing has happened.
    pub(super) fn restart(&mut self) {
        self.conflicts += 1;
        if let Some(chain) = &mut self.chain {
            self.message = chain.restart();
        }
    }

    /// Who is to be asked next, if not the handler.
    pub(super) fn filter(&self) -> Option<Arc<Filter>> {
        self.chain.as_ref()?.current().cloned()
    }

    /// Who runs right now, or has just run.
    pub(super) fn speaker(&self) -> (&Arc<Plugin>, CallKind) {
        match self.chain.as_ref().and_then(|chain| chain.current()) {
            Some(filter) => (&filter.plugin, CallKind::Filter),
            None => (&self.route.plugin, CallKind::Event),
        }
    }

    /// All who take part in it, in an order that all calls share.
    pub(super) fn plugins(&self) -> Vec<Arc<Plugin>> {
        let filters = self.chain.iter().flat_map(|chain| chain.filters());
        let filters = filters.map(|filter| filter.plugin.clone());
        let mut plugins: Vec<_> = filters.chain([self.route.plugin.clone()]).collect();
        plugins.sort_by(|a, b| a.name().cmp(b.name()));
        plugins
    }

    /// All who take part in it and use the store.
    pub(super) fn who_stores(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        let filters = self.chain.iter().flat_map(|chain| chain.filters());
        let all = filters
            .map(|filter| &filter.plugin)
            .chain([&self.route.plugin]);
        all.filter(|plugin| plugin.store().is_some())
    }

    /// Whether what one of its plugins stores is in another form by now.
    pub(super) fn is_outdated(&self) -> bool {
        let mut filters = self.chain.iter().flat_map(|chain| chain.filters());
        self.route.plugin.is_outdated() || filters.any(|filter| filter.plugin.is_outdated())
    }

    /// The same call by another route, from the start. It keeps its turn, if it is by the same key there.
    pub(super) fn by_route(mut self, route: Arc<Route>, message: Message) -> Self {
        let (turn, _) = self.take_turn();
        let call = Self::new(self.answer, route, self.identity, message);
        Self { turn, ..call }
    }

    /// What the handler is called for.
    pub(super) fn job(&mut self) -> Job {
        let chain = self.chain.as_mut();
        Job::Event {
            connection: self.answer.connection.clone(),
            identity: self.identity.clone(),
            event: self.answer.event.clone(),
            message: self.message.clone(),
            transaction: chain.and_then(|chain| chain.take_transaction()),
        }
    }

    /// What the next call waits for.
    pub(super) fn take_turn(&mut self) -> Turns {
        (self.turn.take(), mem::take(&mut self.contended))
    }

    /// It is its turn still.
    pub(super) fn give_turn(&mut self, (turn, contended): Turns) {
        (self.turn, self.contended) = (turn, contended);
    }
}

//! Events that no plugin is called for: why, and who is told.

use std::{sync::Arc, time::Duration};

use super::{Dispatcher, FULL_QUEUE_RETRY, answer::Answer};
use crate::{
    admission::{RATE_LIMITED, rate_limited},
    config::OnExcess,
    connection::{Connection, lane::Arrival},
    error::WireError,
    metrics,
    registry::Route,
    telemetry::Span,
};

impl Dispatcher {
    /// Tells the client that its event is not handled, but for one over a limit that is to be dropped.
    pub(super) fn refuse(&self, answer: Answer, route: Option<&Arc<Route>>, error: WireError) {
        let plugin = route.map_or(metrics::NO_PLUGIN, |route| route.plugin.name());
        let event = route.map_or(metrics::OTHER, |route| &route.contract.event);
        let drops = || {
            let declared = route.and_then(|route| route.contract.on_excess);
            self.settings.load().excess.of(plugin, declared) == OnExcess::Drop
        };
        if error.code == RATE_LIMITED && !answer.is_asked_for() && drops() {
            self.metrics.event_failed(plugin, event, "dropped");
            return;
        }
        self.metrics.event_failed(plugin, event, &error.code);
        answer.refuse(error);
    }

    /// Refuses an event for a limit of the host's: of all events, whoever handles them.
    pub(super) fn refuse_for_limits(&self, answer: Answer, wait: Duration) {
        let registry = self.registry.load();
        let route = registry.route(answer.connection.namespace(), &answer.event);
        self.refuse(answer, route, rate_limited("events", wait));
    }

    /// Refuses an event because too many of its connection wait already.
    pub(super) fn refuse_for_queue(&self, connection: &Arc<Connection>, arrival: Arrival) {
        // The end of a connection is never refused.
        let Arrival::Event {
            event, ack, span, ..
        } = arrival
        else {
            return;
        };
        let registry = self.registry.load();
        let route = registry.route(connection.namespace(), &event);
        let error = WireError::temporary(RATE_LIMITED, "too many events wait for their turn")
            .with_retry_after(FULL_QUEUE_RETRY);
        let answer = Answer::new(connection.clone(), event, ack, span);
        self.refuse(answer, route, error);
    }

    /// A packet came whose arguments cannot be read.
    pub(crate) fn refuse_packet(
        &self,
        connection: &Arc<Connection>,
        ack: Option<i64>,
        error: WireError,
    ) {
        Answer::new(connection.clone(), "".into(), ack, Span::NONE).refuse(error);
    }
}

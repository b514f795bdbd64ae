//! What a session is to do when its time has come: pings, and limits of time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{EndReason, Session};
use crate::transport::engine::sweep::Due;

impl Session {
    // Its clock.

    /// Has the sweep come back for something.
    pub(crate) fn schedule(self: &Arc<Self>, due: Due) {
        let policy = self.policy();
        let after = match due {
            Due::Ping => policy.ping_interval,
            Due::Pong(_) => policy.ping_timeout,
            Due::Join => policy.connect_timeout,
            Due::Write | Due::Close => policy.write_timeout,
        };
        self.schedule_in(due, after);
    }

    pub(super) fn schedule_in(self: &Arc<Self>, due: Due, after: Duration) {
        let sweep = &self.sessions.sweep;
        sweep.schedule(Arc::downgrade(self), after, due);
    }

    /// Has the sweep see that the client takes something. It comes once, however often a client that
    /// reads slowly takes no more.
    pub(super) fn watch_writes(self: &Arc<Self>) {
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            self.schedule(Due::Write);
        }
    }

    fn check_writes(self: &Arc<Self>) {
        let timeout = self.policy().write_timeout;
        match self.outbox.blocked_for() {
            Some(blocked) if blocked >= timeout => {
                tracing::debug!("a client ends that stopped reading");
                self.end_here(EndReason::TransportClose);
            }
            Some(blocked) => self.schedule_in(Due::Write, timeout - blocked),
            None => {
                self.is_watched.store(false, Ordering::Release);
                // It may take no more since just now, and whoever found out has relied on the sweep.
                if self.outbox.is_blocked() {
                    self.watch_writes();
                }
            }
        }
    }

    /// The sweep has come.
    pub(crate) fn is_due(self: &Arc<Self>, due: Due) {
        if self.has_ended() {
            return;
        }
        match due {
            Due::Ping => self.ping(),
            Due::Pong(sent) if self.pinged.load(Ordering::Relaxed) == sent => {
                self.end_here(EndReason::PingTimeout);
            }
            Due::Pong(_) => {}
            Due::Join if self.inbox.lock().is_empty() => self.end_here(EndReason::TransportClose),
            Due::Join => {}
            Due::Write => self.check_writes(),
            Due::Close => self.end_here(EndReason::TransportClose),
        }
    }

    /// Whether the client should have answered a ping by now.
    pub(crate) fn is_overdue(&self) -> bool {
        let pinged = self.pinged.load(Ordering::Relaxed);
        pinged != 0
            && self
                .sessions
                .sweep
                .has_passed(pinged, self.policy().ping_timeout)
    }

    fn ping(self: &Arc<Self>) {
        let now = self.sessions.sweep.now();
        let is_answered = self
            .pinged
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if is_answered && self.is_open() {
            self.send("2");
            self.schedule(Due::Pong(now));
        }
        self.schedule(Due::Ping);
    }
}

//! The span of a call into a plugin.

use std::time::Duration;

use super::{Kind, Span};
use crate::{
    dispatch::blames_plugin,
    plugin::{CallKind, Completed, GAVE_UP, Plugin, Reply, Started},
};

impl Span {
    /// Begins that of a call.
    pub(crate) fn calls(&self, plugin: &Plugin, kind: CallKind) -> Self {
        let span = self.child(Kind::Internal, || format!("call {}", plugin.name()));
        span.say(|it| {
            it.set("mixlab.plugin.name", plugin.name().to_string())
                .set("mixlab.plugin.version", plugin.version().to_owned())
                .set("mixlab.plugin.generation", plugin.generation())
                .set("mixlab.call.kind", word(kind));
        });
        span
    }

    /// Ends it with the call, which had used so much of its time before.
    pub(crate) fn until_completed(self, started: Started, before: Duration) -> Started {
        if self.is_none() {
            return started;
        }
        match started {
            Started::Done(completed) => {
                self.completed(&completed, before);
                Started::Done(completed)
            }
            Started::Later(later) => Started::Later(Box::pin(async move {
                let completed = later.await;
                self.completed(&completed, before);
                completed
            })),
        }
    }

    fn completed(self, completed: &Completed, before: Duration) {
        self.say(|it| {
            let cpu = completed.spent.cpu.saturating_sub(before);
            if !cpu.is_zero() {
                it.set("mixlab.call.cpu_time", cpu);
            }
            match &completed.reply {
                Ok(reply) if reply.is_yes() => it.set("mixlab.outcome", "ok"),
                Ok(reply) if code(reply).is_some_and(blames_plugin) => it.fail(GAVE_UP),
                Ok(_) => it.set("mixlab.outcome", "rejected"),
                Err(error) => it.fail(error.reason()),
            };
        });
    }
}

/// The code of a "no".
fn code(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Event(Err(no)) | Reply::Filter(Err(no)) | Reply::Webhook(Err(no)) => Some(&no.code),
        Reply::Timer(Err(no)) | Reply::Migrate(Err(no)) => Some(&no.code),
        Reply::Connect(Err(no)) => Some(&no.message),
        _ => None,
    }
}

fn word(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Event => "event",
        CallKind::Filter => "filter",
        CallKind::Webhook => "webhook",
        CallKind::Connect => "connect",
        CallKind::Disconnect => "disconnect",
        CallKind::Timer => "timer",
        CallKind::Migrate => "migrate",
    }
}

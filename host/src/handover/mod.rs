//! What one process of a server on its own leaves to the next, so that clients come back to it as if it had
//! never ended: their connections, what they may have missed, who is present in rooms, and what came of
//! requests that backends may send again.
//!
//! It is written when nothing happens any more, and read before anybody is let in, so nothing is sent in
//! between that would be missing ([`State`] is what it is made of, `file` how it is kept). In a cluster all of
//! it is in Redis.

pub(crate) mod channel;
mod file;
mod state;

use std::{path::PathBuf, sync::Arc, time::Duration};

use self::state::{State, Written};
use crate::{
    api::Idempotency,
    clock::Moment,
    config::{Config, Durability},
    directory::Directory,
    transport::Namespaces,
};

/// The ending of the file, which is beside the store's.
const ENDING: &str = "handover";

/// How a server takes over from the process before, and hands over to the next.
pub(crate) struct Handover {
    path: PathBuf,
    max_age: Duration,
    max_bytes: usize,
    namespaces: Arc<Namespaces>,
    idempotency: Idempotency,
}

impl Handover {
    /// None of a server of a cluster, of one whose clients do not get their connections back, and of one that is to
    /// leave nothing on the disk.
    pub(crate) fn of(
        config: &Config,
        namespaces: &Arc<Namespaces>,
        idempotency: &Idempotency,
    ) -> Option<Self> {
        let leaves_nothing = config.store.durability == Durability::Memory;
        let is_wanted = config.recovery.enabled && config.cluster.url.is_none() && !leaves_nothing;
        is_wanted.then(|| Self {
            path: config.store.path.with_extension(ENDING),
            max_age: config.recovery.max_age,
            max_bytes: config.recovery.max_bytes.as_usize(),
            namespaces: namespaces.clone(),
            idempotency: idempotency.clone(),
        })
    }

    /// Goes on with what the process before has left, if it has; nobody was let in yet. It is gone then,
    /// whether it could be read or not. Blocks.
    pub(crate) fn take(&self, directory: &Directory) {
        let now = Moment::now();
        let state = match file::take(&self.path, self.max_bytes) {
            Ok(Some(body)) => State::read(&body, now, self.max_age),
            Ok(None) => return,
            Err(refusal) => Err(refusal),
        };
        match state {
            Ok(state) => self.restore(state, directory, now),
            Err(refusal) => tracing::warn!(
                path = %self.path.display(),
                %refusal,
                "what the process before has left is refused: clients start afresh"
            ),
        }
    }

    fn restore(&self, state: State, directory: &Directory, now: Moment) {
        let (clients, broadcasts) = (state.clients.len(), state.broadcasts());
        let mut lost = 0;
        for (log, broadcasts) in state.logs {
            // A plugin that served it may be gone.
            if let Ok(adapter) = directory.ask(&log.namespace, None)
                && let Some(journal) = adapter.journal()
            {
                journal.restore(&log, broadcasts, now);
            }
        }
        for client in state.clients {
            let adapter = self.namespaces.get(client.namespace());
            let journal = adapter.as_ref().and_then(|adapter| adapter.journal());
            let is_back = journal.is_some_and(|journal| journal.restore_client(client, now));
            lost += usize::from(!is_back);
        }
        let presence = self.namespaces.presence();
        presence.restore(state.presence, now.meant(state.written));
        self.idempotency.restore(state.answers, now);
        tracing::info!(
            connections = clients - lost,
            broadcasts,
            lost,
            age_ms = now.wall().saturating_sub(state.written),
            took_ms = Moment::now().wall().saturating_sub(now.wall()),
            "taken over from the process before"
        );
    }

    /// Leaves all that there is to the process that follows. Nothing happens any more. Blocks.
    pub(crate) fn give(&self) {
        let now = Moment::now();
        let saved = self.namespaces.all();
        let saved = saved.iter().filter_map(|adapter| {
            let journal = adapter.journal()?;
            journal.save(adapter.namespace(), now)
        });
        let mut state = State::new(now);
        saved.for_each(|saved| state.add(saved));
        state.presence = self.namespaces.presence().save();
        state.answers = self.idempotency.save(now);
        if state.is_empty() {
            return;
        }
        let Written {
            body,
            connections,
            broadcasts,
            left_out,
        } = state.write(self.max_bytes);
        let bytes = body.len();
        if let Err(error) = file::give(&self.path, &body) {
            tracing::error!(
                path = %self.path.display(),
                %error,
                "nothing is left to the process that follows: clients start afresh"
            );
            return;
        }
        if left_out > 0 {
            tracing::warn!(
                left_out,
                max_bytes = self.max_bytes,
                "not all is left to the process that follows: it would take more than recovery.max_bytes"
            );
        }
        tracing::info!(
            connections,
            broadcasts,
            bytes,
            took_ms = Moment::now().wall().saturating_sub(now.wall()),
            "left to the process that follows"
        );
    }
}

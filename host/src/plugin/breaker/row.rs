//! Failed calls in a row, by who made them.

use std::collections::HashMap;

use crate::address::ClientNetwork;

/// The failed calls since the last good one. Of no more clients than there are failures to a pause.
#[derive(Default)]
pub(super) struct Row {
    by_client: HashMap<ClientNetwork, u32>,
    /// All failures, where no client counts for more than half of a pause.
    weight: u32,
}

impl Row {
    /// Adds a failure; how many this client has now.
    pub(super) fn add(&mut self, client: ClientNetwork, failures: u32) -> u32 {
        let own = self.by_client.entry(client).or_default();
        *own = own.saturating_add(1);
        if *own <= failures.div_ceil(2) {
            self.weight += 1;
        }
        *own
    }

    /// Whether they are so many, and of so many clients, that it is not for the clients.
    pub(super) fn is_everybodys(&self, failures: u32) -> bool {
        self.by_client.len() > 1 && self.weight >= failures
    }

    /// Whether the last call was a good one.
    pub(super) fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }
}

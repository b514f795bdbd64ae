//! Which other servers there are, for operators.

use std::ops::ControlFlow;

use serde::Serialize;
use tokio::time::Instant;

use super::{
    others::{Silent, Unheard},
    talk::{Answer, Said, Want},
};
use crate::{cluster::Cluster, namespace::MAIN_NAMESPACE, transport::Selection};

/// So many servers are told of by name.
const MAX_TOLD: usize = 1000;

/// A server that has answered.
#[derive(Debug, Serialize)]
pub(crate) struct Member {
    name: String,
    /// How many sockets it has in the main namespace.
    sockets: usize,
}

/// The other servers of a cluster.
#[derive(Debug, Serialize)]
pub(crate) struct Members {
    /// Those that have answered, by name.
    pub others: Vec<Member>,
    /// Those that have not.
    pub silent: Option<Silent>,
}

impl Cluster {
    /// The other servers: those that answer by `until`, and those that are there and do not.
    pub(crate) async fn members(&self, until: Instant) -> Result<Members, Unheard> {
        let mut others = Vec::new();
        let take = |answer: Answer| {
            let name = answer.server.clone();
            let sockets = match answer.read() {
                Ok(Said::Count(count)) => count,
                // Node's servers tell all that there is.
                Ok(Said::Sockets(sockets)) => sockets.len(),
                _ => 0,
            };
            if others.len() < MAX_TOLD {
                others.push(Member { name, sockets });
            }
            Ok(ControlFlow::Continue(()))
        };
        let everybody = Selection::default();
        let asking = self.ask_servers(MAIN_NAMESPACE, &everybody, Want::Count, until, take);
        let silent = asking.await?;
        others.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Members { others, silent })
    }
}

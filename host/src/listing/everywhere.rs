//! Pages of what all servers of a cluster have.

use std::panic::resume_unwind;

use tokio::{task::spawn_blocking, time::Instant};

use super::{Page, Part, Row};
use crate::{
    broadcast::Broadcast,
    cluster::{Heard, Silent, Unheard, Want},
    transport::Selection,
};

/// What servers may answer together, in bytes. MixLab's tell no more than a page each, Node's all that there is.
const MAX_HEARD: usize = 64 << 20;

/// A page of all servers.
#[derive(Debug)]
pub(crate) struct Listed {
    pub rows: Vec<Row>,
    /// The last key, if there is more behind it.
    pub next: Option<String>,
    /// The servers whose part is missing.
    pub silent: Option<Silent>,
}

impl Broadcast {
    /// A page of what there is in a namespace, on this server and on those that answer by `until`.
    pub(crate) async fn page(
        &self,
        namespace: &str,
        to: &Selection,
        page: &Page,
        until: Instant,
    ) -> Result<Listed, Unheard> {
        // Not on a thread that serves sockets: there may be very many.
        let here = spawn_blocking({
            let (broadcast, namespace) = (self.clone(), namespace.to_owned());
            let (to, page) = (to.clone(), page.clone());
            move || broadcast.part(&namespace, &to, &page)
        });
        let (mut parts, mut silent) = (Vec::new(), None);
        if let Some(others) = self.others() {
            let want = Want::Page(Box::new(page.clone()));
            let heard = others.heard(namespace, to, want, until, MAX_HEARD).await?;
            silent = heard.silent;
            parts.extend(heard.answers.into_iter().map(|heard| match heard {
                Heard::Part(part) => part,
                Heard::Sockets(sockets) => Part::of_described(sockets, page),
            }));
        }
        let here = here.await;
        parts.insert(
            0,
            here.unwrap_or_else(|error| resume_unwind(error.into_panic())),
        );
        let Part { rows, more } = Part::merged(parts, page);
        let last = rows.last().map(|row| row.key().to_owned());
        Ok(Listed {
            next: last.filter(|_| more),
            rows,
            silent,
        })
    }
}

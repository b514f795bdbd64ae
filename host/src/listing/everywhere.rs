//! Pages of what all servers of a cluster have.

use std::panic::resume_unwind;

use tokio::{task::spawn_blocking, time::Instant};

use super::{Of, Page, Part, Row};
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
    /// A page of what there is in a namespace, on this server and on those that answer by `until`. Nobody is waited
    /// for when all sockets that are named have been found.
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
        let named = match page.of {
            Of::Sockets { .. } => to.most(),
            Of::Users | Of::Rooms(_) => None,
        };
        let here = here.await;
        let here = here.unwrap_or_else(|error| resume_unwind(error.into_panic()));
        let most = named.map(|named| named - named.min(here.rows.len()));
        let (mut parts, mut silent) = (vec![here], None);
        if let Some(others) = self.others().filter(|_| most != Some(0)) {
            let want = Want::Page(Box::new(page.clone()));
            let heard = others.heard(namespace, to, want, most, until, MAX_HEARD);
            let heard = heard.await?;
            silent = heard.silent;
            parts.extend(heard.answers.into_iter().map(|heard| match heard {
                Heard::Part(part) => part,
                Heard::Sockets(sockets) => Part::of_described(sockets, page),
            }));
        }
        let Part { rows, more } = Part::merged(parts, page);
        let last = rows.last().map(|row| row.key().to_owned());
        Ok(Listed {
            next: last.filter(|_| more),
            rows,
            silent,
        })
    }
}

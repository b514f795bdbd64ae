//! What this server answers others of its cluster.

use std::time::Duration;

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::watch;

use super::Broadcast;
use crate::{
    cluster::{Described, Found, Serve, Want},
    connection::Connection,
    message::Message,
    transport::Selection,
};

impl Serve for Broadcast {
    fn namespaces(&self) -> Vec<String> {
        let all = self.namespaces.all().into_iter();
        all.map(|adapter| adapter.namespace().to_owned()).collect()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.namespaces.changes()
    }

    fn sockets(&self, namespace: &str, to: &Selection, want: Want) -> Found {
        let Some(adapter) = self.namespaces.get(namespace) else {
            return Found::Sockets(Vec::new());
        };
        let describe = |described: fn(&Connection) -> Described| {
            let selected = self.connections.of(&adapter.selected(to), namespace);
            let selected = selected.iter();
            Found::Sockets(selected.map(|it| described(it)).collect())
        };
        match want {
            Want::Count => Found::Count(adapter.count(to)),
            Want::Page(page) => Found::Part(self.part(namespace, to, &page)),
            Want::Ids => describe(|it| Described::id(it.id.clone())),
            Want::All => describe(|it| Described::from(it)),
        }
    }

    fn ask(
        &self,
        namespace: &str,
        to: Selection,
        event: &str,
        message: Message,
        timeout: Duration,
    ) -> (usize, BoxStream<'static, Message>) {
        let Some(adapter) = self.namespaces.get(namespace) else {
            return (0, stream::empty().boxed());
        };
        let asked = adapter.selected(&to);
        let acks = adapter.ask(&asked, event, message, timeout);
        let answered = acks.filter_map(async |(_, answer)| answer.ok());
        (asked.len(), answered.boxed())
    }
}

//! How rooms are told who came and went, and what servers of a cluster say of that to each other.

use tokio_util::sync::CancellationToken;

use super::Broadcast;
use crate::{
    cluster::Change,
    namespace::MAIN_NAMESPACE,
    presence::{self, News},
    transport::Selection,
};

impl Broadcast {
    /// Tells rooms who came and went, until `stop` or until this server has left its cluster.
    pub(crate) async fn tell_presence(&self, stop: &CancellationToken) {
        let Some(cluster) = &self.cluster else {
            let emit = |namespace: &str, to, message| {
                self.emit(None, namespace, to, presence::EVENT, message, false);
            };
            return self.presence().tell(emit, stop).await;
        };
        let emit = |namespace: &str, to, message| {
            self.change(namespace, to, Change::Tell(message));
        };
        let send = |news| self.send_news(news);
        tokio::select! {
            () = self.presence().tell_together(emit, send) => {}
            () = cluster.closed() => {}
        }
    }

    /// Sends what was last said of who is present.
    pub(crate) fn send_presence(&self) {
        let said = self.presence().take_said();
        said.into_iter().for_each(|news| self.send_news(news));
    }

    fn send_news(&self, news: News) {
        let nobody = Selection::default();
        self.change(MAIN_NAMESPACE, nobody, Change::Presence(news));
    }
}

//! Sends what waits, in order.

use std::{sync::Arc, time::Duration};

use redis::{Pipeline, RedisResult, aio::MultiplexedConnection};
use tokio::time::sleep;

use super::{entry::SEQUENCE, queue::Outgoing};
use crate::cluster::{Cluster, link::Round, trust::signing::FIELD};

/// So many entries are sent in one go.
const BATCH: usize = 256;

/// Pause before Redis is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// The one who sends.
pub(crate) struct Sender {
    cluster: Arc<Cluster>,
}

impl Sender {
    /// Sends what is in the queue.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Sends, over lost connections.
    pub(crate) async fn run(&self) {
        let Cluster { link, queue, .. } = &*self.cluster;
        let mut rounds = link.round.subscribe();
        let mut last_error = None;
        loop {
            // What the reader finds of this server's need not be sent again.
            let Ok(round) = rounds
                .wait_for(|round| round.has_caught_up)
                .await
                .map(|it| *it)
            else {
                return;
            };
            queue.rewind(false);
            let lost = async {
                // Never an error: the link has the other end.
                let _ = rounds.wait_for(|now| *now != round).await;
            };
            tokio::select! {
                sent = self.send() => {
                    let error = sent.err().map(|error| error.to_string());
                    // Not each time: what Redis refuses now it mostly refuses for a while.
                    if let Some(error) = &error
                        && last_error.as_ref() != Some(error)
                    {
                        tracing::error!(error, "Redis does not take what goes to other servers");
                    }
                    last_error = error;
                    link.round.send_modify(Round::ask_anew);
                }
                () = lost => {}
            }
            sleep(PAUSE).await;
        }
    }

    /// Sends until the connection is lost.
    async fn send(&self) -> RedisResult<()> {
        let Cluster { link, queue, .. } = &*self.cluster;
        let mut redis = link.connect().await?;
        if !link.is_same_life(&mut redis).await? {
            // The reader finds out what is to be sent again, before anything is.
            return Ok(());
        }
        loop {
            let batch = queue.take(BATCH).await;
            self.add(&mut redis, &batch).await?;
        }
    }

    async fn add(
        &self,
        redis: &mut MultiplexedConnection,
        batch: &[Arc<Outgoing>],
    ) -> RedisResult<()> {
        let Cluster {
            link,
            queue,
            signing,
            ..
        } = &*self.cluster;
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for entry in batch {
            let Outgoing {
                sequence,
                namespace,
                kind,
                data,
                ..
            } = &**entry;
            let command = pipeline.cmd("XADD");
            command.arg(&*link.prefix).arg("MAXLEN").arg("~");
            command.arg(link.max_entries).arg("*");
            command
                .arg("uid")
                .arg(&*queue.name)
                .arg("nsp")
                .arg(namespace);
            command.arg("type").arg(*kind).arg("data").arg(data);
            let number = sequence.to_string();
            command.arg(SEQUENCE).arg(&number);
            let kind = kind.to_string();
            let values = [&*queue.name, namespace, &kind, data, &number, ""];
            if let Some(code) = signing.entry(values) {
                command.arg(FIELD).arg(code);
            }
            command.ignore();
        }
        pipeline.query_async(redis).await
    }
}

//! What this server asks the others.

use std::{ops::ControlFlow, time::Duration};

use futures_util::{Stream, stream};
use redis::{RedisResult, aio::MultiplexedConnection};
use serde::Serialize;
use tokio::time::{Instant, interval_at, sleep_until};

use super::{
    described::Described,
    requests::{ClientAnswer, Pending},
    talk::{Answer, Asks, Said, Saying, Want},
};
use crate::cluster::Cluster;
use crate::{listing::Part, message::Message, namespace::MAIN_NAMESPACE, transport::Selection};

/// How long servers may take to answer.
const ANSWERS: Duration = Duration::from_secs(2);

/// How often it is seen whether those that have not answered are there still.
const AGAIN: Duration = Duration::from_millis(500);

/// So many clients are asked in one go.
const BATCH: usize = 256;

/// Why others cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unheard {
    /// Redis is away.
    #[error("Redis is away, by which the servers of the cluster hear of each other")]
    Lost,
    /// Too much is asked.
    #[error("too much is asked of the servers of the cluster")]
    Busy,
    /// They answer more than may be taken.
    #[error("the servers of the cluster answer more than may be taken")]
    TooLarge,
}

/// Sockets of other servers, each with its server.
pub(crate) type Elsewhere = Vec<(String, Described)>;

/// What other servers have told of a page.
#[derive(Debug, Default)]
pub(crate) struct AllHeard {
    pub answers: Vec<Heard>,
    /// Those that have not answered.
    pub silent: Option<Silent>,
}

/// What one of them has.
#[derive(Debug)]
pub(crate) enum Heard {
    Part(Part),
    /// All sockets, of a server that does not know of pages.
    Sockets(Vec<Described>),
}

/// Servers that are there and do not answer.
#[derive(Debug, Serialize)]
pub(crate) struct Silent {
    /// How many they are.
    pub servers: usize,
    /// What they are called, as far as that is known.
    pub names: Vec<String>,
}

/// Whether others need not be waited for.
fn enough(found: usize, most: Option<usize>) -> ControlFlow<()> {
    match most {
        Some(most) if found >= most => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    }
}

impl Cluster {
    /// The sockets of other servers: of those that answer by `until`, or that are there at all, or until `most`
    /// are found. No more than so many bytes.
    pub(crate) async fn find(
        &self,
        namespace: &str,
        to: &Selection,
        want: Want,
        most: Option<usize>,
        until: Instant,
        max_bytes: usize,
    ) -> Result<Elsewhere, Unheard> {
        let (mut sockets, mut bytes) = (Vec::new(), 0);
        let take = |answer: Answer| {
            bytes += answer.size();
            if bytes > max_bytes {
                return Err(Unheard::TooLarge);
            }
            let server = answer.server.clone();
            match answer.read() {
                Ok(Said::Sockets(found)) => {
                    sockets.extend(found.into_iter().map(|it| (server.clone(), it)));
                }
                Ok(_) => {}
                Err(reason) => tracing::warn!(server, %reason, "a server's answer is passed over"),
            }
            Ok(enough(sockets.len(), most))
        };
        self.ask_servers(namespace, to, want, until, take).await?;
        Ok(sockets)
    }

    /// What other servers have of a page, as far as they answer by `until`, or until there are `most` rows; no more
    /// than so many bytes.
    pub(crate) async fn heard(
        &self,
        namespace: &str,
        to: &Selection,
        want: Want,
        most: Option<usize>,
        until: Instant,
        max_bytes: usize,
    ) -> Result<AllHeard, Unheard> {
        let (mut answers, mut rows, mut bytes) = (Vec::new(), 0, 0);
        let take = |answer: Answer| {
            bytes += answer.size();
            if bytes > max_bytes {
                return Err(Unheard::TooLarge);
            }
            match answer.read() {
                Ok(Said::Part(part)) => {
                    rows += part.rows.len();
                    answers.push(Heard::Part(part));
                }
                Ok(Said::Sockets(sockets)) => {
                    rows += sockets.len();
                    answers.push(Heard::Sockets(sockets));
                }
                _ => {}
            }
            Ok(enough(rows, most))
        };
        let silent = self.ask_servers(namespace, to, want, until, take).await?;
        Ok(AllHeard { answers, silent })
    }

    /// How many these are.
    pub(crate) async fn count(
        &self,
        namespace: &str,
        to: &Selection,
        until: Instant,
    ) -> Result<usize, Unheard> {
        let mut count = 0;
        let take = |said| {
            count += match said {
                Said::Count(here) => here,
                // Node's servers tell all that there is.
                Said::Sockets(sockets) => sockets.len(),
                _ => 0,
            };
        };
        self.ask_count(namespace, to, until, take).await?;
        Ok(count)
    }

    /// Hears of each other server how many sockets it has, in its own way.
    pub(crate) async fn ask_count(
        &self,
        namespace: &str,
        to: &Selection,
        until: Instant,
        mut take: impl FnMut(Said),
    ) -> Result<(), Unheard> {
        let take = |answer: Answer| {
            if let Ok(said) = answer.read() {
                take(said);
            }
            Ok(ControlFlow::Continue(()))
        };
        self.ask_servers(namespace, to, Want::Count, until, take)
            .await?;
        Ok(())
    }

    /// Asks until `take` has enough. Returns those that have not answered, if there are some.
    pub(super) async fn ask_servers(
        &self,
        namespace: &str,
        to: &Selection,
        want: Want,
        until: Instant,
        mut take: impl FnMut(Answer) -> Result<ControlFlow<()>, Unheard>,
    ) -> Result<Option<Silent>, Unheard> {
        let mut speaks = self.channels.speaks().ok_or(Unheard::Lost)?;
        let mut others = self.others(&mut speaks, namespace).await?;
        if others == 0 {
            return Ok(None);
        }
        let mut pending = self.channels.requests.to_servers().ok_or(Unheard::Busy)?;
        let asks = Asks::Sockets {
            to: to.clone(),
            want,
        };
        let question = (self.channel(namespace), asks.say(&pending.ids[0]));
        self.speak(namespace, vec![question]).await?;
        let until = until.min(Instant::now() + ANSWERS);
        let mut again = interval_at(Instant::now() + AGAIN, AGAIN);
        let mut heard = Vec::new();
        while heard.len() < others {
            tokio::select! {
                Some(answer) = pending.answers.recv() => {
                    heard.push(answer.server.clone());
                    if take(answer)?.is_break() {
                        return Ok(None);
                    }
                }
                // One that has died does not answer any more, and has no sockets.
                _ = again.tick() => others = self.others(&mut speaks, namespace).await?,
                () = sleep_until(until) => {
                    let servers = others - heard.len();
                    tracing::warn!(
                        namespace,
                        servers,
                        "servers do not answer in time: their sockets are missing"
                    );
                    let names = self.silent_names(&mut speaks, namespace, &heard).await;
                    return Ok(Some(Silent { servers, names }));
                }
            }
        }
        Ok(None)
    }

    /// The names of those that have not been heard: of servers that say that they have the main namespace open.
    async fn silent_names(
        &self,
        speaks: &mut MultiplexedConnection,
        namespace: &str,
        heard: &[String],
    ) -> Vec<String> {
        if namespace != MAIN_NAMESPACE {
            return Vec::new();
        }
        let mut names = self.listeners(speaks).await.unwrap_or_default();
        names.retain(|name| !heard.contains(name));
        names.sort_unstable();
        names
    }

    /// How many other servers have the namespace open.
    async fn others(
        &self,
        speaks: &mut MultiplexedConnection,
        namespace: &str,
    ) -> Result<usize, Unheard> {
        let mut command = redis::cmd("PUBSUB");
        command.arg("NUMSUB").arg(self.channel(namespace));
        let counted: RedisResult<(String, usize)> = command.query_async(speaks).await;
        let (_, servers) = counted.map_err(|_| {
            self.channels.is_lost();
            Unheard::Lost
        })?;
        let listen = servers.saturating_sub(self.channels.listens(namespace).into());
        Ok(listen + self.elders.count(namespace))
    }

    /// Says something where all who are meant hear it.
    async fn speak(&self, namespace: &str, sayings: Vec<(String, Saying)>) -> Result<(), Unheard> {
        if self.elders.count(namespace) == 0 {
            let spoken = self.publish(namespace, sayings).await;
            return spoken.map_err(|_| Unheard::Lost);
        }
        let sayings = sayings.into_iter();
        sayings.for_each(|(_, saying)| self.write(namespace, saying));
        Ok(())
    }

    /// Asks clients of other servers, each at its own: an item for each that answers by `until`, or is gone.
    pub(crate) async fn ask(
        &self,
        namespace: &str,
        clients: Vec<(String, String)>,
        event: &str,
        message: &Message,
        until: Instant,
    ) -> Result<impl Stream<Item = ClientAnswer> + Send + use<>, Unheard> {
        let requests = &self.channels.requests;
        let pending = requests.to_clients(&clients).ok_or(Unheard::Busy)?;
        let timeout = until.saturating_duration_since(Instant::now());
        let mut sayings = Vec::new();
        for ((server, socket), id) in clients.into_iter().zip(&pending.ids) {
            let asks = Asks::Acks {
                to: Selection {
                    sockets: vec![socket],
                    ..Selection::default()
                },
                event: event.to_owned(),
                message: message.clone(),
                timeout,
            };
            sayings.push((self.channel_of(namespace, &server), asks.say(id)));
            if sayings.len() == BATCH {
                self.speak(namespace, std::mem::take(&mut sayings)).await?;
            }
        }
        if !sayings.is_empty() {
            self.speak(namespace, sayings).await?;
        }
        let left = pending.ids.len();
        let next = move |(mut pending, left): (Pending<ClientAnswer>, usize)| async move {
            let left = left.checked_sub(1)?;
            tokio::select! {
                answer = pending.answers.recv() => Some((answer?, (pending, left))),
                () = sleep_until(until) => None,
            }
        };
        Ok(stream::unfold((pending, left), next))
    }
}

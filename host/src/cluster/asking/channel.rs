//! The channels on which servers ask each other and answer: nothing of it is kept, and what is said while
//! the connection is lost is lost.
//!
//! All servers that have a namespace open listen to its channel, `PREFIX#NAMESPACE#`, and Redis says how many
//! they are. Each listens to channels of its own, too, `PREFIX#NAMESPACE#SERVER#`.

use std::{collections::HashSet, future::Future, io, pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use parking_lot::Mutex;
use redis::{
    Pipeline, RedisError, RedisResult,
    aio::{MultiplexedConnection, PubSubSink},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    described::Described,
    requests::Requests,
    talk::{Asks, Question, Said, Saying, Talk, Want, Way},
};
use crate::cluster::{Cluster, link::ANSWER};
use crate::{listing::Part, message::Message, transport::Selection};

/// What messages on channels are signed for.
const SAID: &str = "channel";

/// Pause before Redis is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is seen whether the connection is there still.
const PING: Duration = Duration::from_secs(5);

/// So many questions are answered at once; who asks more gets no answer.
const MAX_ANSWERING: usize = 1000;

/// So many acks are told in one go.
const BATCH: usize = 256;

/// Where this server listens, and speaks.
pub(crate) struct Channels {
    /// None while they are not connected.
    speaks: Mutex<Option<MultiplexedConnection>>,
    /// The namespaces whose channels this server listens to.
    listens: Mutex<HashSet<String>>,
    /// Whoever has spoken in vain says so.
    lost: Notify,
    /// What this server has asked.
    pub requests: Arc<Requests>,
    /// What servers with version 0.2 of the adapter have asked.
    pub questions: mpsc::Sender<Question>,
    /// Until the [`Channel`] takes it.
    asked: Mutex<Option<mpsc::Receiver<Question>>>,
}

/// What others may ask this server.
pub(crate) trait Serve: Send + Sync + 'static {
    /// The paths of its namespaces.
    fn namespaces(&self) -> Vec<String>;

    /// Seen when there are others.
    fn changes(&self) -> watch::Receiver<()>;

    /// What there is to be known of its sockets.
    fn sockets(&self, namespace: &str, to: &Selection, want: Want) -> Found;

    /// Asks its clients: how many they are, and what they answer.
    fn ask(
        &self,
        namespace: &str,
        to: Selection,
        event: &str,
        message: Message,
        timeout: Duration,
    ) -> (usize, BoxStream<'static, Message>);
}

/// Sockets of this server.
pub(crate) enum Found {
    Sockets(Vec<Described>),
    Count(usize),
    Part(Part),
}

/// The one who listens.
pub(crate) struct Channel {
    cluster: Arc<Cluster>,
    questions: mpsc::Receiver<Question>,
    /// What was last said of the connection.
    is_lost: bool,
}

/// Answers that are under way.
type Answering = FuturesUnordered<BoxFuture<'static, RedisResult<()>>>;

impl Channels {
    /// Nothing is connected yet.
    pub(crate) fn new() -> Self {
        let (questions, asked) = mpsc::channel(MAX_ANSWERING);
        Self {
            speaks: Mutex::default(),
            listens: Mutex::default(),
            lost: Notify::new(),
            requests: Arc::default(),
            questions,
            asked: Mutex::new(Some(asked)),
        }
    }

    /// What speaks, if it is connected.
    pub(crate) fn speaks(&self) -> Option<MultiplexedConnection> {
        self.speaks.lock().clone()
    }

    /// What speaks does so no more.
    pub(crate) fn is_lost(&self) {
        self.speaks.lock().take();
        self.lost.notify_one();
    }

    /// Whether this server is one of those that listen to a namespace's channel.
    pub(crate) fn listens(&self, namespace: &str) -> bool {
        self.listens.lock().contains(namespace)
    }
}

impl Channel {
    /// Listens for what others ask, and what they answer. A cluster has one.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        let asked = cluster.channels.asked.lock().take();
        Self {
            questions: asked.expect("a cluster has one channel"),
            cluster,
            is_lost: false,
        }
    }

    /// Listens, over lost connections.
    pub(crate) async fn run(&mut self, here: &impl Serve) {
        loop {
            let ended = self.listen(here).await;
            let channels = &self.cluster.channels;
            channels.speaks.lock().take();
            channels.listens.lock().clear();
            if let Err(error) = ended
                && !std::mem::replace(&mut self.is_lost, true)
            {
                tracing::error!(%error, "the connection to Redis is lost: servers do not hear what others ask");
            }
            sleep(PAUSE).await;
        }
    }

    async fn listen(&mut self, here: &impl Serve) -> RedisResult<()> {
        let cluster = self.cluster.clone();
        let (channels, link) = (&cluster.channels, &cluster.link);
        let speaks = link.connect().await?;
        let (mut sink, mut heard) = within(link.subscribe()).await?.split();
        let own = cluster.own_channels();
        within(sink.psubscribe(own)).await?;
        let mut changes = here.changes();
        changes.mark_unchanged();
        self.follow(&mut sink, here).await?;
        *channels.speaks.lock() = Some(speaks);
        cluster.look_for_elders(here.namespaces());
        if std::mem::take(&mut self.is_lost) {
            tracing::info!("servers hear again what others ask");
        }
        let mut answering = Answering::new();
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = heard.next() => match message {
                    Some(message) => self.hear(message.get_payload_bytes(), here, &answering),
                    None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                },
                Some(question) = self.questions.recv() => self.answer(question, here, &answering),
                Some(answered) = answering.next() => answered?,
                Ok(()) = changes.changed() => self.follow(&mut sink, here).await?,
                () = channels.lost.notified() => return Ok(()),
                _ = ping.tick() => {
                    cluster.beat_to_elders();
                    within(sink.ping::<()>()).await?;
                }
            }
        }
    }

    /// Listens to the channels of the namespaces that there are by now.
    async fn follow(&self, sink: &mut PubSubSink, here: &impl Serve) -> RedisResult<()> {
        let cluster = &self.cluster;
        let open: HashSet<_> = here.namespaces().into_iter().collect();
        let known = cluster.channels.listens.lock().clone();
        let of = |namespaces: Vec<&String>| {
            let names = namespaces.into_iter().map(|it| cluster.channel(it));
            names.collect::<Vec<_>>()
        };
        let (more, less) = (
            of(open.difference(&known).collect()),
            of(known.difference(&open).collect()),
        );
        if !more.is_empty() {
            within(sink.subscribe(more)).await?;
        }
        // From now on nobody waits for this server's answers there.
        *cluster.channels.listens.lock() = open;
        if !less.is_empty() {
            within(sink.unsubscribe(less)).await?;
        }
        Ok(())
    }

    fn hear(&self, packed: &[u8], here: &impl Serve, answering: &Answering) {
        let Some(packed) = self.cluster.signing.open(SAID, packed) else {
            return;
        };
        match Talk::unpack(&packed) {
            Ok(Some(Talk::Question(question))) => self.answer(question, here, answering),
            Ok(Some(Talk::Answer(answer))) => self.cluster.channels.requests.answer(answer),
            Ok(None) => {}
            // Emitters speak on the same channels.
            Err(reason) => tracing::debug!(%reason, "a message on a channel is passed over"),
        }
    }

    fn answer(&self, question: Question, here: &impl Serve, answering: &Answering) {
        if *question.asker == *self.cluster.queue.name {
            return;
        }
        if answering.len() >= MAX_ANSWERING {
            let server = question.asker;
            return tracing::warn!(
                server,
                "a server gets no answer: {MAX_ANSWERING} others wait for one"
            );
        }
        let Question {
            asker,
            id,
            namespace,
            way,
            asks,
        } = question;
        let to = Asker {
            cluster: self.cluster.clone(),
            server: asker,
            request: id,
            namespace,
            way,
        };
        match asks {
            Asks::Sockets { to: sockets, want } => {
                let said = match here.sockets(&to.namespace, &sockets, want) {
                    Found::Sockets(sockets) => Said::Sockets(sockets),
                    Found::Count(count) => Said::Count(count),
                    Found::Part(part) => Said::Part(part),
                };
                answering.push(async move { to.tell(vec![said]).await }.boxed());
            }
            Asks::Acks {
                to: sockets,
                event,
                message,
                timeout,
            } => {
                let (count, acks) = here.ask(&to.namespace, sockets, &event, message, timeout);
                answering.push(
                    async move {
                        to.tell(vec![Said::Clients(count)]).await?;
                        let mut acks = pin!(acks.map(Said::Ack).ready_chunks(BATCH));
                        while let Some(acks) = acks.next().await {
                            to.tell(acks).await?;
                        }
                        Ok(())
                    }
                    .boxed(),
                );
            }
            Asks::Handler => {
                answering.push(async move { to.tell(vec![Said::NoHandler]).await }.boxed());
            }
        }
    }
}

/// Who has asked something.
struct Asker {
    cluster: Arc<Cluster>,
    server: String,
    request: String,
    namespace: String,
    way: Way,
}

impl Asker {
    /// Tells it, where it has asked.
    async fn tell(&self, said: Vec<Said>) -> RedisResult<()> {
        let sayings = said.into_iter().map(|said| said.say(&self.request));
        match self.way {
            Way::Stream => {
                sayings.for_each(|saying| self.cluster.write(&self.namespace, saying));
                Ok(())
            }
            Way::Channel => {
                let channel = self.cluster.channel_of(&self.namespace, &self.server);
                let sayings = sayings.map(|saying| (channel.clone(), saying)).collect();
                self.cluster.publish(&self.namespace, sayings).await
            }
        }
    }
}

impl Cluster {
    /// The channel of all servers that have a namespace open.
    pub(crate) fn channel(&self, namespace: &str) -> String {
        format!("{}#{namespace}#", self.link.prefix)
    }

    /// The channel of a server.
    pub(crate) fn channel_of(&self, namespace: &str, server: &str) -> String {
        format!("{}#{namespace}#{server}#", self.link.prefix)
    }

    /// The pattern of all channels of this server alone.
    fn own_channels(&self) -> String {
        let prefix = self.link.pattern();
        format!("{prefix}#*#{}#", self.queue.name)
    }

    /// Says something on channels, in order.
    pub(crate) async fn publish(
        &self,
        namespace: &str,
        sayings: Vec<(String, Saying)>,
    ) -> RedisResult<()> {
        let mut speaks = self
            .channels
            .speaks()
            .ok_or_else(|| RedisError::from(io::Error::from(io::ErrorKind::NotConnected)))?;
        let mut pipeline = Pipeline::with_capacity(sayings.len());
        for (channel, saying) in sayings {
            let message = saying.pack(&self.queue.name, namespace);
            let message = self.signing.sign(SAID, message);
            pipeline.cmd("PUBLISH").arg(channel).arg(message).ignore();
        }
        let published = pipeline.query_async(&mut speaks).await;
        published.inspect_err(|_| self.channels.is_lost())
    }
}

/// What Redis answers, or that it does not.
pub(crate) async fn within<T>(answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match timeout(ANSWER, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

//! Many servers as one: what concerns sockets of all of them goes through one stream in Redis, in the
//! form of `@socket.io/redis-streams-adapter`, so that Node's servers may be members, too.
//!
//! # One order
//!
//! A server performs what it has sent itself as it reads it back, like all others: so all of them perform
//! everything in the order of the stream, and the id of an entry is a place that any of them knows.
//!
//! # Nothing lost, nothing twice
//!
//! What is sent waits in the [`Queue`] until it was read back. When the connection to Redis was lost, the
//! reader first reads all that is there; what it has not found of its own is sent again. An entry has a
//! number of its sender's, by which readers drop what an old connection brought in late.
//!
//! # Asked and answered
//!
//! What one server wants to know of the others' sockets and clients goes over channels ([`Channel`]), and
//! nothing of it is kept.

mod asking;
mod emitters;
mod ends;
mod link;
mod passed_on;
mod servers;
mod sessions;
mod shared;
mod stream;
mod trust;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::RedisResult;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::{
    asking::census::Census, asking::channel::Channels, asking::elders::Elders,
    asking::talk::Saying, emitters::inbound::Inbound, ends::Ends, link::Link, servers::Servers,
    stream::queue::Queue, trust::signing::Signing,
};
pub(crate) use self::{
    asking::channel::{Channel, Found, Serve},
    asking::described::{self, Described},
    asking::members::Members,
    asking::others::{Elsewhere, Heard, Silent, Unheard},
    asking::talk::Want,
    emitters::inbound::Listener,
    passed_on::{PassedOn, PassedOnSample},
    sessions::{Here, Kept, Sessions, Written},
    shared::{Begun, Bounds, Bucket, Place, Request},
    stream::entry::{Change, Entry},
    stream::id::EntryId,
    stream::reader::{Apply, Reader},
    stream::sender::Sender,
    trust::seal::Seal,
};
use crate::{
    config::{self, Accept, OnLoss},
    transport::Selection,
    user::UserId,
};

/// This server's part in a cluster.
pub(crate) struct Cluster {
    link: Link,
    queue: Queue,
    /// What is asked of Redis while somebody waits.
    asking: shared::Asking,
    /// Turns of calls with a common key.
    turns: shared::Turns,
    /// Among whom calls with a common key run one after the other.
    serial: config::Serial,
    channels: Channels,
    signing: Arc<Signing>,
    census: Census,
    ends: Ends,
    servers: Servers,
    elders: Elders,
    /// Which emitters are heard.
    accept: Vec<Accept>,
    /// What they have said.
    inbound: Inbound,
    /// What other servers are to know of the connections here.
    pub sessions: Sessions,
    /// Up to where the stream was read and performed.
    read_up_to: AtomicU64,
    closed: CancellationToken,
    on_loss: OnLoss,
    /// What was passed on to other servers that have the sessions.
    pub passed_on: PassedOn,
    /// What is sent happens here at once, since Redis is away.
    is_alone: Mutex<bool>,
    /// What was last said of clients that have got what is not in the stream.
    is_ahead: AtomicBool,
}

/// What becomes of a client that is back and shows what it had.
pub(crate) enum Recalled {
    /// It had its connection here, and nobody else has.
    Here,
    /// It had it elsewhere.
    Elsewhere(Box<Kept>),
    /// It has none.
    Nowhere,
}

/// How long a server may take to let a connection go whose client is back elsewhere. One that takes longer
/// has likely ended without a word.
const RELEASED_WITHIN: Duration = Duration::from_secs(1);

/// How long a server that stops may take to send and write the last.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// How long another server may take to write what a client had that has just left it. Node's write nothing
/// before.
const WRITTEN_WITHIN: Duration = Duration::from_millis(100);

/// How long clients wait for a server that has just started, and those that are back for one that lost Redis for a moment.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(1);

/// How long it may take to find out what a client had. After that it starts afresh.
const RECALLED_WITHIN: Duration = Duration::from_secs(4);

/// How it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Whether it reads what others send.
    pub is_connected: bool,
    /// Entries that wait to be sent, or to be read back.
    pub waiting_entries: usize,
    /// What they take, in bytes.
    pub waiting_bytes: usize,
    /// What was passed on to other servers.
    pub passed_on: PassedOnSample,
}

/// Redis does not take what is sent, and no more can wait for it.
#[derive(Debug, thiserror::Error)]
#[error("Redis does not take what goes to other servers, and no more can wait for it")]
pub(crate) struct Full;

impl Cluster {
    /// The cluster that is configured, if one is. It is not connected yet: that is for [`Sender`] and
    /// [`Reader`].
    pub(crate) fn new(config: &config::Cluster, recovery: &config::Recovery) -> Option<Arc<Self>> {
        let url = config.url.as_ref()?;
        let seal = config.secret.as_ref().map(Seal::new);
        let signing = Arc::new(Signing::new(config));
        let own = config.address.clone().zip(seal);
        let link = Link::new(url, config);
        let sessions = Sessions::new(recovery.max_age, signing.clone(), link.prefix.clone());
        Some(Arc::new(Self {
            link,
            queue: Queue::new(config.queue_bytes.as_usize()),
            asking: shared::Asking::default(),
            turns: shared::Turns::new(),
            serial: config.serial,
            channels: Channels::new(),
            signing,
            census: Census::default(),
            ends: Ends::new(),
            servers: Servers::new(own),
            elders: Elders::default(),
            accept: config.accept.clone(),
            inbound: Inbound::default(),
            sessions,
            read_up_to: AtomicU64::default(),
            closed: CancellationToken::new(),
            on_loss: config.on_loss,
            passed_on: PassedOn::default(),
            is_alone: Mutex::default(),
            is_ahead: AtomicBool::default(),
        }))
    }

    /// This server's name in the cluster.
    pub(crate) fn name(&self) -> &str {
        &self.queue.name
    }

    /// What becomes of a client that is back as `user`, in this namespace, and shows this private id. If it
    /// had its connection on another server, that one lets it go, and all that was sent until then is here.
    pub(crate) async fn recall(
        &self,
        pid: &str,
        namespace: &str,
        user: Option<&UserId>,
    ) -> Recalled {
        let recalled = timeout(RECALLED_WITHIN, self.try_recall(pid, namespace, user)).await;
        match recalled {
            Ok(Ok(recalled)) => return recalled,
            Ok(Err(error)) => tracing::debug!(%error, "a client that is back starts afresh"),
            Err(_) => tracing::debug!("a client that is back starts afresh: Redis takes too long"),
        }
        self.link.forget_shared().await;
        Recalled::Nowhere
    }

    async fn try_recall(
        &self,
        pid: &str,
        namespace: &str,
        user: Option<&UserId>,
    ) -> RedisResult<Recalled> {
        if self.queue.is_ahead() {
            // Clients here have got what is still to come in the order of the stream.
            return Ok(Recalled::Nowhere);
        }
        if !self.queue.has_room() {
            // All servers are to be told who is back.
            return Ok(Recalled::Nowhere);
        }
        if self.sessions.is_waiting(pid) {
            return Ok(Recalled::Here);
        }
        if !self.catches_up().await {
            return Ok(Recalled::Nowhere);
        }
        let mut redis = self.link.shared().await?;
        let began = Instant::now();
        let mut released = None;
        let found = loop {
            let Some(carried) = self.sessions.look(&self.link, &mut redis, pid).await? else {
                if began.elapsed() > WRITTEN_WITHIN {
                    return Ok(Recalled::Nowhere);
                }
                sleep(LOOK).await;
                continue;
            };
            if !carried.is_of(user) {
                return Ok(Recalled::Nowhere);
            }
            let Some(own) = &carried.own else {
                break carried;
            };
            if own.namespace != namespace {
                return Ok(Recalled::Nowhere);
            }
            if *own.server == *self.queue.name {
                return Ok(Recalled::Here);
            }
            if !own.is_here {
                break carried;
            }
            let since = match released {
                Some(since) => since,
                None => {
                    let its = Selection {
                        sockets: vec![carried.id.clone()],
                        ..Selection::default()
                    };
                    self.send(namespace, its, Change::Release, |_, _| {});
                    *released.insert(Instant::now())
                }
            };
            if since.elapsed() > RELEASED_WITHIN {
                break carried;
            }
            sleep(LOOK).await;
        };
        let (link, name) = (&self.link, &*self.queue.name);
        let taken = self.sessions.take_kept(name, link, &mut redis, &found);
        let Some(kept) = taken.await? else {
            return Ok(Recalled::Nowhere);
        };
        while self.read_up_to.load(Ordering::Acquire) < kept.newest.number() {
            sleep(LOOK).await;
        }
        Ok(Recalled::Elsewhere(Box::new(kept)))
    }

    /// Waits until all was read that there is in the stream. False if that takes too long: Redis is away.
    pub(crate) async fn catches_up(&self) -> bool {
        let mut rounds = self.link.round.subscribe();
        let has_caught_up = rounds.wait_for(|round| round.has_caught_up);
        timeout(CAUGHT_UP_WITHIN, has_caught_up).await.is_ok()
    }

    /// Writes what changes about connections; see [`Sessions::run`].
    pub(crate) async fn keep_sessions(&self, here: &impl Here) {
        self.sessions.run(&self.queue.name, &self.link, here).await;
    }

    /// This server leaves the cluster, when all that was to be sent and written has been, or Redis takes
    /// too long.
    pub(crate) async fn close(&self) {
        let settled = async {
            while self.queue.waiting().0 > 0 || !self.sessions.is_written() {
                sleep(LOOK).await;
            }
        };
        if timeout(SETTLED_WITHIN, settled).await.is_err() {
            tracing::warn!("not all that was for other servers has reached Redis");
        }
        self.closed.cancel();
    }

    /// Waits until it has left.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// How many clients the other servers have, as far as they have said.
    pub(crate) fn clients_elsewhere(&self) -> usize {
        self.census.elsewhere()
    }

    /// Whether calls with a common key run one after the other among all servers.
    pub(crate) fn shares_turns(&self) -> bool {
        self.serial == config::Serial::Cluster
    }

    /// Whether emitters are heard.
    pub(crate) fn hears_emitters(&self) -> bool {
        !self.accept.is_empty()
    }

    /// Has sockets of all servers changed, these ones too: when the entry is read back or, while Redis is away
    /// and that is configured, by `perform`, now.
    pub(crate) fn send(
        &self,
        namespace: &str,
        to: Selection,
        change: Change,
        perform: impl FnOnce(Selection, Change),
    ) {
        // Held while it happens here, so that all of it happens in the order in which it was sent.
        let is_alone = self.is_alone.lock();
        let (kind, data) = change.write(&to);
        self.queue.push(namespace, kind, data, *is_alone);
        if *is_alone {
            perform(to, change);
        }
    }

    /// Redis is away: what waits for it happens here, and so does what is sent from now on.
    fn go_on_alone(&self, apply: &impl Apply) {
        if self.on_loss == OnLoss::Hold {
            return;
        }
        let mut is_alone = self.is_alone.lock();
        *is_alone = true;
        self.is_ahead.store(true, Ordering::Relaxed);
        apply.is_ahead(true);
        for entry in self.queue.do_all() {
            if let Some(entry) = entry.entry() {
                apply.apply_alone(entry);
            }
        }
    }

    /// Redis is back: what is sent from now on happens when it is read back.
    fn go_on_together(&self, apply: &impl Apply) {
        *self.is_alone.lock() = false;
        self.note_ahead(apply);
    }

    /// Says so when clients here have got what is not in the stream yet, or when it all is.
    fn note_ahead(&self, apply: &impl Apply) {
        // Held, so that nothing happens here alone meanwhile.
        let is_alone = self.is_alone.lock();
        let is_ahead = *is_alone || self.queue.is_ahead();
        self.is_ahead.store(is_ahead, Ordering::Relaxed);
        apply.is_ahead(is_ahead);
    }

    /// Answers in the stream.
    fn write(&self, namespace: &str, saying: Saying) {
        let Saying {
            kind,
            json,
            attachments,
        } = saying;
        let data = stream::entry::encode(json, &attachments);
        self.queue.push(namespace, kind, data, false);
    }

    /// Whether more may be sent. Who has asked may still send what it is about to.
    pub(crate) fn check_room(&self) -> Result<(), Full> {
        self.queue.has_room().then_some(()).ok_or(Full)
    }

    /// How it stands.
    pub(crate) fn sample(&self) -> Sample {
        let (waiting_entries, waiting_bytes) = self.queue.waiting();
        Sample {
            is_connected: self.link.round.borrow().has_caught_up,
            waiting_entries,
            waiting_bytes,
            passed_on: self.passed_on.sample(),
        }
    }
}

//! A client that listens, and comes back to whichever server there is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    ledger::{Followed, Ledger},
    members::Member,
};
use crate::{
    client::Client,
    packet::{Packet, offset, without_offset},
};

/// The event whose arguments are a server's number and an event's.
pub const EVENT: &str = "told";

/// Nothing, not even a ping, for so long is the end of a connection: the server's interval and time-out,
/// with what a machine may need that does all of this at once.
const SILENCE: Duration = Duration::from_secs(5);

/// How long a client waits before it tries again: up to so many milliseconds.
const PAUSE_MS: u64 = 500;

/// What listeners have in common.
pub struct Crowd {
    pub members: Vec<Arc<Member>>,
    pub ledger: Ledger,
    /// How many are connected.
    pub connected: AtomicUsize,
    /// How often one came back and missed nothing, and how often it began afresh.
    pub recovered: AtomicU64,
    pub afresh: AtomicU64,
    /// Events that came.
    pub copies: AtomicU64,
    /// Nothing more is to be sent.
    pub is_over: AtomicBool,
    /// Nothing more is sent.
    pub is_all_sent: AtomicBool,
    /// And nothing more comes.
    pub is_quiet: AtomicBool,
}

/// One of them.
pub struct Listener {
    crowd: Arc<Crowd>,
    id: u64,
    token: String,
    /// What it was told at its last connection, and the place of the last event that it got.
    returning: Option<(String, Option<String>)>,
    followed: Followed,
}

impl Listener {
    /// User `id`.
    pub fn new(crowd: Arc<Crowd>, id: u64) -> Self {
        Self {
            token: crowd.members[0].target.token(id),
            followed: Followed::new(crowd.members.len()),
            crowd,
            id,
            returning: None,
        }
    }

    /// Listens until it is over and everything is there, or nothing comes any more; returns what it got.
    pub async fn run(mut self) -> Result<Followed> {
        loop {
            let member = &self.crowd.members[fastrand::usize(..self.crowd.members.len())];
            let member = member.clone();
            let mut is_connected = false;
            let ended = self.listen(&member, &mut is_connected).await;
            if is_connected {
                self.crowd.connected.fetch_sub(1, Ordering::Relaxed);
            }
            match ended {
                Ok(()) => return Ok(self.followed),
                // What it does not understand ends the test, what breaks is what the test is for.
                Err(error) if error.is::<Misunderstood>() => return Err(error),
                Err(_) if self.crowd.is_quiet.load(Ordering::Relaxed) => {
                    self.followed.end(&self.crowd.ledger.counts());
                    return Ok(self.followed);
                }
                Err(_) => sleep(Duration::from_millis(fastrand::u64(..PAUSE_MS))).await,
            }
        }
    }

    async fn listen(&mut self, member: &Member, is_connected: &mut bool) -> Result<()> {
        let auth = match &self.returning {
            Some((pid, offset)) => json!({ "token": self.token, "pid": pid, "offset": offset }),
            None => json!({ "token": self.token }),
        };
        let mut client = timeout(SILENCE, Client::begin(&member.target, &auth)).await??;
        loop {
            match timeout(SILENCE, client.read()).await {
                Ok(read) => read?,
                Err(_) => bail!("the server is silent"),
            }
            client.packets(|packet, _| match packet {
                Packet::Connected { session, .. } => {
                    *is_connected = true;
                    self.connected(session)
                }
                Packet::Event(arguments) => self.event(arguments),
                Packet::Open(_) => Ok(()),
                other => bail!("unexpected: {other:?}"),
            })?;
            timeout(SILENCE, client.flush()).await??;
            if *is_connected && self.is_over() {
                return Ok(());
            }
        }
    }

    /// Whether nothing more comes, or is to come.
    fn is_over(&mut self) -> bool {
        let counts = self.crowd.ledger.counts();
        let is_over = self.crowd.is_quiet.load(Ordering::Relaxed)
            || self.crowd.is_all_sent.load(Ordering::Relaxed) && self.followed.has_all(&counts);
        if is_over {
            self.followed.end(&counts);
        }
        is_over
    }

    fn connected(&mut self, session: &[u8]) -> Result<()> {
        let session: Value = serde_json::from_slice(session)?;
        let pid = session["pid"].as_str().context("no recovery")?;
        let crowd = &self.crowd;
        crowd.connected.fetch_add(1, Ordering::Relaxed);
        match &self.returning {
            Some((before, _)) if before == pid => {
                crowd.recovered.fetch_add(1, Ordering::Relaxed);
            }
            before => {
                if before.is_some() {
                    crowd.afresh.fetch_add(1, Ordering::Relaxed);
                }
                self.returning = Some((pid.to_owned(), None));
                self.followed.start_afresh();
            }
        }
        Ok(())
    }

    fn event(&mut self, arguments: &[u8]) -> Result<()> {
        if let (Some(place), Some((_, last))) = (offset(arguments), &mut self.returning) {
            *last = Some(place.to_owned());
        }
        let told = [b"[", without_offset(arguments), b"]"].concat();
        let told: Value = serde_json::from_slice(&told)?;
        if told[0] != EVENT {
            return Ok(());
        }
        let number = |place: usize| {
            told[place]
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
        };
        let (Some(server), Some(number)) = (number(1), number(2)) else {
            return Err(Misunderstood(format!("client {} got {told}", self.id)).into());
        };
        self.crowd.copies.fetch_add(1, Ordering::Relaxed);
        self.crowd
            .ledger
            .got(server, number)
            .map_err(Misunderstood)?;
        self.followed.got(server, number);
        Ok(())
    }
}

/// Something came that nobody has sent.
#[derive(Debug)]
struct Misunderstood(String);

impl std::error::Error for Misunderstood {}

impl std::fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

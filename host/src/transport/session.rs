//! What the front knows of each client's engine.io session.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::task::AtomicWaker;
use serde::Serialize;
use tokio::sync::Notify;

/// The sessions by the id that their requests carry: those that began with polling, and those that
/// have joined a namespace. A session leaves the table when socketioxide lets go of it.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Weak<Session>>>);

impl Sessions {
    /// A new session, not yet in the table.
    pub fn begin(self: &Arc<Self>) -> Arc<Session> {
        Arc::new(Session {
            sessions: self.clone(),
            id: OnceLock::new(),
            on_websocket: AtomicBool::new(false),
            upgrading: AtomicBool::new(false),
            release_poll: Notify::new(),
            poll: tokio::sync::Mutex::new(()),
            introductions: Mutex::default(),
            is_ended: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            end_polling: OnceLock::new(),
        })
    }

    /// Enters a session under the id that socketioxide has given it.
    pub fn enter(&self, session: &Arc<Session>, id: String) {
        let id = session.id.get_or_init(|| id);
        let mut table = self.0.lock().expect("no holder panics");
        table.insert(id.clone(), Arc::downgrade(session));
    }

    /// The session of this id.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.0.lock().expect("no holder panics").get(id)?.upgrade()
    }
}

/// One client's session. The requests that socketioxide keeps hold it, and so does the stream of
/// a websocket.
pub struct Session {
    sessions: Arc<Sessions>,
    id: OnceLock<String>,
    on_websocket: AtomicBool,
    upgrading: AtomicBool,
    /// Asks the poll that waits, or the next one, to come back without packets.
    pub release_poll: Notify,
    /// Held by the poll that waits.
    pub poll: tokio::sync::Mutex<()>,
    introductions: Mutex<Vec<Introduction>>,
    is_ended: AtomicBool,
    /// The client takes nothing at the moment.
    is_blocked: AtomicBool,
    /// Who waits for bytes from the websocket.
    pub reader: AtomicWaker,
    /// Who waits for room to write to it.
    pub writer: AtomicWaker,
    /// Ends the session while it is with polling.
    pub end_polling: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// How a connection is introduced to its client, in the answer to its CONNECT packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Introduction {
    /// The namespace's path.
    #[serde(skip)]
    pub namespace: String,
    /// What the client sees as `socket.id`. Not the session's id: whoever knows that one can take
    /// a polling session over, and clients show `socket.id` to each other.
    pub sid: String,
    /// What the client shows when it comes back; none if it need not try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
}

impl Session {
    /// Whether its packets go over a websocket.
    pub fn is_on_websocket(&self) -> bool {
        self.on_websocket.load(Ordering::Acquire)
    }

    /// It goes on over a websocket, for good.
    pub fn set_on_websocket(&self) {
        self.on_websocket.store(true, Ordering::Release);
    }

    /// Ends it. The client sees the transport close, and may come back.
    pub fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
        if let Some(end_polling) = self.end_polling.get()
            && !self.is_on_websocket()
        {
            end_polling();
        }
    }

    /// Whether it must not go on.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Notes whether the websocket takes what is written to it.
    pub fn set_blocked(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// Whether packets have to wait for the client: its websocket takes nothing, or no poll waits.
    pub fn is_blocked(&self) -> bool {
        match self.is_on_websocket() {
            true => self.is_blocked.load(Ordering::Relaxed),
            false => self.poll.try_lock().is_ok(),
        }
    }

    /// Claims the upgrade; false if another websocket has it already.
    pub fn begin_upgrade(&self) -> bool {
        !self.is_on_websocket() && !self.upgrading.swap(true, Ordering::AcqRel)
    }

    /// Gives up the claim: the session stays with polling.
    pub fn abandon_upgrade(&self) {
        self.upgrading.store(false, Ordering::Release);
    }

    /// Announces how a connection is to be introduced. Called before socketioxide answers the
    /// CONNECT packet.
    pub fn introduce(&self, introduction: Introduction) {
        let mut introductions = self.introductions.lock().expect("no holder panics");
        // A former answer that never went out is out of date.
        introductions.retain(|other| other.namespace != introduction.namespace);
        introductions.push(introduction);
    }

    /// Whether a connection is still to be introduced.
    pub fn has_introductions(&self) -> bool {
        !self
            .introductions
            .lock()
            .expect("no holder panics")
            .is_empty()
    }

    /// The answer that the client gets instead of socketioxide's, if `packet` is the engine.io
    /// packet of an answer to CONNECT.
    pub fn connect_answer(&self, packet: &[u8]) -> Option<String> {
        let rest = packet.strip_prefix(b"40")?;
        let namespace = match rest.first()? {
            b'/' => rest.split(|byte| *byte == b',').next()?,
            _ => b"/",
        };
        let mut introductions = self.introductions.lock().expect("no holder panics");
        let index = introductions
            .iter()
            .position(|introduction| introduction.namespace.as_bytes() == namespace)?;
        let introduction = introductions.swap_remove(index);
        let json = serde_json::to_string(&introduction).expect("texts always serialise");
        Some(match introduction.namespace.as_str() {
            "/" => format!("40{json}"),
            namespace => format!("40{namespace},{json}"),
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            let mut table = self.sessions.0.lock().expect("no holder panics");
            table.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction(namespace: &str, sid: &str) -> Introduction {
        Introduction {
            namespace: namespace.to_owned(),
            sid: sid.to_owned(),
            pid: None,
        }
    }

    #[test]
    fn a_session_leaves_the_table_with_its_last_holder() {
        let sessions: Arc<Sessions> = Arc::default();
        let session = sessions.begin();
        sessions.enter(&session, "a".to_owned());
        assert!(Arc::ptr_eq(&sessions.get("a").unwrap(), &session));
        drop(session);
        assert!(sessions.get("a").is_none() && sessions.0.lock().unwrap().is_empty());
    }

    #[test]
    fn only_one_websocket_at_a_time_can_take_a_session_over() {
        let session = Arc::<Sessions>::default().begin();
        assert!(session.begin_upgrade() && !session.begin_upgrade());
        session.abandon_upgrade();
        assert!(session.begin_upgrade());
        session.set_on_websocket();
        session.abandon_upgrade();
        assert!(!session.begin_upgrade());
    }

    #[test]
    fn each_connection_is_introduced_once_in_its_own_namespace() {
        let session = Arc::<Sessions>::default().begin();
        session.introduce(introduction("/", "old"));
        session.introduce(introduction("/", "main"));
        session.introduce(introduction("/admin", "other"));
        assert_eq!(session.connect_answer(b"42[\"a\"]"), None);
        assert_eq!(session.connect_answer(b"40/foo,{\"sid\":\"x\"}"), None);
        assert_eq!(
            session.connect_answer(b"40/admin,{\"sid\":\"x\"}").unwrap(),
            "40/admin,{\"sid\":\"other\"}"
        );
        assert_eq!(
            session.connect_answer(b"40{\"sid\":\"x\"}").unwrap(),
            "40{\"sid\":\"main\"}"
        );
        assert!(!session.has_introductions());
        assert_eq!(session.connect_answer(b"40{\"sid\":\"x\"}"), None);
    }
}

//! What the host keeps of the clients of native endpoints. Nobody is told when a socket of socketioxide's
//! ends, so this is where socketioxide keeps it: it goes with the session, or with the socket.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use socketioxide::socket::{Sid, Socket};
use tokio::time::sleep;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{Host, carrier::Carrier};
use crate::{
    address::ClientAddress,
    deadlines::{Expiring, NEVER, TokenDeadline},
    error::{ERROR_EVENT, Envelope, WireError},
    revocation::Revocations,
    transport::Guest,
    user::User,
};

/// How long a client may take to get what was sent to it before the end.
const PARTING: Duration = Duration::from_secs(2);

/// A client's session. The request that began it has it, and that lasts as long as any of its sockets.
pub(super) struct Session {
    /// Where the client is.
    pub address: ClientAddress,
    /// Ends its websocket, if it began with one.
    pub websocket: CancellationToken,
    carrier: Arc<Carrier>,
    /// Counts the client for all its connections together.
    present: Mutex<Weak<TaskTrackerToken>>,
    /// It is one of the sessions that there may be.
    _guest: Guest,
}

impl Session {
    pub(super) fn new(address: ClientAddress, guest: Guest, carrier: Arc<Carrier>) -> Self {
        Self {
            address,
            websocket: carrier.end_of_websocket(),
            carrier,
            present: Mutex::default(),
            _guest: guest,
        }
    }

    /// The session of a socket's client.
    pub(super) fn of(socket: &Socket) -> Arc<Self> {
        let session = socket.req_parts().extensions.get::<Arc<Self>>();
        session
            .expect("the front puts it into what begins a session")
            .clone()
    }

    /// Ends the client's transport, `id` being that of its sockets; the client may come back.
    pub(super) fn end(&self, id: Sid) {
        self.websocket.cancel();
        self.carrier.end(id);
    }

    /// The same once the client has got what is on its way: most close the transport themselves then.
    pub(super) fn part(self: &Arc<Self>, id: Sid) {
        let this = self.clone();
        self.carrier.runtime().spawn(async move {
            sleep(PARTING).await;
            this.end(id);
        });
    }

    /// Counts the client as present, for as long as one of its connections keeps this.
    fn enter(&self, clients: &TaskTracker) -> Arc<TaskTrackerToken> {
        let mut present = self.present.lock();
        present.upgrade().unwrap_or_else(|| {
            let counted = Arc::new(clients.token());
            *present = Arc::downgrade(&counted);
            counted
        })
    }
}

/// A client in one namespace. The socket has it.
pub(super) struct Connection {
    socket: Weak<Socket>,
    session: Arc<Session>,
    /// When the token of its user expires.
    deadline: ArcSwapOption<TokenDeadline>,
    present: ArcSwapOption<TaskTrackerToken>,
}

impl Connection {
    /// The connection of a socket that is being let in.
    pub(super) fn begin(socket: &Arc<Socket>, session: Arc<Session>) -> Arc<Self> {
        let connection = Arc::new(Self {
            socket: Arc::downgrade(socket),
            session,
            deadline: ArcSwapOption::empty(),
            present: ArcSwapOption::empty(),
        });
        socket.extensions.insert(connection.clone());
        connection
    }

    /// The connection of a socket.
    pub(super) fn of(socket: &Socket) -> Option<Arc<Self>> {
        socket.extensions.get()
    }

    /// It is let in.
    pub(super) fn enter(&self, id: Sid, host: &Host) {
        self.present.store(Some(self.session.enter(&host.present)));
        if self.session.carrier.is_closing() {
            // It was not there when all others were ended.
            self.session.end(id);
        }
    }

    /// Makes it `user`'s: the rooms of the former user are left, those of the new one joined.
    pub(super) fn authenticate(self: &Arc<Self>, socket: &Socket, user: User, host: &Host) {
        let rooms = user.rooms();
        let at = user.token.expires.unwrap_or(NEVER);
        let settings = host.settings.load();
        let verifier = settings.verifier.as_ref();
        let of_user = user.clone();
        let former = socket.extensions.insert(user);
        let mut left = former.as_ref().map(User::rooms).unwrap_or_default();
        left.retain(|room| !rooms.contains(room));
        socket.leave(left);
        socket.join(rooms);
        let expiring: Weak<dyn Expiring> = Arc::<Self>::downgrade(self);
        let deadline = host.deadlines.add(at, expiring);
        self.deadline.store(Some(Arc::new(deadline)));
        // Who ends those that are revoked may have looked before it was there to be seen.
        if verifier.is_some_and(|verifier| verifier.has_revoked(&of_user)) {
            self.expire();
        }
    }
}

impl Expiring for Connection {
    fn expires_at(&self, at: u64) -> bool {
        let socket = self.socket.upgrade();
        let user = socket.and_then(|socket| socket.extensions.get::<User>());
        user.is_some_and(|user| user.token.expires == Some(at))
    }

    fn warn(&self, error: &WireError) {
        if let Some(socket) = self.socket.upgrade() {
            // One that takes nothing more is not told.
            let _ = socket.emit(ERROR_EVENT, &Envelope { error });
        }
    }

    fn expire(&self) {
        if let Some(socket) = self.socket.upgrade() {
            tracing::debug!(address = %self.session.address, "a native connection ends with its token");
            self.session.end(socket.id);
        }
    }

    fn is_revoked(&self, revocations: &Revocations, now: u64) -> bool {
        let socket = self.socket.upgrade();
        let user = socket.and_then(|socket| socket.extensions.get::<User>());
        user.is_some_and(|user| revocations.have(&user, now))
    }
}

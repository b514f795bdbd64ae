//! The door: who may come in, who takes what comes, and what becomes of clients that come back.

mod auth_object;
mod events;
mod identity;
mod lost;

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::HeaderMap;

use self::{auth_object::Resume, events::Events};
pub(crate) use self::{
    auth_object::{AuthObject, InvalidAuth},
    identity::user_of,
};
use crate::{
    address::ClientAddress,
    admin::Admin,
    auth::RequestToken,
    cluster::Recalled,
    connection::Connection,
    directory::{Directory, Unopened},
    dispatch::{Dispatcher, Welcome, unguarded},
    error::{ConnectError, WireError},
    recovery::Replay,
    settings::Settings,
    telemetry::SpanContext,
    transport::{
        Adapter, Door, EndReason, Malformed, Part, Receiver, Session, SessionKey, SocketKey, Task,
    },
    user::User,
};

/// Decides about the clients of every namespace.
pub(crate) struct Sockets {
    /// Where everything goes.
    pub dispatcher: Arc<Dispatcher>,
    /// Which namespaces there are.
    pub directory: Arc<Directory>,
    /// Takes the pages of `[admin]`, which are none of the others' connections.
    pub admin: Option<Arc<Admin>>,
}

/// A client that is let in.
struct Admitted {
    welcome: Welcome,
    /// What it missed, if it is back.
    missed: Option<Replay>,
}

/// A connection that a client has back.
struct Resumed {
    key: SocketKey,
    missed: Replay,
}

impl Door for Sockets {
    fn keeps(&self, part: Part<'_>) -> bool {
        let is_shown = || self.admin.as_ref().is_some_and(|it| it.shows(part));
        self.dispatcher.registry.load().may_read(part) || is_shown()
    }

    fn token(&self, headers: &HeaderMap) -> Option<RequestToken> {
        let settings = self.dispatcher.settings.load();
        settings.request_tokens.as_ref()?.of(headers)
    }

    fn span(&self, headers: &HeaderMap) -> Option<SpanContext> {
        self.dispatcher.broadcast.tracer()?;
        SpanContext::of_headers(headers)
    }

    fn admit(&self, peer: IpAddr, headers: &HeaderMap) -> Result<ClientAddress, Duration> {
        let settings = self.dispatcher.settings.load();
        let address = settings.trusted_proxies.client(peer, headers);
        match &settings.connections {
            Some(limit) => limit.check_address(address).map(|()| address),
            None => Ok(address),
        }
    }

    fn connect(
        self: Arc<Self>,
        session: Arc<Session>,
        namespace: &str,
        auth: &str,
    ) -> Result<Task, Malformed> {
        let auth = match AuthObject::parse(auth) {
            Ok(auth) => Ok(auth),
            Err(InvalidAuth::Unreadable(error)) => Err(error),
            Err(InvalidAuth::Malformed) => return Err(Malformed),
        };
        if let Some(admin) = self.admin.as_ref().filter(|it| it.serves(namespace)) {
            return Ok(Box::pin(admin.clone().connect(session, auth)));
        }
        let namespace = namespace.to_owned();
        Ok(Box::pin(async move {
            let admitted = match auth {
                Ok(auth) => self.decide(&session, &namespace, auth).await,
                Err(error) => Err(error.into()),
            };
            let refused = admitted.as_ref().err().map(|error| &*error.message);
            self.dispatcher.metrics.connection(refused);
            if refused.is_some() {
                let audit = &self.dispatcher.audit;
                audit.client_refused(session.address, &namespace, refused);
            }
            match admitted {
                Ok(admitted) => self.let_in(admitted),
                Err(error) => session.refuse(&namespace, &error),
            }
        }))
    }
}

impl Sockets {
    /// Decides whether a client may come in.
    async fn decide(
        &self,
        session: &Arc<Session>,
        namespace: &str,
        mut auth: AuthObject,
    ) -> Result<Admitted, ConnectError> {
        if !self.directory.knows(namespace) {
            // It may be the guard's own, and come with it.
            return Err(
                match self.dispatcher.registry.load().lacks_guard(namespace) {
                    true => unguarded(),
                    false => refusal(Unopened::Unknown),
                },
            );
        }
        let settings = self.dispatcher.settings.load_full();
        let of_request = session
            .handshake
            .as_ref()
            .and_then(|said| said.token.as_ref());
        let registry = &self.dispatcher.registry;
        let is_granted = |claim: &str| registry.load().may_read(Part::Claim(claim));
        let token = auth.take_token(of_request, &settings)?;
        let user = user_of(token.as_deref(), &is_granted, &settings, session.address).await?;
        let resume = auth.take_resume();
        // Who may not come in opens nothing.
        let adapter = self
            .directory
            .ask(namespace, Some(session.address.network()));
        let adapter = adapter.map_err(refusal)?;
        if let Some(resume) = &resume {
            let end = |former| self.end_former(former, namespace, user.as_ref());
            adapter.supersede(&resume.pid, session.id, end).await;
        }
        let resumed = match resume {
            Some(resume) => {
                self.resume(session, &adapter, resume, user.as_ref(), &settings)
                    .await
            }
            None => None,
        };
        let address = session.address;
        let (connection, missed) = match resumed {
            Some(Resumed { key, missed }) => {
                let former = missed.former();
                let connection = Connection::back(former, key, session.clone(), address, adapter);
                (connection, Some(missed))
            }
            None => {
                let key = SocketKey::new(session.id);
                let connection = Connection::new(key, session.clone(), address, adapter);
                (connection, None)
            }
        };
        let connection = Arc::new(connection);
        if let Some(user) = user {
            connection.authenticate(user);
        }
        let auth = auth.into_json();
        let admitted = self
            .dispatcher
            .admit_connection(connection.clone(), auth)
            .await;
        let is_served = || self.directory.serves(connection.adapter());
        let admitted = admitted.and_then(|welcome| is_served().then_some(welcome).ok_or_else(gone));
        match admitted {
            Ok(welcome) => Ok(Admitted { welcome, missed }),
            Err(error) => {
                // One that was back may come back another time.
                connection.end(missed.is_some());
                Err(error)
            }
        }
    }

    /// Tells a client that it is connected, and lets its events through.
    fn let_in(&self, admitted: Admitted) {
        let Admitted { welcome, missed } = admitted;
        let connection = welcome.connection.clone();
        let events: Arc<dyn Receiver> = Arc::new(Events {
            dispatcher: self.dispatcher.clone(),
            connection: connection.clone(),
        });
        // Before the client knows: who reacts to it finds it.
        self.dispatcher.connections.insert(connection.clone());
        if !connection.enter(&events) {
            // It is gone already. Nobody else tells the plugins that have let it in.
            events.ended(EndReason::TransportClose);
        } else if !self.directory.serves(connection.adapter()) {
            // The namespace ended meanwhile. Whoever closes one tells those of its clients only that
            // are in it already.
            connection.disconnect();
        } else if let Some(missed) = missed
            && !connection.catch_up(missed)
        {
            tracing::warn!(
                socket = connection.id,
                "a client that came back missed more than is kept; it has to start afresh"
            );
            connection.end_transport();
        }
        self.dispatcher.welcome(&welcome);
    }

    /// Ends a connection whose client is back over another one, as `user`; false if it is not that
    /// user's.
    fn end_former(&self, former: SessionKey, namespace: &str, user: Option<&User>) -> bool {
        let connection = self.dispatcher.connections.get(former, namespace);
        let user = user.map(|user| &user.id);
        let its = connection.filter(|connection| connection.is_of(user));
        its.map(|connection| connection.end_transport()).is_some()
    }

    /// Gives a client the connection that it has had, if it may have it still.
    async fn resume(
        &self,
        session: &Session,
        adapter: &Adapter,
        resume: Resume,
        user: Option<&User>,
        settings: &Settings,
    ) -> Option<Resumed> {
        let id = user.map(|user| &user.id);
        let Resume { pid, offset } = resume;
        let recalled = match adapter.cluster() {
            Some(cluster) => cluster.recall(&pid, adapter.namespace(), id).await,
            None => Recalled::Here,
        };
        let mut returning = match recalled {
            Recalled::Here => adapter.take_former(&pid, offset.as_deref(), id)?,
            Recalled::Elsewhere(mut kept) => {
                // What it left here before that is not what it has now.
                drop(adapter.take_former(&pid, None, id));
                if kept.is_lost {
                    // Before plugins are asked whether it may come in, as where its server lives.
                    kept.carried = self.tell_lost(kept.carried).await;
                }
                adapter.adopt(*kept, offset.as_deref(), session.address)?
            }
            Recalled::Nowhere => return None,
        };
        returning.former.retain_rooms(user, settings);
        let key = returning.former.key.back_in(session.id);
        let missed = adapter.resume(key, returning)?;
        Some(Resumed { key, missed })
    }
}

/// The refusal of a client whose namespace ended as it was let in.
fn gone() -> ConnectError {
    ConnectError {
        // It is told: what comes next is not known to be better.
        is_temporary: false,
        ..WireError::temporary("plugin_unavailable", "the namespace is gone").into()
    }
}

/// What a client is told that asks for a namespace which is not there.
fn refusal(unopened: Unopened) -> ConnectError {
    match unopened {
        // In the words of Node's server, which clients compare.
        Unopened::Unknown => ConnectError::new("Invalid namespace"),
        Unopened::TooMany => {
            WireError::temporary("rate_limited", "there are too many namespaces").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::audit::Audit;
    use crate::{
        admission::RateLimits,
        auth::Providers,
        broadcast::Broadcast,
        config::{self, Config},
        history::History,
        metrics::Metrics,
        namespace::MAIN_NAMESPACE,
        transport::Namespaces,
    };

    /// The door of a server with the main namespace and no plugins.
    fn door(recovery: bool) -> (Arc<Sockets>, Arc<Namespaces>) {
        let recovery = config::Recovery {
            enabled: recovery,
            ..Default::default()
        };
        let namespaces = Arc::new(Namespaces::new(
            recovery,
            config::Presence::default(),
            &config::Socket::default(),
            None,
        ));
        let metrics: Arc<Metrics> = Arc::default();
        let limits = Arc::new(RateLimits::new(metrics.clone()));
        let settings = Settings::new(
            &Config::default(),
            b"secret",
            &limits,
            &Providers::none(),
            &Arc::default(),
        );
        let dispatcher = Dispatcher::new(
            settings,
            Broadcast::new(
                namespaces.clone(),
                Arc::new(History::new(config::History::default())),
                None,
            ),
            metrics,
            Audit::default(),
            crate::store::Store::new(config::Store::in_memory()),
        );
        let directory = Directory::new(
            dispatcher.clone(),
            namespaces.clone(),
            &config::Socket::default(),
        );
        let sockets = Arc::new(Sockets {
            dispatcher,
            directory,
            admin: None,
        });
        let door: Arc<dyn Door> = sockets.clone();
        namespaces.sessions().open_door(Arc::downgrade(&door));
        (sockets, namespaces)
    }

    fn session(namespaces: &Namespaces) -> Arc<Session> {
        let address = IpAddr::from(Ipv4Addr::LOCALHOST).into();
        namespaces.sessions().begin(address, None).unwrap()
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_client_that_ends_while_it_is_let_in() {
        let (sockets, namespaces) = door(true);
        let session = session(&namespaces);
        session.receive("40").unwrap();
        assert_eq!(sockets.dispatcher.connections.clients(), 1);
        session.end_here(EndReason::TransportClose);
        assert_eq!(sockets.dispatcher.connections.clients(), 0);

        let adapter = namespaces.get(MAIN_NAMESPACE).unwrap();
        let late = self::session(&namespaces);
        let key = SocketKey::new(late.id);
        let connection = Connection::new(key, late.clone(), late.address, adapter);
        let connection = Arc::new(connection);
        let admitted = sockets
            .dispatcher
            .admit_connection(connection.clone(), "{}".to_owned());
        let welcome = admitted.await.unwrap();
        // It is gone before it is told.
        late.end_here(EndReason::TransportClose);
        sockets.let_in(Admitted {
            welcome,
            missed: None,
        });
        assert!(connection.has_ended());
        assert_eq!(sockets.dispatcher.connections.clients(), 0);
        assert_eq!(namespaces.sessions().count(), 0);
        let left = Arc::downgrade(&connection);
        drop((connection, late, session));
        assert!(left.upgrade().is_none());
    }

    #[test]
    fn a_connection_that_has_ended_is_in_no_room_whatever_joins_it_later() {
        for recovery in [true, false] {
            let (_sockets, namespaces) = door(recovery);
            let session = session(&namespaces);
            let adapter = namespaces.get(MAIN_NAMESPACE).unwrap();
            let key = SocketKey::new(session.id);
            let connection = Connection::new(key, session.clone(), session.address, adapter);
            let joined = || connection.adapter().rooms(connection.key);
            connection.join(vec!["early".to_owned()]);
            assert_eq!(joined(), ["early"]);
            assert!(connection.end(true));
            connection.join(vec!["late".to_owned()]);
            assert!(joined().is_empty(), "recovery: {recovery}");
            assert!(!connection.end(true), "it ends once");
        }
    }
}

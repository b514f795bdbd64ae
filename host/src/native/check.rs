//! Who is let into a native namespace: the host decides before the embedder's handler does.

use std::{fmt::Display, pin::Pin, sync::Arc};

use socketioxide::{adapter::LocalAdapter, handler::ConnectHandler, socket::Socket};
use socketioxide_core::Value;

use super::{
    Host,
    client::{Connection, Session},
    events::{self, tell_authenticated},
};
use crate::{
    error::WireError,
    socket::{AuthObject, InvalidAuth, user_of},
};

type Refusal = Box<dyn Display + Send>;

/// A handler of the embedder's behind the host's check.
pub(super) struct Checked<H> {
    pub handler: H,
    pub host: Arc<Host>,
}

// Derived, it would be clonable whatever the handler is.
impl<H: Clone> Clone for Checked<H> {
    fn clone(&self) -> Self {
        Self {
            handler: self.handler.clone(),
            host: self.host.clone(),
        }
    }
}

impl<H, T> ConnectHandler<LocalAdapter, T> for Checked<H>
where
    H: ConnectHandler<LocalAdapter, T>,
    T: Send + Sync + 'static,
{
    /// The client knows that it is connected.
    fn call(&self, socket: Arc<Socket>, auth: Option<Value>) {
        tell_authenticated(&socket);
        self.handler.call(socket, auth);
    }

    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>> {
        Box::pin(async move {
            let admitted = self.admit(&socket, auth).await;
            let refused = admitted.as_ref().err().map(ToString::to_string);
            self.host.metrics.connection(refused.as_deref());
            if refused.is_some() {
                let address = Session::of(&socket).address;
                let audit = &self.host.audit;
                audit.client_refused(address, socket.ns(), refused.as_deref());
            }
            admitted
        })
    }
}

impl<H> Checked<H> {
    async fn admit<T>(&self, socket: &Arc<Socket>, auth: &Option<Value>) -> Result<(), Refusal>
    where
        H: ConnectHandler<LocalAdapter, T>,
    {
        let connection = check(socket, auth.as_ref(), &self.host)
            .await
            .map_err(|error| Box::new(error.code) as Refusal)?;
        self.handler.call_middleware(socket.clone(), auth).await?;
        connection.enter(socket.id, &self.host);
        Ok(())
    }
}

/// Checks a client's token, and prepares what its user has: rooms and the host's events.
async fn check(
    socket: &Arc<Socket>,
    auth: Option<&Value>,
    host: &Arc<Host>,
) -> Result<Arc<Connection>, WireError> {
    let session = Session::of(socket);
    let json = auth
        .and_then(Value::as_str)
        .map_or("", |auth| auth.as_str());
    let mut auth = AuthObject::parse(json).map_err(|invalid| match invalid {
        InvalidAuth::Unreadable(error) => error,
        InvalidAuth::Malformed => WireError::new("invalid_payload", "auth is not an object"),
    })?;
    let settings = host.settings.load_full();
    let tokens = settings.request_tokens.as_ref();
    let of_request = tokens.and_then(|tokens| tokens.of(&socket.req_parts().headers));
    let token = auth.take_token(of_request.as_ref(), &settings)?;
    let user = user_of(token.as_deref(), &|_| false, &settings, session.address).await?;
    let connection = Connection::begin(socket, session);
    if let Some(user) = user {
        connection.authenticate(socket, user, host);
    }
    events::register(socket, host);
    Ok(connection)
}

//! What clients said when they connected, and the end of connections.
use crate::bindings::mixlab::plugin::sockets;
use crate::bindings::mixlab::plugin::types::Target;
use crate::{Context, Emit, Error, Handshake};

impl Context {
    /// What the client said in the HTTP request that it connected with. Grant: `handshake`.
    ///
    /// ```no_run
    /// use mixlab_plugin::prelude::*;
    ///
    /// fn welcome(cx: &Context, _auth: Value) -> Result<(), Rejection> {
    ///     match cx.handshake()?.parameter("studio") {
    ///         Some(studio) => Ok(cx.join(&format!("studio:{studio}"))?),
    ///         None => Err(Rejection::new("no_studio", "Say which studio you are in")),
    ///     }
    /// }
    /// ```
    pub fn handshake(&self) -> Result<Handshake, Error> {
        sockets::handshake()
    }

    /// Ends the sender's connection to this namespace, behind everything that the handler emits and
    /// behind the ack. The client sees `io server disconnect` and does not come back by itself.
    /// Grant: `disconnect`.
    pub fn disconnect(&self) -> Result<(), Error> {
        sockets::disconnect(&Target::Sender, false)
    }

    /// Ends the sender's connections to all namespaces, like [`Context::disconnect`], and then its
    /// transport. Grant: `disconnect`.
    pub fn close(&self) -> Result<(), Error> {
        sockets::disconnect(&Target::Sender, true)
    }
}

impl Emit {
    /// Ends the connections of everyone selected, like [`Context::disconnect`]:
    /// `cx.to("studio:7").except("hosts").disconnect()?`. Grant: `disconnect`.
    pub fn disconnect(&self) -> Result<(), Error> {
        sockets::disconnect(self.target(), false)
    }

    /// Ends the connections of everyone selected to all namespaces, and then their transports.
    /// Grant: `disconnect`.
    pub fn close(&self) -> Result<(), Error> {
        sockets::disconnect(self.target(), true)
    }
}

impl Handshake {
    /// The first parameter of the URL's query with this name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        first(&self.query, |other| other == name)
    }

    /// The first header with this name, in any case. Grant: `header:NAME`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, |other| other.eq_ignore_ascii_case(name))
    }
}

fn first(pairs: &[(String, String)], is_it: impl Fn(&str) -> bool) -> Option<&str> {
    let found = pairs.iter().find(|(name, _)| is_it(name));
    found.map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_said_is_found_by_its_name() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let handshake = Handshake {
            query: vec![pair("a", "1"), pair("a", "2"), pair("B", "3")],
            headers: vec![pair("user-agent", "test")],
        };
        assert_eq!(handshake.parameter("a"), Some("1"));
        assert_eq!(handshake.parameter("b"), None);
        assert_eq!(handshake.header("User-Agent"), Some("test"));
        assert_eq!(handshake.header("cookie"), None);
    }
}

//! What clients said when they connected, who is there, what the plugin keeps with a connection, and
//! the end of connections.
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bindings::mixlab::plugin::types::Target;
use crate::host::sockets;
use crate::rejection::not_json;
use crate::{Context, Emit, Error, Handshake, Socket};

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

    /// What the plugin keeps with this connection, with what the handler has kept so far; none if
    /// that is nothing. It survives reloads and recoveries, and no other plugin sees it.
    ///
    /// ```no_run
    /// use mixlab_plugin::prelude::*;
    ///
    /// fn roll(cx: &Context, sides: u32) -> Result<u32, Rejection> {
    ///     let rolls = cx.data::<u32>()?.unwrap_or(0) + 1;
    ///     cx.set_data(&rolls)?;
    ///     Ok(rolls % sides)
    /// }
    /// ```
    pub fn data<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        read(&sockets::data()?)
    }

    /// Keeps this with the connection instead of what was there: an effect. The budget `data` says
    /// how large its JSON may be.
    pub fn set_data(&self, data: &(impl Serialize + ?Sized)) -> Result<(), Error> {
        sockets::set_data(&serde_json::to_string(data).map_err(not_json)?)
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
    /// Everyone selected, as they are before the effects of this call:
    /// `for socket in cx.to("studio:7").include_sender().find()? { … }`. Grant: `find`.
    pub fn find(&self) -> Result<Vec<Socket>, Error> {
        sockets::find(self.sockets()?)
    }

    /// How many `find` would tell of, however many they are:
    /// `cx.to("studio:7").include_sender().count()?`. Grant: `find`.
    pub fn count(&self) -> Result<u64, Error> {
        sockets::count(self.sockets()?)
    }

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

impl Socket {
    /// What the plugin keeps with this connection; none if that is nothing.
    pub fn data<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        read(&self.data)
    }
}

/// What has been kept may be that of another version of the plugin.
fn read<T: DeserializeOwned>(data: &str) -> Result<Option<T>, Error> {
    serde_json::from_str(data).map_err(|error| Error::Invalid(format!("data: {error}")))
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
    fn what_was_kept_is_read_as_what_it_is() {
        assert_eq!(read::<u32>("7").unwrap(), Some(7));
        assert_eq!(read::<u32>("null").unwrap(), None);
        assert!(matches!(read::<u32>("\"x\""), Err(Error::Invalid(_))));
    }

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

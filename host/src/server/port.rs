//! The sockets that clients come to: bound here, or opened by somebody else, which is systemd or the process
//! before.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A socket that clients will come to.
pub(super) enum Port {
    /// It refuses connections until it listens.
    Bound(TcpSocket),
    /// It has listened before; connections wait.
    Inherited(std::net::TcpListener),
}

/// Sockets that listen already.
#[derive(Default)]
pub(crate) struct Inherited(Vec<std::net::TcpListener>);

impl Inherited {
    /// These.
    pub(crate) fn new(sockets: Vec<std::net::TcpListener>) -> Self {
        Self(sockets)
    }

    /// Closes those that nobody listens on.
    pub(super) fn close(self) {
        for address in self.0.iter().filter_map(|socket| socket.local_addr().ok()) {
            tracing::warn!(%address, "this socket is open, and not where the configuration has the server listen: it is closed");
        }
    }

    /// The one with one of these addresses.
    fn take(&mut self, addresses: &[SocketAddr]) -> Option<std::net::TcpListener> {
        let is_wanted = |socket: &std::net::TcpListener| {
            socket.local_addr().is_ok_and(|own| {
                let is_it = |wanted: &SocketAddr| {
                    wanted.ip() == own.ip() && [0, own.port()].contains(&wanted.port())
                };
                addresses.iter().any(is_it)
            })
        };
        let index = self.0.iter().position(is_wanted)?;
        Some(self.0.swap_remove(index))
    }
}

impl Port {
    /// The first of these addresses that can be had.
    pub(super) fn bind(addresses: &[SocketAddr], inherited: &mut Inherited) -> io::Result<Self> {
        if let Some(socket) = inherited.take(addresses) {
            return Ok(Self::Inherited(socket));
        }
        let mut reason = io::Error::other("the name has no address");
        for address in addresses {
            match bound(*address) {
                Ok(socket) => return Ok(Self::Bound(socket)),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    /// Where it is.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Bound(socket) => socket.local_addr(),
            Self::Inherited(socket) => socket.local_addr(),
        }
    }

    /// From now on who connects gets an answer.
    pub(super) fn listen(self) -> io::Result<TcpListener> {
        match self {
            Self::Bound(socket) => socket.listen(BACKLOG),
            Self::Inherited(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket)
            }
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Or the connections of a server that has just ended would keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

//! What a server and the process that is to follow it say to each other, over a socket that the new one has as
//! its standard input: it is ready, or why it will never be; then, when the former one has let go of everything,
//! that it may go on, with the sockets that clients come to.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write, stdin},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// So many sockets are handed over at most: that of the server, and that of the redirect to HTTPS.
const MAX_SOCKETS: usize = 2;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_SOCKETS));

/// How the process that is to follow stands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// Its configuration and its plugins are good.
    Ready,
    /// It ends, for this reason.
    Failed(String),
}

/// What was handed over.
pub(crate) struct Handed {
    /// The sockets that clients come to.
    pub sockets: Vec<TcpListener>,
    /// Since when nobody accepts their connections, in milliseconds since 1970.
    pub since: u64,
}

/// The end of a process that is to follow.
pub(crate) struct Former(UnixStream);

impl Former {
    /// Of one that was started by [`crate::cli`] to follow.
    pub(crate) fn on_stdin() -> io::Result<Self> {
        Ok(Self(stdin().as_fd().try_clone_to_owned()?.into()))
    }

    /// Says how this process stands.
    pub(crate) fn tell(&mut self, standing: &Standing) -> io::Result<()> {
        let mut line = serde_json::to_vec(standing)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    /// Waits until the former process has let go of everything, and returns what it has handed over. Blocks.
    pub(crate) fn follow(mut self) -> io::Result<Handed> {
        let (mut since, mut space) = ([0; size_of::<u64>()], [MaybeUninit::uninit(); SPACE]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut since)];
        let received = recvmsg(&self.0, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(handed) = message {
                sockets.extend(handed.map(TcpListener::from));
            }
        }
        if received.bytes < since.len() {
            let gone = "the process that was to hand over has ended without";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, gone));
        }
        // It closes the channel, or ends.
        self.0.read_to_end(&mut Vec::new())?;
        let since = u64::from_be_bytes(since);
        Ok(Handed { sockets, since })
    }
}

/// Hands over these sockets, at which nobody accepts connections `since` then, in milliseconds since 1970: the
/// process at the other end goes on.
pub(crate) fn hand_over(channel: UnixStream, sockets: &[OwnedFd], since: u64) -> io::Result<()> {
    let handed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&handed)) {
        return Err(io::Error::other("there are too many sockets"));
    }
    let since = since.to_be_bytes();
    let parts = [IoSlice::new(&since)];
    sendmsg(&channel, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

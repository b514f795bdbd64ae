//! How far the server is, for systemd where that has started it as `Type=notify`: sd_notify(3).

use std::{
    env,
    ffi::OsStr,
    fmt, io,
    os::unix::net::{SocketAddr, UnixDatagram},
};

/// What there is to tell.
pub(super) enum State {
    /// It serves.
    Ready,
    /// The process that follows this one is the main one from now on.
    MainPid(u32),
    /// It is about to end.
    Stopping,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            Self::MainPid(process) => write!(f, "MAINPID={process}"),
            Self::Stopping => f.write_str("STOPPING=1"),
        }
    }
}

/// Tells systemd, if it wants to hear.
pub(super) fn tell_system(state: &State) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, &format!("{state}\n")) {
        tracing::warn!(%error, "systemd was not told how far the server is");
    }
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address(socket)?)?;
    Ok(())
}

/// With an `@` before it, it is a name in the abstract namespace, which only Linux has, and no path.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(socket)
}

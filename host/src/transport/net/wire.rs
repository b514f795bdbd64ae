//! The connection of a websocket, as it is or with TLS around it. Anybody may write; one task reads.

use std::{
    io::{self, IoSlice, Read, Write},
    net::Shutdown,
    task::{Context, Poll, ready},
};

use rustls::ServerConnection;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};
use tokio_rustls::server::TlsStream;

use crate::ordered_lock::{OrderedMutex, rank};

/// A connection. Nothing of it waits, and it takes no more memory without TLS than its socket.
pub(crate) enum Wire {
    /// What is sent is what is written.
    Plain(TcpStream),
    /// What is sent is encrypted first.
    Secure(Box<Secure>),
}

/// A connection with TLS.
pub(crate) struct Secure {
    tcp: TcpStream,
    /// Held while the socket is read or written: the order of records is that in which they were
    /// encrypted. The reader and one writer at a time want it, and nothing else is locked under it.
    tls: OrderedMutex<{ rank::TLS }, Tls>,
}

struct Tls {
    connection: ServerConnection,
    /// So many bytes are encrypted, and whoever writes does not know of it yet: not all of them have gone out.
    encrypted: usize,
    has_said_goodbye: bool,
}

impl Wire {
    /// A connection whose handshake is done. What it has read already is not lost.
    pub(super) fn secure(stream: TlsStream<TcpStream>) -> Self {
        let (tcp, connection) = stream.into_inner();
        Self::Secure(Box::new(Secure {
            tcp,
            tls: OrderedMutex::new(Tls {
                connection,
                encrypted: 0,
                has_said_goodbye: false,
            }),
        }))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Secure(secure) => &secure.tcp,
        }
    }

    /// Waits until something can be read, or the other side has closed.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Secure(secure) = self
            && secure.tls.lock().has_plaintext()
        {
            return Poll::Ready(Ok(()));
        }
        self.tcp().poll_read_ready(cx)
    }

    /// Waits until something can be written.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_write_ready(cx)
    }

    /// Reads what is there; nothing at the end of what the other side sends.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => try_read(tcp, buffer),
            Self::Secure(secure) => secure.tls.lock().read(&secure.tcp, buffer),
        }
    }

    /// Writes some of the bytes, and says how many.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write(bytes),
            Self::Secure(secure) => secure.write(&[IoSlice::new(bytes)]),
        }
    }

    /// The same of several. Whoever is told to wait begins with the same bytes again: they may be under way
    /// already.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.try_write_vectored(slices),
            Self::Secure(secure) => secure.write(slices),
        }
    }

    /// Says that nothing more comes.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Secure(secure) = self {
            while let Err(error) = secure.tls.lock().say_goodbye(&secure.tcp) {
                if error.kind() != io::ErrorKind::WouldBlock {
                    return Poll::Ready(Err(error));
                }
                ready!(secure.tcp.poll_write_ready(cx))?;
            }
        }
        Poll::Ready(SockRef::from(self.tcp()).shutdown(Shutdown::Write))
    }

    /// Ends it, whatever is under way.
    pub(crate) fn close(&self) {
        // Whoever is gone already needs no end.
        SockRef::from(self.tcp()).shutdown(Shutdown::Both).ok();
    }
}

impl Secure {
    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.tls.lock().write(&self.tcp, slices)
    }
}

impl Tls {
    /// Whether something can be read that has come already.
    fn has_plaintext(&mut self) -> bool {
        // It looks at nothing that it has not looked at before.
        let state = self.connection.process_new_packets();
        state.map_or(true, |state| {
            state.plaintext_bytes_to_read() > 0 || state.peer_has_closed()
        })
    }

    fn read(&mut self, tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.connection.read_tls(&mut Socket(tcp))?;
            if let Err(error) = self.connection.process_new_packets() {
                // The other side is told why, if it takes it.
                self.flush(tcp).ok();
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }

    /// Encrypts a part and sends it. That it is written is said when all of it has gone out: until then what
    /// waits is known by those who wait, as without TLS.
    fn write(&mut self, tcp: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush(tcp)?;
        if self.encrypted == 0 {
            // As much as one system call takes: rustls lets no more than 64 KiB wait.
            self.encrypted = self.connection.writer().write_vectored(slices)?;
            self.flush(tcp)?;
        }
        Ok(std::mem::take(&mut self.encrypted))
    }

    /// Sends what is encrypted.
    fn flush(&mut self, tcp: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut Socket(tcp))?;
        }
        Ok(())
    }

    fn say_goodbye(&mut self, tcp: &TcpStream) -> io::Result<()> {
        if !self.has_said_goodbye {
            self.has_said_goodbye = true;
            self.connection.send_close_notify();
        }
        self.flush(tcp)
    }
}

/// A socket that rustls reads and writes.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        try_read(self.0, buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what is there. What does not fill the buffer is all of it: the next look waits for more, without
/// a system call that finds nothing.
fn try_read(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut drained = None;
    let read = tcp.try_io(Interest::READABLE, || {
        let length = (&*SockRef::from(tcp)).read(buffer)?;
        if (1..buffer.len()).contains(&length) {
            drained = Some(length);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(length)
    });
    drained.map_or(read, Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_tls_takes_no_more_than_its_socket() {
        assert_eq!(size_of::<Wire>(), size_of::<TcpStream>());
    }
}

//! What a client gets over its websocket: frames in their order, written by whoever adds them.
//!
//! A write is one system call and takes a few microseconds; a task that is woken to do it costs as
//! much again. So frames are written where they come up. Only while the reader of the same
//! websocket is busy with what it has read, they wait until it comes back, so that the answers to
//! events that came together leave together.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    net::tcp::OwnedWriteHalf,
    time::{Sleep, sleep},
};

/// How many packets one system call may write.
const MAX_SLICES: usize = 64;

/// How much may wait for a client that reads slowly.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// In packets.
    pub packets: usize,
    /// In bytes. A packet that is larger is taken if nothing waits.
    pub bytes: usize,
}

/// The packets for one client that has a websocket.
#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
    /// The reader has taken bytes and comes back when it has dealt with them.
    is_reader_busy: AtomicBool,
}

#[derive(Default)]
struct State {
    socket: Option<Socket>,
    packets: VecDeque<Bytes>,
    /// What the packets take, in bytes.
    bytes: usize,
    /// There is no socket any more.
    is_closed: bool,
}

/// The way to the client.
struct Socket {
    half: OwnedWriteHalf,
    /// The client has taken nothing since; the reader watches for the end of it.
    is_blocked: bool,
    /// How long one write may take.
    timeout: Duration,
    /// Runs while the socket is blocked.
    blocked: Option<Pin<Box<Sleep>>>,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is on its way.
    Taken,
    /// It is on its way, once somebody calls [`Outbox::flush`].
    Waiting,
    /// There was no room.
    Full,
    /// It was volatile, and the client takes nothing at the moment.
    Skipped,
    /// The client is gone.
    Closed,
    /// The client has no websocket yet.
    Polling,
}

impl Outbox {
    /// Gives it a websocket; `first` makes the frames that go out before all others.
    pub fn open(&self, half: OwnedWriteHalf, timeout: Duration, first: impl FnOnce() -> Bytes) {
        let mut state = self.lock();
        state.add(first());
        state.socket = Some(Socket {
            half,
            is_blocked: false,
            timeout,
            blocked: None,
        });
    }

    /// Adds a packet: frames that belong together. A volatile one is for clients that take it now.
    pub fn push(&self, packet: &Bytes, is_volatile: bool, capacity: Capacity) -> Pushed {
        let mut state = self.lock();
        if state.is_closed {
            return Pushed::Closed;
        }
        let Some(socket) = &state.socket else {
            return Pushed::Polling;
        };
        if is_volatile && socket.is_blocked {
            return Pushed::Skipped;
        }
        let is_full = state.packets.len() >= capacity.packets
            || state.bytes > 0 && state.bytes + packet.len() > capacity.bytes;
        if is_full {
            return Pushed::Full;
        }
        state.add(packet.clone());
        match self.is_reader_busy.load(Ordering::Acquire) {
            true => Pushed::Taken,
            false => Pushed::Waiting,
        }
    }

    /// Runs `send` if the client has no websocket, and sees that it gets none meanwhile.
    pub fn while_polling<T>(&self, send: impl FnOnce() -> T) -> Option<T> {
        let state = self.lock();
        (state.socket.is_none() && !state.is_closed).then(send)
    }

    /// Adds frames that have to go out whatever waits already.
    pub fn push_frames(&self, frames: Bytes) {
        let mut state = self.lock();
        if state.socket.is_some() {
            state.add(frames);
        }
    }

    /// Writes what the client takes. True if the reader has to watch for when it takes more.
    pub fn flush(&self) -> io::Result<bool> {
        self.lock().write()
    }

    /// The reader has taken bytes: what comes up while it deals with them waits until it is back.
    pub fn reader_left(&self) {
        self.is_reader_busy.store(true, Ordering::Release);
    }

    /// The reader is back: writes what the client takes, and wakes the reader when it takes more.
    /// Ready when nothing waits any more; an error if the client has taken nothing for too long.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        self.is_reader_busy.store(false, Ordering::Release);
        state.poll_write(cx)
    }

    /// Whether the client takes nothing at the moment.
    pub fn is_blocked(&self) -> bool {
        let state = self.lock();
        state
            .socket
            .as_ref()
            .is_some_and(|socket| socket.is_blocked)
    }

    /// Whether the client has a websocket, or had one.
    pub fn is_open(&self) -> bool {
        let state = self.lock();
        state.socket.is_some() || state.is_closed
    }

    /// Lets go of the websocket and of what waits for it. The client is told that nothing more comes.
    pub fn close(&self) {
        drop(self.take_socket());
    }

    /// The same, by a reader that lets go of the websocket too: that tells the client already.
    pub fn reader_ended(&self) {
        if let Some(socket) = self.take_socket() {
            socket.half.forget();
        }
    }

    fn take_socket(&self) -> Option<Socket> {
        let mut state = self.lock();
        let closed = State {
            is_closed: true,
            ..State::default()
        };
        std::mem::replace(&mut *state, closed).socket
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    fn add(&mut self, packet: Bytes) {
        if !packet.is_empty() {
            self.bytes += packet.len();
            self.packets.push_back(packet);
        }
    }

    /// True if the socket has become blocked.
    fn write(&mut self) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else {
            return Ok(false);
        };
        if socket.is_blocked {
            return Ok(false);
        }
        while !self.packets.is_empty() {
            let written = match self.packets.len() {
                1 => socket.half.try_write(&self.packets[0]),
                _ => {
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let filled = slices.iter_mut().zip(&self.packets);
                    let count = filled
                        .map(|(slice, packet)| *slice = IoSlice::new(packet))
                        .count();
                    socket.half.try_write_vectored(&slices[..count])
                }
            };
            match written {
                Ok(written) => self.bytes -= drop_front(&mut self.packets, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.is_blocked = true;
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        // An idle connection keeps no memory of a busy moment.
        if self.packets.capacity() > MAX_SLICES {
            self.packets = VecDeque::new();
        }
        Ok(false)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.write()?;
            let Some(socket) = &mut self.socket else {
                return Poll::Ready(Ok(()));
            };
            if !socket.is_blocked {
                socket.blocked = None;
                return Poll::Ready(Ok(()));
            }
            if socket.half.as_ref().poll_write_ready(cx)?.is_ready() {
                socket.is_blocked = false;
                socket.blocked = None;
                continue;
            }
            let timeout = socket.timeout;
            let blocked = socket
                .blocked
                .get_or_insert_with(|| Box::pin(sleep(timeout)));
            if blocked.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let error = io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading");
            return Poll::Ready(Err(error));
        }
    }
}

/// Drops so many bytes at the front; returns how many those are.
fn drop_front(packets: &mut VecDeque<Bytes>, written: usize) -> usize {
    let mut left = written;
    while let Some(packet) = packets.front_mut() {
        if packet.len() > left {
            packet.advance(left);
            break;
        }
        left -= packet.len();
        packets.pop_front();
    }
    written
}

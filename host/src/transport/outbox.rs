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

/// The packets for one client. Those of a client that polls wait at socketioxide, and are only
/// counted here.
pub struct Outbox {
    capacity: Capacity,
    state: Mutex<State>,
    /// The reader has taken bytes and comes back when it has dealt with them.
    is_reader_busy: AtomicBool,
    /// What is added goes out later, see [`Outbox::hold`].
    is_held: AtomicBool,
}

#[derive(Default)]
struct State {
    socket: Option<Socket>,
    packets: VecDeque<Bytes>,
    /// What the packets take, in bytes; a little too much for those that wait at socketioxide.
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
    /// An outbox that has room for so much.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            is_reader_busy: AtomicBool::new(false),
            is_held: AtomicBool::new(false),
        }
    }

    /// Gives it a websocket; `first` makes the frames that go out before all others.
    pub fn open(&self, half: OwnedWriteHalf, timeout: Duration, first: impl FnOnce() -> Bytes) {
        let mut state = self.lock();
        // What was counted is in these frames.
        let first = first();
        state.bytes = 0;
        state.add(first);
        state.socket = Some(Socket {
            half,
            is_blocked: false,
            timeout,
            blocked: None,
        });
    }

    /// Adds a packet: frames that belong together. A volatile one is for clients that take it now.
    pub fn push(&self, packet: &Bytes, is_volatile: bool) -> Pushed {
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
        let has_room =
            state.packets.len() < self.capacity.packets && self.has_bytes(&state, packet.len());
        // What is held does not wait for the client: it goes out with this packet.
        if !has_room && !self.is_held.swap(false, Ordering::Relaxed) {
            return Pushed::Full;
        }
        state.add(packet.clone());
        match self.is_reader_busy.load(Ordering::Acquire) {
            true => Pushed::Taken,
            false => Pushed::Waiting,
        }
    }

    /// Has `send` hand a packet of so many bytes to socketioxide, and sees that the client gets no
    /// websocket meanwhile. None if it has one.
    pub fn push_to_poll(&self, size: usize, send: impl FnOnce() -> Pushed) -> Option<Pushed> {
        let mut state = self.lock();
        if state.socket.is_some() || state.is_closed {
            return None;
        }
        if !self.has_bytes(&state, size) {
            return Some(Pushed::Full);
        }
        let pushed = send();
        if pushed == Pushed::Taken {
            state.bytes += size;
        }
        Some(pushed)
    }

    /// Whether something waits for the client.
    pub fn has_waiting(&self) -> bool {
        self.lock().bytes > 0
    }

    /// A poll has fetched packets of so many bytes.
    pub fn polled(&self, size: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(size);
    }

    /// A poll found nothing: whatever was counted has been fetched, or was never sent.
    pub fn polled_empty(&self) {
        self.lock().bytes = 0;
    }

    /// Adds frames of socketioxide's own: pings, answers to CONNECT, what it wants acks for. They
    /// go out although the outbox is full. False if there is as much of them again, which is too
    /// much: a client gets an answer for every CONNECT that it sends, and need not read any.
    pub fn push_frames(&self, frames: Bytes) -> bool {
        let mut state = self.lock();
        if state.socket.is_none() {
            return true;
        }
        let Capacity { packets, bytes } = self.capacity;
        let has_room = state.packets.len() < packets.saturating_mul(2)
            && (state.bytes == 0 || state.bytes <= bytes.saturating_mul(2));
        if has_room {
            state.add(frames);
        }
        has_room
    }

    /// Writes what the client takes. True if the reader has to watch for when it takes more.
    pub fn flush(&self) -> io::Result<bool> {
        let mut state = self.lock();
        match self.is_held.load(Ordering::Relaxed) {
            true => Ok(false),
            false => state.write(),
        }
    }

    /// Keeps what is added from now on, until [`Outbox::release`] or until there is no room for it.
    /// False if something waits already: then nothing has gone out yet that the rest could stay
    /// behind.
    pub fn hold(&self) -> bool {
        let state = self.lock();
        let is_clear = state.packets.is_empty();
        if is_clear {
            self.is_held.store(true, Ordering::Relaxed);
        }
        is_clear
    }

    /// Lets out what was kept, with the next flush.
    pub fn release(&self) {
        self.is_held.store(false, Ordering::Relaxed);
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
        if self.is_held.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
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

    fn has_bytes(&self, state: &State, size: usize) -> bool {
        state.bytes == 0 || state.bytes + size <= self.capacity.bytes
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const CAPACITY: Capacity = Capacity {
        packets: 3,
        bytes: 100,
    };

    /// A client, and the way to it.
    async fn connected() -> (TcpStream, OwnedWriteHalf) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (_, half) = accepted.unwrap().0.into_split();
        (client.unwrap(), half)
    }

    /// An outbox whose client takes nothing, and the client.
    async fn blocked() -> (Outbox, TcpStream) {
        let (client, half) = connected().await;
        while half.try_write(&[0; 1 << 16]).is_ok() {}
        let outbox = Outbox::new(CAPACITY);
        outbox.open(half, Duration::from_secs(60), Bytes::new);
        (outbox, client)
    }

    fn packet(size: usize) -> Bytes {
        vec![0; size].into()
    }

    #[tokio::test]
    async fn packets_and_bytes_are_bounded_and_a_large_packet_waits_alone() {
        for (sizes, next) in [
            (&[1, 1, 1][..], 1),
            (&[60, 40], 1),
            (&[60], 41),
            (&[500], 1),
        ] {
            let (outbox, _client) = blocked().await;
            for size in sizes {
                assert_eq!(outbox.push(&packet(*size), false), Pushed::Waiting);
            }
            assert_eq!(outbox.push(&packet(next), false), Pushed::Full);
            assert!(outbox.flush().is_ok());
            assert_eq!(outbox.push(&packet(next), false), Pushed::Full);
        }
    }

    #[tokio::test]
    async fn what_must_go_out_has_as_much_room_again_and_no_more() {
        let (outbox, _client) = blocked().await;
        for _ in 0..3 {
            outbox.push(&packet(1), false);
        }
        let pushed = [(); 4].map(|()| outbox.push_frames(packet(1)));
        assert_eq!(pushed, [true, true, true, false]);

        let (outbox, _client) = blocked().await;
        let pushed = [(); 4].map(|()| outbox.push_frames(packet(90)));
        assert_eq!(pushed, [true, true, true, false]);
    }

    #[tokio::test]
    async fn what_is_held_goes_out_when_there_is_no_room_for_more() {
        let (mut client, half) = connected().await;
        let outbox = Outbox::new(CAPACITY);
        outbox.open(half, Duration::from_secs(60), Bytes::new);
        assert!(outbox.hold());
        for _ in 0..10 {
            assert_eq!(outbox.push(&packet(1), false), Pushed::Waiting);
            assert!(!outbox.flush().unwrap());
        }
        client.read_exact(&mut [0; 10]).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_held_behind_what_the_client_has_not_taken() {
        let (outbox, mut client) = blocked().await;
        outbox.push(&packet(1), false);
        assert!(outbox.flush().unwrap());
        assert!(!outbox.hold());
        tokio::spawn(async move { tokio::io::copy(&mut client, &mut tokio::io::sink()).await });
        poll_fn(|cx| outbox.poll_flush(cx)).await.unwrap();
        assert!(!outbox.is_blocked());
    }

    #[test]
    fn what_waits_for_polls_is_counted_until_it_is_fetched() {
        let outbox = Outbox::new(CAPACITY);
        let push = |size| outbox.push_to_poll(size, || Pushed::Taken);
        assert_eq!(push(500), Some(Pushed::Taken));
        assert_eq!(push(1), Some(Pushed::Full));
        outbox.polled(420);
        assert_eq!(push(20), Some(Pushed::Taken));
        assert_eq!(push(1), Some(Pushed::Full));
        outbox.polled_empty();
        assert_eq!(
            outbox.push_to_poll(60, || Pushed::Closed),
            Some(Pushed::Closed)
        );
        assert_eq!(push(100), Some(Pushed::Taken));
        outbox.polled(1000);
        assert_eq!(push(100), Some(Pushed::Taken));
        outbox.close();
        assert_eq!(push(1), None);
    }
}

//! What a client is sent: packets in their order, for its polls or written to its websocket by whoever
//! adds them.
//!
//! A write is one system call and takes a few microseconds; a task that is woken to do it costs as
//! much again. So packets are written where they come up. Only while the reader of the same websocket
//! is busy with what it has read, they wait until it comes back, so that the answers to events that
//! came together leave together. No system call is made while the lock is held: who writes takes the
//! packets out, and what comes up meanwhile is written by the same writer.

use std::{
    collections::{VecDeque, vec_deque},
    io::{self, IoSlice},
    iter::Take,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};

use crate::{
    ordered_lock::{OrderedMutex, rank},
    transport::net::Wire,
};

/// How many packets one system call may write.
const MAX_SLICES: usize = 64;

/// So many places for packets an idle outbox may keep.
const KEPT_PLACES: usize = 4;

/// How much may wait for a client that reads slowly.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// In packets.
    pub packets: usize,
    /// In bytes. A packet that is larger is taken if nothing waits.
    pub bytes: usize,
}

/// The packets for one client, each as the WebSocket frames that it is made of.
pub struct Outbox {
    capacity: Capacity,
    state: OrderedMutex<{ rank::OUTBOX }, State>,
}

struct State {
    way: Way,
    packets: VecDeque<Bytes>,
    /// What the packets take, in bytes, those among them that are just being written.
    bytes: usize,
    hold: Hold,
    /// Since when the client has taken nothing, and packets wait.
    blocked: Option<Instant>,
    /// The last packet has been added.
    is_complete: bool,
}

/// How packets get to the client.
///
/// ```text
/// Polling       => Idle (it has got a websocket) | Closed
/// Idle          => Reading (the reader has bytes) | Writing (a packet)
/// Reading       => Idle (the reader has dealt with them)
/// Writing       => Idle (nothing is left) | Blocked (the client takes no more) | Closed (it is gone)
/// Blocked       => Writing (it takes more)
/// Idle, Reading, Writing, Blocked => Closed
/// ```
enum Way {
    /// A poll fetches them. The waker is that of the poll that waits.
    Polling(Option<Waker>),
    /// Whoever adds one writes it.
    Idle,
    /// The reader of the websocket writes them when it is back.
    Reading,
    /// Somebody writes.
    Writing,
    /// The task of the websocket waits until the client takes more.
    Blocked,
    /// Nobody gets anything any more.
    Closed,
}

/// The pause behind the answer to CONNECT.
///
/// ```text
/// Off     => Until (an answer goes out)
/// Until   => Waiting (a packet comes up before it is over) | Off
/// Waiting => Off
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Off,
    /// Packets that come up before then are kept.
    Until(Instant),
    /// Packets are kept, and somebody comes to let them out.
    Waiting,
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
}

/// What became of what waited.
#[derive(Debug)]
pub(crate) enum Flushed {
    /// The client has it, or somebody else writes it.
    Done,
    /// The client takes no more: the task of the websocket has to wait for it.
    Blocked,
    /// It is kept: somebody has to let it out when the pause is over.
    Held,
    /// The connection is broken.
    Failed(io::Error),
}

/// A part of a flush. Between two of them the lock is free.
enum Step {
    /// These are to be written.
    Write(VecDeque<Bytes>),
    Over(Flushed),
}

/// What a poll gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    /// The packets that it has taken.
    Packets,
    /// Nothing: the client has a websocket by now.
    Moved,
    /// Nothing: the session has ended.
    Closed,
}

impl Outbox {
    /// An outbox for a client that polls. It has room for so much.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            state: OrderedMutex::new(State {
                way: Way::Polling(None),
                packets: VecDeque::new(),
                bytes: 0,
                hold: Hold::Off,
                blocked: None,
                is_complete: false,
            }),
        }
    }

    /// The client has a websocket: packets go there, those that wait first, with the next flush.
    pub fn open_websocket(&self) {
        let mut state = self.state.lock();
        let Way::Polling(poll) = &mut state.way else {
            return;
        };
        let poll = poll.take();
        state.way = Way::Idle;
        drop(state);
        wake(poll);
    }

    /// Adds a packet: frames that belong together. A volatile one is for clients that take it now.
    pub fn push(&self, packet: &Bytes, is_volatile: bool) -> Pushed {
        let mut state = self.state.lock();
        let Capacity { packets, bytes } = self.capacity;
        if state.is_over() {
            Pushed::Closed
        } else if is_volatile && !state.is_ready() {
            Pushed::Skipped
        } else if state.has_room(packets, bytes, packet.len()) {
            state.push(packet.clone())
        } else {
            Pushed::Full
        }
    }

    /// Adds what the protocol asks for: pings, answers to CONNECT, ends of connections. It goes out
    /// although the outbox is full; full again beyond twice as much, since a client may ask for answers
    /// that it never reads.
    pub fn push_control(&self, packet: Bytes) -> Pushed {
        let mut state = self.state.lock();
        let Capacity { packets, bytes } = self.capacity;
        let has_room = state.has_room(
            packets.saturating_mul(2),
            bytes.saturating_mul(2),
            packet.len(),
        );
        if state.is_over() || has_room {
            state.push(packet)
        } else {
            Pushed::Full
        }
    }

    /// Adds the last packet. Nothing comes behind it, and it always has room.
    pub fn push_last(&self, packet: Bytes) -> Pushed {
        let mut state = self.state.lock();
        let pushed = state.push(packet);
        state.is_complete = true;
        state.hold = Hold::Off;
        pushed
    }

    /// Whether the last packet is on its way to the client.
    pub fn is_done(&self) -> bool {
        let state = self.state.lock();
        let is_written = state.packets.is_empty() && !matches!(state.way, Way::Writing);
        state.is_complete && is_written || matches!(state.way, Way::Closed)
    }

    /// Gets what waits on its way: wakes the poll, or writes until nothing is left or the client takes no
    /// more.
    pub(crate) fn flush(&self, wire: Option<&Wire>) -> Flushed {
        self.flush_by(wire.map(|wire| |packets: &mut _| write_all(packets, wire)))
    }

    /// The same, where `write` writes packets to the websocket and drops what is written.
    fn flush_by<Write>(&self, mut write: Option<Write>) -> Flushed
    where
        Write: FnMut(&mut VecDeque<Bytes>) -> io::Result<()>,
    {
        let mut step = self.begin_to_write(write.is_some());
        loop {
            match (step, &mut write) {
                (Step::Write(mut packets), Some(write)) => {
                    let written = write(&mut packets);
                    step = self.has_written(packets, written);
                }
                (Step::Write(_), None) => return Flushed::Done,
                (Step::Over(flushed), _) => return flushed,
            }
        }
    }

    /// What a flush does first.
    fn begin_to_write(&self, has_websocket: bool) -> Step {
        let mut state = self.state.lock();
        if state.packets.is_empty() {
            return Step::Over(Flushed::Done);
        }
        match &mut state.way {
            Way::Polling(poll) => {
                let poll = poll.take();
                drop(state);
                wake(poll);
                Step::Over(Flushed::Done)
            }
            Way::Idle if has_websocket => match state.holds() {
                Some(flushed) => Step::Over(flushed),
                None => {
                    state.way = Way::Writing;
                    Step::Write(std::mem::take(&mut state.packets))
                }
            },
            Way::Idle | Way::Reading | Way::Writing | Way::Blocked | Way::Closed => {
                Step::Over(Flushed::Done)
            }
        }
    }

    /// What it does next, with the packets that are left of those that it was to write.
    fn has_written(&self, mut packets: VecDeque<Bytes>, written: io::Result<()>) -> Step {
        let mut state = self.state.lock();
        if let Way::Closed = state.way {
            return Step::Over(Flushed::Done);
        }
        let left = packets.iter().chain(&state.packets);
        state.bytes = left.map(Bytes::len).sum();
        match written {
            Ok(()) if state.packets.is_empty() => {
                // An idle connection keeps no memory of a busy moment.
                if packets.capacity() <= KEPT_PLACES {
                    state.packets = packets;
                }
                state.way = Way::Idle;
                Step::Over(Flushed::Done)
            }
            Ok(()) => Step::Write(std::mem::take(&mut state.packets)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                packets.append(&mut state.packets);
                state.packets = packets;
                state.way = Way::Blocked;
                state.blocked = Some(Instant::now());
                Step::Over(Flushed::Blocked)
            }
            Err(error) => {
                drop(state);
                self.close();
                Step::Over(Flushed::Failed(error))
            }
        }
    }

    /// The same, without waiting for a reader that is busy or for the end of a pause.
    pub(crate) fn flush_at_once(&self, wire: Option<&Wire>) -> Flushed {
        self.wait_for_nobody();
        self.flush(wire)
    }

    fn wait_for_nobody(&self) {
        let mut state = self.state.lock();
        state.hold = Hold::Off;
        if let Way::Reading = state.way {
            state.way = Way::Idle;
        }
    }

    /// The client takes more again.
    pub fn unblock(&self) {
        let mut state = self.state.lock();
        if let Way::Blocked = state.way {
            state.way = Way::Idle;
            state.blocked = None;
        }
    }

    /// Whether the task of the websocket has to wait until the client takes more.
    pub fn is_blocked(&self) -> bool {
        matches!(self.state.lock().way, Way::Blocked)
    }

    /// For how long the client has taken nothing although there was something for it.
    pub fn blocked_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        state.blocked.map(|since| since.elapsed())
    }

    /// Whether packets have to wait: the client's websocket takes nothing, or no poll waits.
    pub fn is_waiting(&self) -> bool {
        !self.state.lock().is_ready()
    }

    /// The reader has taken bytes: what comes up while it deals with them waits until it is back. The
    /// client goes on, so it has seen what went out.
    pub fn reader_left(&self) {
        let mut state = self.state.lock();
        state.hold = Hold::Off;
        if let Way::Idle = state.way {
            state.way = Way::Reading;
        }
    }

    /// The reader is back. It flushes next.
    pub fn reader_is_back(&self) {
        let mut state = self.state.lock();
        if let Way::Reading = state.way {
            state.way = Way::Idle;
        }
    }

    /// Keeps what comes up from now on for a while: see [`Hold`]. Not if something waits: then nothing
    /// has gone out yet that the rest could stay behind. Nor for a client that polls, which gets
    /// packets one by one.
    pub fn hold(&self, pause: Duration) {
        let mut state = self.state.lock();
        if state.packets.is_empty() && matches!(state.way, Way::Idle) {
            state.hold = Hold::Until(Instant::now() + pause);
        }
    }

    /// Lets out what was kept, with the next flush.
    pub fn release(&self) {
        self.state.lock().hold = Hold::Off;
    }

    /// Takes what waits for a poll. Pending if that is nothing: then `cx` is woken when there is
    /// something. `take` says how many of the packets, oldest first, one poll gets. The last packet of
    /// all comes by itself, as in Node.
    pub fn poll_packets(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(Take<vec_deque::Iter<'_, Bytes>>) -> usize,
    ) -> Poll<Polled> {
        let mut state = self.state.lock();
        let state = &mut *state;
        match &mut state.way {
            Way::Polling(poll) if state.packets.is_empty() => {
                *poll = Some(cx.waker().clone());
                Poll::Pending
            }
            Way::Polling(poll) => {
                *poll = None;
                let waiting = state.packets.len();
                let most = match state.is_complete {
                    true => (waiting - 1).max(1),
                    false => waiting,
                };
                let count = take(state.packets.iter().take(most)).clamp(1, most);
                let taken: usize = state
                    .packets
                    .drain(..count)
                    .map(|packet| packet.len())
                    .sum();
                state.bytes -= taken;
                if state.packets.is_empty() {
                    state.packets = VecDeque::new();
                }
                Poll::Ready(Polled::Packets)
            }
            Way::Closed => Poll::Ready(Polled::Closed),
            Way::Idle | Way::Reading | Way::Writing | Way::Blocked => Poll::Ready(Polled::Moved),
        }
    }

    /// Takes what waits for a client in this process, which has neither polls nor a connection.
    pub(crate) fn take(&self) -> VecDeque<Bytes> {
        let mut state = self.state.lock();
        state.bytes = 0;
        std::mem::take(&mut state.packets)
    }

    /// Lets go of what waits: nothing goes out any more.
    pub fn close(&self) {
        let mut state = self.state.lock();
        let way = std::mem::replace(&mut state.way, Way::Closed);
        state.packets = VecDeque::new();
        state.bytes = 0;
        state.blocked = None;
        drop(state);
        if let Way::Polling(poll) = way {
            wake(poll);
        }
    }
}

impl State {
    /// Whether a packet would be on its way at once.
    fn is_ready(&self) -> bool {
        match &self.way {
            Way::Polling(poll) => poll.is_some(),
            Way::Idle | Way::Reading | Way::Writing => true,
            Way::Blocked | Way::Closed => false,
        }
    }

    /// Whether nothing can be added any more.
    fn is_over(&self) -> bool {
        self.is_complete || matches!(self.way, Way::Closed)
    }

    fn has_room(&mut self, packets: usize, bytes: usize, size: usize) -> bool {
        let has_room = self.packets.len() < packets
            && (self.bytes == 0 || self.bytes.saturating_add(size) <= bytes);
        // What is held does not wait for the client: it goes out with this packet.
        has_room || std::mem::replace(&mut self.hold, Hold::Off) != Hold::Off
    }

    fn push(&mut self, packet: Bytes) -> Pushed {
        if self.is_over() {
            return Pushed::Closed;
        }
        self.bytes += packet.len();
        self.packets.push_back(packet);
        match self.way {
            Way::Idle | Way::Polling(_) => Pushed::Waiting,
            _ => Pushed::Taken,
        }
    }

    /// What a flush does instead of writing, while packets are held.
    fn holds(&mut self) -> Option<Flushed> {
        match self.hold {
            Hold::Off => None,
            Hold::Waiting => Some(Flushed::Done),
            Hold::Until(until) if until <= Instant::now() => {
                self.hold = Hold::Off;
                None
            }
            Hold::Until(_) => {
                self.hold = Hold::Waiting;
                Some(Flushed::Held)
            }
        }
    }
}

fn wake(poll: Option<Waker>) {
    if let Some(waker) = poll {
        waker.wake();
    }
}

/// Writes packets and drops what is written.
fn write_all(packets: &mut VecDeque<Bytes>, wire: &Wire) -> io::Result<()> {
    while !packets.is_empty() {
        let written = match packets.len() {
            1 => wire.try_write(&packets[0])?,
            _ => {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let filled = slices.iter_mut().zip(&*packets);
                let count = filled
                    .map(|(slice, packet)| *slice = IoSlice::new(packet))
                    .count();
                wire.try_write_vectored(&slices[..count])?
            }
        };
        drop_front(packets, written);
    }
    Ok(())
}

/// Drops so many bytes at the front.
fn drop_front(packets: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(packet) = packets.front_mut() {
        if packet.len() > written {
            packet.advance(written);
            return;
        }
        written -= packet.len();
        packets.pop_front();
    }
}

#[cfg(test)]
mod interleavings;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const CAPACITY: Capacity = Capacity {
        packets: 3,
        bytes: 100,
    };

    const PAUSE: Duration = Duration::from_secs(60);

    /// A client, and the way to it, which can be written.
    async fn connected() -> (TcpStream, Wire) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let tcp = accepted.unwrap().0;
        tcp.writable().await.unwrap();
        (client.unwrap(), Wire::Plain(tcp))
    }

    /// An outbox with a websocket whose client takes nothing any more.
    async fn blocked() -> (Outbox, Wire, TcpStream) {
        let (client, wire) = connected().await;
        while wire.try_write(&[0; 1 << 16]).is_ok() {}
        let outbox = Outbox::new(CAPACITY);
        outbox.open_websocket();
        (outbox, wire, client)
    }

    fn packet(size: usize) -> Bytes {
        vec![b'x'; size].into()
    }

    /// The sizes of the packets that a poll gets; none if there is nothing.
    fn polled(outbox: &Outbox) -> Option<Vec<usize>> {
        let mut sizes = Vec::new();
        let poll = poll_fn(|cx| {
            outbox.poll_packets(cx, |packets| {
                sizes = packets.map(Bytes::len).collect();
                sizes.len()
            })
        });
        poll.now_or_never().map(|_| sizes)
    }

    #[test]
    fn packets_and_bytes_are_bounded_and_a_large_packet_waits_alone() {
        for (sizes, next) in [
            (&[1, 1, 1][..], 1),
            (&[60, 40], 1),
            (&[60], 41),
            (&[500], 1),
        ] {
            let outbox = Outbox::new(CAPACITY);
            for size in sizes {
                assert_eq!(outbox.push(&packet(*size), false), Pushed::Waiting);
            }
            assert_eq!(outbox.push(&packet(next), false), Pushed::Full);
            assert_eq!(polled(&outbox).as_deref(), Some(sizes));
            assert_eq!(outbox.push(&packet(next), false), Pushed::Waiting);
        }
    }

    #[test]
    fn what_the_protocol_asks_for_has_as_much_room_again_and_no_more() {
        let outbox = Outbox::new(CAPACITY);
        for _ in 0..3 {
            outbox.push(&packet(1), false);
        }
        let pushed = [(); 4].map(|()| outbox.push_control(packet(1)));
        let taken = Pushed::Waiting;
        assert_eq!(pushed, [taken, taken, taken, Pushed::Full]);
        assert_eq!(
            outbox.push_last(packet(1)),
            Pushed::Waiting,
            "always has room"
        );
        assert_eq!(outbox.push_control(packet(1)), Pushed::Closed);
    }

    #[test]
    fn the_last_packet_is_polled_by_itself() {
        let outbox = Outbox::new(CAPACITY);
        outbox.push(&packet(1), false);
        outbox.push_last(packet(2));
        assert_eq!(polled(&outbox), Some(vec![1]));
        assert!(!outbox.is_done());
        assert_eq!(polled(&outbox), Some(vec![2]));
        assert!(outbox.is_done());
    }

    #[test]
    fn a_volatile_packet_is_for_a_poll_that_waits() {
        let outbox = Outbox::new(CAPACITY);
        assert_eq!(outbox.push(&packet(1), true), Pushed::Skipped);
        assert_eq!(polled(&outbox), None);
        assert_eq!(outbox.push(&packet(1), true), Pushed::Waiting);
        outbox.close();
        assert_eq!(outbox.push(&packet(1), true), Pushed::Closed);
    }

    #[tokio::test]
    async fn what_a_client_does_not_take_waits_until_it_does_in_order() {
        let (outbox, wire, mut client) = blocked().await;
        for size in [1, 2] {
            outbox.push(&packet(size), false);
        }
        assert!(matches!(outbox.flush(Some(&wire)), Flushed::Blocked));
        assert!(outbox.is_blocked() && outbox.blocked_for().is_some());
        assert_eq!(outbox.push(&packet(1), true), Pushed::Skipped);
        assert_eq!(outbox.push(&packet(3), false), Pushed::Taken);
        let mut read = vec![0; 1 << 20];
        let mut last = 0;
        while last != b'x' {
            let length = client.read(&mut read).await.unwrap();
            last = read[length - 1];
            if poll_fn(|cx| wire.poll_write_ready(cx))
                .now_or_never()
                .is_some()
            {
                outbox.unblock();
                outbox.flush(Some(&wire));
            }
        }
        assert!(!outbox.is_blocked());
    }

    #[tokio::test]
    async fn nothing_waits_any_more_for_a_client_that_cannot_be_written_to() {
        let (_client, wire) = connected().await;
        wire.close();
        let outbox = Outbox::new(CAPACITY);
        outbox.open_websocket();
        outbox.push(&packet(1), false);
        assert!(matches!(outbox.flush(Some(&wire)), Flushed::Failed(_)));
        assert!(outbox.is_done(), "nobody has to wait for the rest");
        assert_eq!(outbox.push(&packet(1), false), Pushed::Closed);
    }

    #[tokio::test]
    async fn what_comes_up_while_the_reader_is_busy_leaves_together() {
        let (mut client, wire) = connected().await;
        let outbox = Outbox::new(CAPACITY);
        outbox.open_websocket();
        outbox.reader_left();
        for _ in 0..3 {
            assert_eq!(outbox.push(&packet(1), false), Pushed::Taken);
            assert!(matches!(outbox.flush(Some(&wire)), Flushed::Done));
        }
        assert!(!outbox.is_done());
        outbox.reader_is_back();
        assert!(matches!(outbox.flush(Some(&wire)), Flushed::Done));
        client.read_exact(&mut [0; 3]).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_held_goes_out_when_there_is_no_room_for_more() {
        let (mut client, wire) = connected().await;
        let outbox = Outbox::new(CAPACITY);
        outbox.open_websocket();
        outbox.hold(PAUSE);
        let mut held = 0;
        for _ in 0..10 {
            assert_eq!(outbox.push(&packet(1), false), Pushed::Waiting);
            held += usize::from(matches!(outbox.flush(Some(&wire)), Flushed::Held));
        }
        assert_eq!(held, 1, "somebody is asked once to let it out");
        client.read_exact(&mut [0; 10]).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_held_behind_what_the_client_has_not_taken() {
        let (outbox, wire, _client) = blocked().await;
        outbox.push(&packet(1), false);
        assert!(matches!(outbox.flush(Some(&wire)), Flushed::Blocked));
        outbox.hold(PAUSE);
        outbox.unblock();
        assert!(
            matches!(outbox.flush(Some(&wire)), Flushed::Blocked),
            "and not held"
        );
    }
}

//! What arrives from one connection, one thing at a time and in order.

#[cfg(test)]
mod interleavings;

use std::{collections::VecDeque, sync::Arc};

use crate::{
    message::Message,
    ordered_lock::{OrderedMutex, rank},
    telemetry::Span,
};

/// Something that a connection's handlers are called for.
#[derive(Debug)]
pub enum Arrival {
    /// An event from the client.
    Event {
        /// The event's name.
        event: Arc<str>,
        /// Its arguments.
        message: Message,
        /// The ack's id, where the client asked for one.
        ack: Option<i64>,
        /// What traces it.
        span: Span,
    },
    /// The end of the connection, with Socket.IO's word for the reason.
    Disconnect {
        /// E.g. `transport close`.
        reason: &'static str,
    },
}

impl Arrival {
    /// The size of an event in bytes.
    fn size(&self) -> Option<usize> {
        match self {
            Self::Event { event, message, .. } => Some(event.len() + message.size()),
            Self::Disconnect { .. } => None,
        }
    }
}

/// The queue in front of a connection's handlers. Mostly it is empty: an event is handled where
/// it is read. While one is under way elsewhere, later ones wait here.
pub struct Lane(OrderedMutex<{ rank::LANE }, State>);

struct State {
    busy: bool,
    /// No more events are taken.
    is_over: bool,
    waiting: VecDeque<Arrival>,
    /// What the events among them take, in bytes.
    bytes: usize,
}

/// How many events of one connection may wait.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// In events.
    pub events: usize,
    /// In bytes. An event that is larger is taken if no other waits.
    pub bytes: usize,
}

/// What became of an arrival.
#[derive(Debug)]
pub enum Turn {
    /// It is its turn: handle it, then ask [`Lane::next`].
    Now(Arrival),
    /// It waits; whoever is busy will come to it.
    Later,
    /// Too many wait already.
    Full(Arrival),
    /// It is an event behind the end of the connection, and dropped.
    Over,
}

impl Lane {
    /// A lane where everything waits until the first [`Lane::next`].
    pub fn closed() -> Self {
        Self(OrderedMutex::new(State {
            busy: true,
            is_over: false,
            waiting: VecDeque::new(),
            bytes: 0,
        }))
    }

    /// Takes the turn if the lane is idle, else queues an arrival if there is room for it. The end
    /// of a connection always fits, and is the last that does.
    pub fn enter(&self, arrival: Arrival, capacity: impl FnOnce() -> Capacity) -> Turn {
        let mut state = self.0.lock();
        match arrival {
            Arrival::Event { .. } if state.is_over => return Turn::Over,
            Arrival::Event { .. } => {}
            Arrival::Disconnect { .. } => state.is_over = true,
        }
        if !state.busy {
            state.busy = true;
            return Turn::Now(arrival);
        }
        if let Some(size) = arrival.size() {
            let capacity = capacity();
            let is_full = state.waiting.len() >= capacity.events
                || state.bytes > 0 && state.bytes + size > capacity.bytes;
            if is_full {
                return Turn::Full(arrival);
            }
            state.bytes += size;
        }
        state.waiting.push_back(arrival);
        Turn::Later
    }

    /// From now on no event is taken, if none is under way; whether that is so.
    pub fn end_if_idle(&self) -> bool {
        let mut state = self.0.lock();
        state.is_over |= !state.busy;
        !state.busy
    }

    /// Drops the events that wait, and those that come. The end of the connection is no event.
    pub fn end_events(&self) {
        let mut state = self.0.lock();
        state.is_over = true;
        let is_end = |arrival: &Arrival| matches!(arrival, Arrival::Disconnect { .. });
        state.waiting.retain(is_end);
        state.bytes = 0;
    }

    /// The next one to handle; with none the lane is idle again.
    pub fn next(&self) -> Option<Arrival> {
        let mut state = self.0.lock();
        let next = state.waiting.pop_front();
        state.busy = next.is_some();
        state.bytes -= next.as_ref().and_then(Arrival::size).unwrap_or(0);
        if next.is_none() && state.waiting.capacity() > 0 {
            // An idle connection keeps no memory of a busy moment.
            state.waiting = VecDeque::new();
        }
        next
    }
}

//! What is handed over, and its form: records, each with its length, JSON, and bytes that are no text.
//!
//! What comes first is what is missed most: connections, the last ones to drop before the others, then who is
//! present, what was answered to backends, and broadcasts, the newest first. What does not fit any more is left
//! out. Of broadcasts a namespace knows from which number on it has all of them, as in memory: who has
//! missed one that was left out starts afresh.

use std::{cmp::Reverse, time::Duration};

use ahash::HashMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::file::Refusal;
use crate::{
    api::SavedAnswer,
    clock::Moment,
    presence::Piece,
    recovery::{OwnEvent, Saved, SavedBroadcast, SavedClient, SavedLog},
    transport::Packet,
};

/// What was answered to backends may take one part of so many.
const ANSWERS_SHARE: usize = 4;

/// Clocks that are set by others go back by as much, in milliseconds.
const SET_BACK: u64 = 1_000;

/// Lengths of a record's JSON and of its other bytes.
const RECORD_BYTES: usize = 2 * size_of::<u32>();

/// What is handed over.
pub(super) struct State {
    /// When it was written, in milliseconds since 1970.
    pub written: u64,
    /// Of each namespace, with its broadcasts, the oldest first.
    pub logs: Vec<(SavedLog, Vec<SavedBroadcast>)>,
    /// Those who may come back, who dropped first before the others.
    pub clients: Vec<SavedClient>,
    /// Who is present.
    pub presence: Vec<Piece>,
    /// What was answered to backends, to one of them the oldest first.
    pub answers: Vec<SavedAnswer>,
}

/// The bytes of a state, and what of it they are.
pub(super) struct Written {
    pub body: Vec<u8>,
    pub connections: usize,
    pub broadcasts: usize,
    /// How many records did not fit.
    pub left_out: usize,
}

/// One of the pieces.
#[derive(Serialize, Deserialize)]
enum Record {
    Written(u64),
    Log(SavedLog),
    /// With its packet.
    Broadcast(SavedBroadcast),
    /// With what it alone was sent, each with its length.
    Client(Box<SavedClient>),
    Presence(Piece),
    Answer(SavedAnswer),
}

impl State {
    /// Nothing yet.
    pub(super) fn new(now: Moment) -> Self {
        Self {
            written: now.wall(),
            logs: Vec::new(),
            clients: Vec::new(),
            presence: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Adds a namespace.
    pub(super) fn add(&mut self, saved: Saved) {
        let Saved {
            log,
            broadcasts,
            clients,
        } = saved;
        self.logs.push((log, broadcasts));
        self.clients.extend(clients);
    }

    /// Whether nobody would miss it.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.answers.is_empty()
    }

    /// How many broadcasts there are.
    pub(super) fn broadcasts(&self) -> usize {
        self.logs
            .iter()
            .map(|(_, broadcasts)| broadcasts.len())
            .sum()
    }

    /// As bytes, so many at most.
    pub(super) fn write(self, most: usize) -> Written {
        let (mut logs, broadcasts): (Vec<_>, Vec<_>) = self.logs.into_iter().unzip();
        let reserved: usize = logs.iter().map(|log| RECORD_BYTES + longest(log)).sum();
        let mut writer = Writer {
            body: Vec::new(),
            most: most.saturating_sub(reserved),
            left_out: 0,
        };
        writer.add(&Record::Written(self.written), &[]);

        let mut clients = self.clients;
        clients.sort_by_key(|client| Reverse(client.at));
        let connections = writer.add_first(clients, |mut client| {
            let events = std::mem::take(&mut client.events);
            (Record::Client(client.into()), lengthened(&events))
        });

        let (before, pieces) = (writer.body.len(), self.presence.len());
        let present = self.presence.into_iter();
        if writer.add_first(present, |piece| (Record::Presence(piece), Bytes::new())) < pieces {
            // A part would pass for the whole.
            writer.body.truncate(before);
        }

        let (most, share) = (writer.most, writer.body.len() + most / ANSWERS_SHARE);
        writer.most = share.min(most);
        let mut answers = self.answers;
        answers.sort_by_key(|answer| answer.at);
        let newest = answers.into_iter().rev();
        writer.add_first(newest, |answer| (Record::Answer(answer), Bytes::new()));
        writer.most = most;

        let mut broadcasts: Vec<_> = broadcasts.into_iter().flatten().collect();
        broadcasts.sort_by_key(|broadcast| Reverse((broadcast.at, broadcast.number)));
        let places: Vec<_> = broadcasts
            .iter()
            .map(|broadcast| (broadcast.namespace.clone(), broadcast.number))
            .collect();
        let added = writer.add_first(broadcasts, |broadcast| {
            let packet = broadcast.packet.frames().clone();
            (Record::Broadcast(broadcast), packet)
        });
        for (namespace, number) in &places[added..] {
            let log = logs.iter_mut().find(|log| log.namespace == *namespace);
            if let Some(log) = log {
                log.first = log.first.max(number + 1);
            }
        }

        writer.most = usize::MAX;
        for log in logs {
            writer.add(&Record::Log(log), &[]);
        }
        Written {
            body: writer.body,
            connections,
            broadcasts: added,
            left_out: writer.left_out,
        }
    }

    /// The inverse of [`State::write`], if that is not too long ago.
    pub(super) fn read(body: &[u8], now: Moment, max_age: Duration) -> Result<Self, Refusal> {
        let mut state = Self::new(now);
        let (mut written, mut broadcasts) = (None, Vec::new());
        let mut rest = body;
        while !rest.is_empty() {
            let (record, bytes) = next(&mut rest).ok_or(Refusal::Damaged)?;
            match record {
                Record::Written(at) => written = Some(at),
                Record::Log(log) => state.logs.push((log, Vec::new())),
                Record::Broadcast(mut broadcast) => {
                    broadcast.packet = Packet::from_frames(Bytes::copy_from_slice(bytes));
                    broadcasts.push(broadcast);
                }
                Record::Client(mut client) => {
                    client.events = shortened(bytes).ok_or(Refusal::Damaged)?;
                    state.clients.push(*client);
                }
                Record::Presence(piece) => state.presence.push(piece),
                Record::Answer(answer) => state.answers.push(answer),
            }
        }
        state.written = written.ok_or(Refusal::Damaged)?;
        if state.written > now.wall() + SET_BACK {
            return Err(Refusal::Future(state.written - now.wall()));
        }
        let age_ms = now.wall().saturating_sub(state.written);
        if u128::from(age_ms) > max_age.as_millis() {
            return Err(Refusal::TooOld { age_ms });
        }
        state.clients.sort_by_key(|client| client.at);
        state.answers.reverse();
        state.sort(broadcasts).ok_or(Refusal::Damaged)?;
        Ok(state)
    }

    /// Gives the broadcasts, the newest first, to their namespaces. None if they cannot be what was sent there.
    fn sort(&mut self, broadcasts: Vec<SavedBroadcast>) -> Option<()> {
        let paths = self.logs.iter().enumerate();
        let by_path: HashMap<String, usize> = paths
            .map(|(index, (log, _))| (log.namespace.clone(), index))
            .collect();
        for broadcast in broadcasts.into_iter().rev() {
            let (log, its) = &mut self.logs[*by_path.get(&broadcast.namespace)?];
            let after = its.last().map_or(log.first, |last| last.number + 1);
            if !(after..log.next).contains(&broadcast.number) {
                return None;
            }
            its.push(broadcast);
        }
        Some(())
    }
}

/// Writes records as long as they fit.
struct Writer {
    body: Vec<u8>,
    most: usize,
    left_out: usize,
}

impl Writer {
    /// Adds the first of these that fit, and counts the others; returns how many it adds.
    fn add_first<T>(
        &mut self,
        all: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        record: impl Fn(T) -> (Record, Bytes),
    ) -> usize {
        let all = all.into_iter();
        let count = all.len();
        let fits = |it: T| {
            let (record, bytes) = record(it);
            self.add(&record, &bytes)
        };
        let added = all.map(fits).take_while(|fits| *fits).count();
        self.left_out += count - added;
        added
    }

    /// False if it does not fit.
    fn add(&mut self, record: &Record, bytes: &[u8]) -> bool {
        let start = self.body.len();
        self.body.extend([0; RECORD_BYTES]);
        serde_json::to_writer(&mut self.body, record).expect("texts and numbers always serialise");
        let json = self.body.len() - start - RECORD_BYTES;
        self.body.extend(bytes);
        let (Ok(json), Ok(bytes)) = (u32::try_from(json), u32::try_from(bytes.len())) else {
            self.body.truncate(start);
            return false;
        };
        if self.body.len() > self.most {
            self.body.truncate(start);
            return false;
        }
        let lengths = [json.to_be_bytes(), bytes.to_be_bytes()].concat();
        self.body[start..start + RECORD_BYTES].copy_from_slice(&lengths);
        true
    }
}

/// How many bytes the JSON of this log's record may have.
fn longest(log: &SavedLog) -> usize {
    let mut log = log.clone();
    log.first = u64::MAX;
    serde_json::to_vec(&Record::Log(log)).map_or(0, |json| json.len())
}

/// The next record, with its other bytes. None if it is none.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(Record, &'a [u8])> {
    let json = split_length(rest)?;
    let bytes = split_length(rest)?;
    let record = serde_json::from_slice(rest.split_off(..json)?).ok()?;
    Some((record, rest.split_off(..bytes)?))
}

fn split_length(rest: &mut &[u8]) -> Option<usize> {
    let (length, behind) = rest.split_first_chunk()?;
    *rest = behind;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

/// Events, each with its length.
fn lengthened(events: &[OwnEvent]) -> Bytes {
    let mut bytes = Vec::new();
    for event in events.iter().map(OwnEvent::write) {
        // An outbox takes none that is so large.
        let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(event);
    }
    bytes.into()
}

/// The inverse of [`lengthened`].
fn shortened(mut bytes: &[u8]) -> Option<Vec<OwnEvent>> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let length = split_length(&mut bytes)?;
        events.push(OwnEvent::read(bytes.split_off(..length)?)?);
    }
    Some(events)
}

//! The events of one namespace, as long as somebody may have missed them.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::Former;
use crate::{
    config, id,
    transport::{Selection, SocketKey},
};

/// What an entry takes beside its text, in bytes: the entry itself and its room names.
const ENTRY_OVERHEAD: usize = 256;

/// How many connections that dropped are kept; the oldest goes first.
const MAX_FORMER: usize = 10_000;

/// The events that were sent, oldest first, and the connections that dropped.
///
/// It is bounded by the number, the size and the age of the events. All the while that an event
/// is logged and sent, the caller holds the one lock that the log is under: so the log has events
/// in the order in which each client gets them.
pub struct Log<P> {
    limits: config::Recovery,
    /// Makes places unlike those of other logs, and unlike texts that applications send.
    tag: String,
    events: VecDeque<Event<P>>,
    /// The number of the first event that is still there.
    first: u64,
    /// What the events take, in bytes.
    bytes: usize,
    former: HashMap<String, (Instant, Former)>,
    /// Who dropped when. Some may have come back since.
    dropped: VecDeque<(Instant, String)>,
}

struct Event<P> {
    at: Instant,
    target: Target,
    packet: P,
    bytes: usize,
}

/// Whom an event was for.
#[derive(Debug, Clone)]
pub enum Target {
    /// One socket.
    Socket(SocketKey),
    /// Sockets by their rooms.
    Selection(Selection),
}

impl Target {
    fn includes(&self, former: &Former) -> bool {
        let is_in = |rooms: &[String]| rooms.iter().any(|room| former.rooms.contains(room));
        match self {
            Self::Socket(key) => key.is_same_client(&former.key),
            Self::Selection(selection) => {
                let excepted = selection
                    .except_socket
                    .is_some_and(|key| key.is_same_client(&former.key));
                !excepted
                    && !is_in(&selection.except)
                    && (selection.rooms.is_empty() || is_in(&selection.rooms))
            }
        }
    }
}

/// What a connection that comes back has missed.
pub struct Replay<P> {
    former: Former,
    packets: Vec<P>,
    /// The number of the first event that has not been looked at.
    next: u64,
}

impl<P: Clone> Log<P> {
    /// An empty log.
    pub fn new(limits: config::Recovery) -> Self {
        Self {
            limits,
            tag: id::random(),
            events: VecDeque::new(),
            first: 0,
            bytes: 0,
            former: HashMap::new(),
            dropped: VecDeque::new(),
        }
    }

    /// Whether anybody may come back for an event that is sent to nobody now, or is just coming.
    pub fn is_waited_for(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// The same, without those who have been away for too long.
    pub fn is_waited_for_still(&mut self) -> bool {
        self.forget(Instant::now());
        self.is_waited_for()
    }

    /// The place of the next event, for its last argument.
    pub fn place(&self) -> String {
        self.place_of(self.next())
    }

    /// Adds an event; `size` is that of its packet in bytes.
    pub fn push(&mut self, target: Target, packet: P, size: usize) {
        let now = Instant::now();
        let bytes = size + ENTRY_OVERHEAD;
        self.events.push_back(Event {
            at: now,
            target,
            packet,
            bytes,
        });
        self.bytes += bytes;
        let limits = &self.limits;
        while let Some(oldest) = self.events.front() {
            let fits = self.events.len() <= limits.max_events
                && self.bytes <= limits.max_bytes.as_usize()
                && now.duration_since(oldest.at) <= limits.max_age;
            if fits {
                break;
            }
            self.bytes -= oldest.bytes;
            self.first += 1;
            self.events.pop_front();
        }
        self.forget(now);
    }

    /// Keeps a connection that dropped.
    pub fn keep(&mut self, former: Former) {
        let now = Instant::now();
        self.dropped.push_back((now, former.pid.clone()));
        self.former.insert(former.pid.clone(), (now, former));
        self.forget(now);
    }

    /// The connection of a client that is back and has seen the events up to `place`, if nothing
    /// is missing since. It can come back once.
    pub fn take(&mut self, pid: &str, place: &str) -> Option<(Former, u64)> {
        let now = Instant::now();
        self.forget(now);
        let digits = place.strip_prefix(self.tag.as_str())?;
        let number = u64::from_str_radix(digits, 16).ok()?;
        let next = number.checked_add(1)?;
        // There is one way to write a place.
        if self.place_of(number) != place {
            return None;
        }
        if !(self.first..=self.next()).contains(&next) || !self.former.contains_key(pid) {
            return None;
        }
        let (_, former) = self.former.remove(pid)?;
        // Until it has caught up, events must be kept although nobody is there for them.
        self.dropped.push_back((now, pid.to_owned()));
        Some((former, next))
    }

    /// What `former` has missed from event number `next` on; none if that is gone already.
    pub fn missed(&self, former: Former, next: u64) -> Option<Replay<P>> {
        let mut replay = Replay {
            former,
            packets: Vec::new(),
            next,
        };
        self.extend(&mut replay).then_some(replay)
    }

    /// All the packets of a replay, with those of events that came since it was begun. None if
    /// some of those are gone already.
    pub fn finish(&self, mut replay: Replay<P>) -> Option<Vec<P>> {
        self.extend(&mut replay).then_some(replay.packets)
    }

    fn extend(&self, replay: &mut Replay<P>) -> bool {
        let Some(skipped) = replay.next.checked_sub(self.first) else {
            return false;
        };
        for event in self.events.iter().skip(skipped as usize) {
            if event.target.includes(&replay.former) {
                replay.packets.push(event.packet.clone());
            }
        }
        replay.next = self.next();
        true
    }

    fn place_of(&self, number: u64) -> String {
        format!("{}{number:x}", self.tag)
    }

    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Forgets connections that have been gone for too long, or are too many.
    fn forget(&mut self, now: Instant) {
        let max_age: Duration = self.limits.max_age;
        while let Some((at, pid)) = self.dropped.front() {
            if now.duration_since(*at) <= max_age && self.dropped.len() <= MAX_FORMER {
                return;
            }
            // It may have come back and dropped again.
            if self.former.get(pid).is_some_and(|(kept, _)| kept == at) {
                self.former.remove(pid);
            }
            self.dropped.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Size;

    fn key(number: u8) -> SocketKey {
        SocketKey::new(format!("AAAAAAAAAAAAAA{number:02}").parse().unwrap())
    }

    fn former(pid: &str, number: u8, rooms: &[&str]) -> Former {
        Former {
            pid: pid.to_owned(),
            id: format!("id of {pid}"),
            key: key(number),
            rooms: rooms.iter().map(|room| room.to_string()).collect(),
            user: None,
        }
    }

    fn log(max_events: usize, max_bytes: u64) -> Log<u32> {
        Log::new(config::Recovery {
            max_events,
            max_bytes: Size::new(max_bytes),
            ..Default::default()
        })
    }

    fn push(log: &mut Log<u32>, target: Target, packet: u32) -> String {
        let place = log.place();
        log.push(target, packet, 100);
        place
    }

    fn to(room: &str) -> Target {
        Target::Selection(Selection::room(room))
    }

    fn missed(log: &mut Log<u32>, pid: &str, place: &str) -> Option<Vec<u32>> {
        let (former, next) = log.take(pid, place)?;
        log.finish(log.missed(former, next)?)
    }

    #[test]
    fn a_connection_gets_what_was_for_it_and_nothing_else() {
        let mut log = log(100, 1 << 20);
        let place = push(&mut log, to("a"), 0);
        log.keep(former("p", 1, &["a", "b"]));
        let everyone = Selection {
            rooms: Vec::new(),
            except: Vec::new(),
            except_socket: None,
        };
        push(&mut log, to("a"), 1);
        push(&mut log, to("c"), 2);
        push(&mut log, Target::Socket(key(1)), 3);
        push(&mut log, Target::Socket(key(2)), 4);
        push(&mut log, Target::Selection(everyone.clone()), 5);
        let except = Selection {
            except: vec!["b".to_owned()],
            ..everyone.clone()
        };
        push(&mut log, Target::Selection(except), 6);
        let except_socket = Selection {
            except_socket: Some(key(1)),
            ..everyone
        };
        push(&mut log, Target::Selection(except_socket), 7);
        push(&mut log, to("b"), 8);
        assert_eq!(missed(&mut log, "p", &place).unwrap(), [1, 3, 5, 8]);
        assert_eq!(missed(&mut log, "p", &place), None, "only once");
    }

    #[test]
    fn what_is_for_a_connection_before_and_after_it_came_back_is_for_it() {
        let mut log = log(100, 1 << 20);
        let place = push(&mut log, to("a"), 0);
        push(&mut log, Target::Socket(key(1)), 1);
        let back = key(1).back_in(key(2).session);
        push(&mut log, Target::Socket(back), 2);
        push(&mut log, Target::Socket(key(2)), 3);
        log.keep(Former {
            key: back,
            ..former("p", 1, &[])
        });
        assert_eq!(missed(&mut log, "p", &place).unwrap(), [1, 2]);
    }

    #[test]
    fn events_that_come_while_a_connection_comes_back_are_not_lost() {
        let mut log = log(3, 1 << 20);
        let place = push(&mut log, to("a"), 0);
        log.keep(former("p", 1, &["a"]));
        push(&mut log, to("a"), 1);
        let (back, next) = log.take("p", &place).unwrap();
        assert!(log.is_waited_for(), "while it comes back");
        let replay = log.missed(back, next).unwrap();
        for packet in 2..5 {
            push(&mut log, to("a"), packet);
        }
        assert_eq!(log.finish(replay).unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    fn nothing_is_replayed_with_a_gap() {
        for mut log in [log(3, 1 << 20), log(100, 3 * (100 + ENTRY_OVERHEAD) as u64)] {
            let place = push(&mut log, to("a"), 0);
            for packet in 1..=3 {
                push(&mut log, to("other"), packet);
            }
            log.keep(former("p", 1, &["a"]));
            // The event at `place` is gone, but none behind it.
            assert_eq!(missed(&mut log, "p", &place).unwrap(), [0; 0]);
            log.keep(former("p", 1, &["a"]));
            push(&mut log, to("other"), 4);
            assert_eq!(missed(&mut log, "p", &place), None);
            let place = log.place();
            push(&mut log, to("other"), 5);
            let (back, next) = log.take("p", &place).unwrap();
            let replay = log.missed(back, next).unwrap();
            for packet in 6..10 {
                push(&mut log, to("other"), packet);
            }
            assert_eq!(log.finish(replay), None, "a gap that opens meanwhile");
        }
    }

    #[test]
    fn places_that_this_log_never_gave_open_nothing() {
        let mut log = log(100, 1 << 20);
        let place = push(&mut log, to("a"), 0);
        log.keep(former("p", 1, &["a"]));
        let tag = log.tag.clone();
        for bad in [
            "",
            "0",
            &tag,
            &format!("{tag}2"),
            &format!("{tag}00"),
            &format!("{tag}+0"),
            &format!("{tag}ffffffffffffffff"),
        ] {
            assert!(log.take("p", bad).is_none(), "{bad}");
        }
        assert!(log.take("q", &place).is_none());
        assert!(log.take("p", &place).is_some());
    }

    #[test]
    fn connections_that_dropped_are_forgotten_when_they_are_old_or_too_many() {
        let mut log = log(100, 1 << 20);
        let place = push(&mut log, to("a"), 0);
        for number in 0..=MAX_FORMER {
            log.keep(former(&number.to_string(), 1, &[]));
        }
        assert_eq!(
            (log.former.len(), log.dropped.len()),
            (MAX_FORMER, MAX_FORMER)
        );
        assert!(log.take("0", &place).is_none());
        assert!(log.take("1", &place).is_some());
        log.limits.max_age = Duration::ZERO;
        log.forget(Instant::now() + Duration::from_secs(1));
        assert!(log.former.is_empty() && log.dropped.is_empty());
        assert!(!log.is_waited_for());
    }
}

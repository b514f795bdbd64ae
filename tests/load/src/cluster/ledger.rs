//! What was sent, what became of it, and who got what.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

/// One server's events, numbered from 0 in the order in which it was given them.
#[derive(Default)]
struct Stream {
    sent: Vec<Sent>,
}

#[derive(Clone)]
struct Sent {
    answer: Answer,
    /// How many clients got it.
    copies: usize,
    /// How many failures there had been, or had begun.
    failures: usize,
    /// Its server was killed while, or right after, it was given it.
    at_a_kill: bool,
}

/// What the server said of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing, so far or for ever.
    None,
    /// It is sent.
    Taken,
    /// It is not, and nothing has happened.
    Refused,
}

/// How many events before a kill may have gone with the server: those that were taken and not yet in
/// Redis.
const AT_A_KILL: usize = 100;

/// All that was sent by way of all servers.
pub struct Ledger {
    streams: Mutex<Vec<Stream>>,
    failures: AtomicUsize,
}

impl Ledger {
    /// For so many servers.
    pub fn new(servers: usize) -> Self {
        Self {
            streams: Mutex::new((0..servers).map(|_| Stream::default()).collect()),
            failures: AtomicUsize::new(0),
        }
    }

    /// Something fails.
    pub fn fails(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A new event by way of this server: its number.
    pub fn send(&self, server: usize) -> usize {
        let sent = &mut self.lock()[server].sent;
        sent.push(Sent {
            answer: Answer::None,
            copies: 0,
            failures: self.failures.load(Ordering::Relaxed),
            at_a_kill: false,
        });
        sent.len() - 1
    }

    /// What the server said of it.
    pub fn answered(&self, server: usize, number: usize, answer: Answer) {
        self.lock()[server].sent[number].answer = answer;
    }

    /// The server is killed.
    pub fn killed(&self, server: usize) {
        let sent = &mut self.lock()[server].sent;
        let last = sent.len().saturating_sub(AT_A_KILL);
        sent[last..]
            .iter_mut()
            .for_each(|sent| sent.at_a_kill = true);
    }

    /// How many events there are, by server.
    pub fn counts(&self) -> Vec<usize> {
        self.lock().iter().map(|stream| stream.sent.len()).collect()
    }

    /// A client has got an event. An error if nobody has sent that.
    pub fn got(&self, server: usize, number: usize) -> Result<(), String> {
        let mut streams = self.lock();
        let sent = streams
            .get_mut(server)
            .and_then(|stream| stream.sent.get_mut(number));
        let sent = sent.ok_or_else(|| format!("{server}:{number}, which nobody has sent"))?;
        sent.copies += 1;
        Ok(())
    }

    /// What came of it all, and how often.
    pub fn verdict(
        &self,
        followed: impl IntoIterator<Item = Followed>,
    ) -> BTreeMap<&'static str, u64> {
        let streams = self.lock();
        let mut counts: BTreeMap<_, _> = FAULTS.map(|what| (what, 0)).into();
        let mut count = |what, more| *counts.entry(what).or_default() += more;
        for (server, stream) in streams.iter().enumerate() {
            for (number, sent) in stream.sent.iter().enumerate() {
                match (sent.answer, sent.copies) {
                    (Answer::Taken, 0) if sent.at_a_kill => count(GONE_WITH_SERVER, 1),
                    (Answer::Taken, 0) => {
                        eprintln!(
                            "{server}:{number} has vanished, at failure {}",
                            sent.failures
                        );
                        count(VANISHED, 1);
                    }
                    (Answer::Refused, 1..) => count(REFUSED_AND_SENT, 1),
                    (Answer::Refused, 0) => count(REFUSED, 1),
                    (Answer::None, 0) => count(UNANSWERED, 1),
                    (Answer::Taken | Answer::None, _) => {}
                }
            }
        }
        for followed in followed {
            count(AGAIN, followed.again);
            count(DOUBLE, followed.double);
            count(OUT_OF_ORDER, followed.late);
            for (server, numbers) in followed.missing {
                let first = numbers.start;
                let sent = streams[server].sent[numbers].iter().enumerate();
                // What reached nobody is counted above.
                for (place, sent) in sent.filter(|(_, sent)| sent.copies > 0) {
                    let number = first + place;
                    eprintln!("{server}:{number} is missing, of failure {}", sent.failures);
                    count(LOST, 1);
                }
            }
        }
        counts
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stream>> {
        self.streams.lock().expect("no holder panics")
    }
}

/// Taken by a server that was killed then, and got by nobody.
pub const GONE_WITH_SERVER: &str = "gone_with_server";
/// Refused, and got by nobody.
pub const REFUSED: &str = "refused";
/// Neither taken nor refused, and got by nobody.
pub const UNANSWERED: &str = "unanswered";
/// Taken, and got by nobody.
pub const VANISHED: &str = "vanished";
/// Refused, and got by somebody.
pub const REFUSED_AND_SENT: &str = "refused_and_sent";
/// Copies that a client missed which had no reason to miss any.
pub const LOST: &str = "lost";
/// Copies that a client had before it was told that it begins anew.
pub const AGAIN: &str = "again";
/// Copies that a client had before.
pub const DOUBLE: &str = "double";
/// Copies that a client got behind later ones of the same server.
pub const OUT_OF_ORDER: &str = "out_of_order";
/// Those of them that must not be.
pub const FAULTS: [&str; 5] = [VANISHED, REFUSED_AND_SENT, LOST, DOUBLE, OUT_OF_ORDER];

/// What one client got of all servers' events.
#[derive(Debug)]
pub struct Followed {
    next: Vec<usize>,
    /// What it has no right to expect: it was not recovered, so that each server's events begin anywhere.
    is_fresh: Vec<bool>,
    /// What it had got before it began anew.
    before: Vec<usize>,
    again: u64,
    missing: Vec<(usize, Range<usize>)>,
    double: u64,
    late: u64,
}

impl Followed {
    /// Of so many servers, from the first event on.
    pub fn new(servers: usize) -> Self {
        Self {
            next: vec![0; servers],
            is_fresh: vec![true; servers],
            before: vec![0; servers],
            again: 0,
            missing: Vec::new(),
            double: 0,
            late: 0,
        }
    }

    /// The client was told that it starts afresh, with what is sent from now on.
    pub fn start_afresh(&mut self) {
        self.is_fresh.fill(true);
        for (before, next) in self.before.iter_mut().zip(&self.next) {
            *before = (*before).max(*next);
        }
    }

    /// An event has come.
    pub fn got(&mut self, server: usize, number: usize) {
        let next = self.next[server];
        let is_fresh = std::mem::replace(&mut self.is_fresh[server], false);
        if is_fresh || number >= next {
            if number > next && !is_fresh {
                self.missing.push((server, next..number));
            }
            self.again += u64::from(number < self.before[server]);
            self.next[server] = number + 1;
            return;
        }
        let of_it =
            |(of, numbers): &(usize, Range<usize>)| *of == server && numbers.contains(&number);
        let Some(place) = self.missing.iter().position(of_it) else {
            self.double += 1;
            return;
        };
        self.late += 1;
        let (_, numbers) = self.missing.swap_remove(place);
        self.missing.push((server, numbers.start..number));
        self.missing.push((server, number + 1..numbers.end));
    }

    /// Whether it has got everything up to these counts, but for what it may not expect.
    pub fn has_all(&self, counts: &[usize]) -> bool {
        self.next
            .iter()
            .zip(counts)
            .all(|(next, count)| next >= count)
    }

    /// Nothing more will come: what it has not got of so many is missing.
    pub fn end(&mut self, counts: &[usize]) {
        for (server, count) in counts.iter().enumerate() {
            if !self.is_fresh[server] && self.next[server] < *count {
                self.missing.push((server, self.next[server]..*count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(got: &[usize], fresh_at: Option<usize>) -> BTreeMap<&'static str, u64> {
        let ledger = Ledger::new(1);
        for number in 0..5 {
            ledger.send(0);
            ledger.answered(0, number, Answer::Taken);
            ledger.got(0, number).unwrap();
        }
        let mut followed = Followed::new(1);
        for (place, number) in got.iter().enumerate() {
            if fresh_at == Some(place) {
                followed.start_afresh();
            }
            followed.got(0, *number);
        }
        followed.end(&ledger.counts());
        let mut verdict = ledger.verdict([followed]);
        verdict.retain(|_, count| *count > 0);
        verdict
    }

    #[test]
    fn everything_once_and_in_order_is_no_fault() {
        assert_eq!(verdict(&[0, 1, 2, 3, 4], None), BTreeMap::new());
        assert_eq!(verdict(&[2, 3, 4], None), BTreeMap::new(), "it came later");
        assert_eq!(verdict(&[0, 3, 4], Some(1)), BTreeMap::new(), "it was told");
        let again = BTreeMap::from([(AGAIN, 2)]);
        assert_eq!(verdict(&[0, 1, 2, 1, 2, 3, 4], Some(3)), again);
    }

    #[test]
    fn what_is_missing_double_or_late_is_counted() {
        assert_eq!(verdict(&[0, 3, 4], None), BTreeMap::from([(LOST, 2)]));
        assert_eq!(verdict(&[0, 1, 2], None), BTreeMap::from([(LOST, 2)]));
        assert_eq!(
            verdict(&[0, 1, 1, 2, 3, 4], None),
            BTreeMap::from([(DOUBLE, 1)])
        );
        assert_eq!(
            verdict(&[0, 2, 1, 3, 4], None),
            BTreeMap::from([(OUT_OF_ORDER, 1)])
        );
    }

    #[test]
    fn what_a_server_said_is_held_against_it() {
        let ledger = Ledger::new(2);
        for answer in [
            Answer::Taken,
            Answer::Refused,
            Answer::Refused,
            Answer::None,
        ] {
            let number = ledger.send(0);
            ledger.answered(0, number, answer);
        }
        ledger.got(0, 1).unwrap();
        assert!(ledger.got(0, 4).is_err());
        let number = ledger.send(1);
        ledger.answered(1, number, Answer::Taken);
        ledger.killed(1);
        let counts = [
            (VANISHED, 1),
            (REFUSED_AND_SENT, 1),
            (REFUSED, 1),
            (UNANSWERED, 1),
            (GONE_WITH_SERVER, 1),
        ];
        let mut verdict = ledger.verdict([]);
        verdict.retain(|_, count| *count > 0);
        assert_eq!(verdict, BTreeMap::from(counts));
    }
}

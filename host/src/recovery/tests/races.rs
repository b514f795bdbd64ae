//! Threads that send, drop and come back at the same moment.

use std::{
    panic::{self, AssertUnwindSafe},
    slice,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Client, broadcast, event, everyone, limits, names, namespace, place, roomy, session};
use crate::transport::{Packet, SocketKey};

#[test]
fn a_panic_under_the_locks_costs_its_own_event_only() {
    let journal = namespace(roomy());
    let stream = journal.begin(session(0));
    let panics = |_: &str| -> Packet { panic!("encoding fails") };
    let alone = || journal.emit(&stream, false, panics, |_, _| ());
    panic::catch_unwind(AssertUnwindSafe(alone)).unwrap_err();
    let to_all = || drop(journal.broadcasts().push(None, everyone(), panics));
    panic::catch_unwind(AssertUnwindSafe(to_all)).unwrap_err();

    let sent = journal.emit(&stream, false, event("alone"), |_, packet| packet.clone());
    assert!(sent.unwrap().array().starts_with("[\"alone\","));
    let sent = journal.broadcasts().push(None, everyone(), event("to all"));
    assert!(sent.array().starts_with("[\"to all\","));
}

#[test]
fn events_enter_each_channel_in_the_order_of_their_places() {
    const EACH: usize = 2_000;
    let journal = namespace(roomy());
    let mut streams = Vec::new();
    for number in 0..3 {
        let stream = journal.begin(session(number));
        streams.push((stream, Mutex::new(Vec::<String>::new())));
    }
    thread::scope(|scope| {
        for thread in 0..2 {
            let (journal, streams) = (&journal, &streams);
            scope.spawn(move || {
                for number in 0..EACH {
                    let mut log = journal.broadcasts();
                    let name = format!("broadcast {thread} {number}");
                    let packet = log.push(None, everyone(), event(&name));
                    for (_, channel) in streams {
                        channel.lock().unwrap().push(packet.array().to_owned());
                    }
                }
            });
            for (stream, channel) in streams {
                scope.spawn(move || {
                    for number in 0..EACH {
                        let name = format!("own {thread} {number}");
                        journal.emit(stream, false, event(&name), |_, packet| {
                            thread::yield_now();
                            channel.lock().unwrap().push(packet.array().to_owned());
                        });
                    }
                });
            }
        }
    });
    for (number, (stream, channel)) in streams.iter().enumerate() {
        let got = channel.lock().unwrap();
        assert_eq!(got.len(), 4 * EACH);
        let mut client = Client {
            stream: stream.clone(),
            key: SocketKey::new(session(number)),
            ..Client::connect(&journal)
        };
        for seen in (4 * EACH - 600..4 * EACH).step_by(7) {
            client.got = got[..=seen].to_vec();
            client.read_all();
            client.cut(&journal);
            assert!(client.come_back(&journal, |_| {}));
            assert_eq!(client.got, *got);
        }
    }
}

#[test]
fn clients_that_come_back_while_others_send_have_every_event_once_and_in_order() {
    // No more than a stream keeps.
    const SENT: usize = 800;
    const CLIENTS: usize = 3;
    /// A client's present outbox; whether broadcasts reach it.
    type Channel = Mutex<(Vec<String>, bool)>;
    let journal = namespace(limits(2 * SENT, 16 << 20));
    let channels: Vec<Channel> = (0..CLIENTS)
        .map(|_| Mutex::new((Vec::new(), true)))
        .collect();
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&journal)).collect();
    let streams: Vec<_> = clients.iter().map(|client| client.stream.clone()).collect();
    let sending = AtomicUsize::new(1 + CLIENTS);
    let come_and_go = |mut client: Client, channel: &Channel| {
        let mut seen = Vec::new();
        loop {
            let is_over = sending.load(Ordering::Acquire) == 0;
            seen.append(&mut channel.lock().unwrap().0);
            if is_over {
                return seen;
            }
            client.offset = seen.last().map(|event| place(event).to_owned());
            let former = client.former();
            let end = || {
                channel.lock().unwrap().1 = false;
                Some(former)
            };
            journal.end(&client.stream, client.key.session, end);
            // What has not been read is lost on the way.
            channel.lock().unwrap().0.clear();
            let returning = journal
                .take(&client.pid, client.offset.as_deref(), None)
                .unwrap();
            client.key = client.key.back_in(Client::connect(&journal).key.session);
            let session = client.key.session;
            let replay = journal.resume(session, returning, || {}).unwrap();
            let send = |packets: &[Packet]| {
                thread::yield_now();
                let missed = packets.iter().map(|packet| packet.array().to_owned());
                channel.lock().unwrap().0.extend(missed);
                thread::yield_now();
                true
            };
            let leave = || channel.lock().unwrap().1 = true;
            assert!(journal.catch_up(session, replay, Vec::new, send, leave));
            // Whoever never reads has an event that it cannot read.
            while channel.lock().unwrap().0.is_empty() && sending.load(Ordering::Acquire) > 0 {
                thread::yield_now();
            }
        }
    };
    let seen: Vec<_> = thread::scope(|scope| {
        let (journal, sending, channels, come_and_go) =
            (&journal, &sending, &channels, &come_and_go);
        scope.spawn(move || {
            for number in 0..SENT {
                let mut log = journal.broadcasts();
                let packet = log.push(None, everyone(), event(&format!("all {number}")));
                for channel in channels {
                    let mut channel = channel.lock().unwrap();
                    if channel.1 {
                        channel.0.push(packet.array().to_owned());
                    }
                }
                drop(log);
                thread::yield_now();
            }
            sending.fetch_sub(1, Ordering::Release);
        });
        for (stream, channel) in streams.iter().zip(channels) {
            scope.spawn(move || {
                for number in 0..SENT {
                    let send = |_, packet: &Packet| {
                        channel.lock().unwrap().0.push(packet.array().to_owned());
                    };
                    journal.emit(stream, false, event(&format!("own {number}")), send);
                    thread::yield_now();
                }
                sending.fetch_sub(1, Ordering::Release);
            });
        }
        let clients = clients.into_iter().zip(channels);
        let threads: Vec<_> = clients
            .map(|(client, channel)| scope.spawn(move || come_and_go(client, channel)))
            .collect();
        let seen = threads.into_iter().map(|thread| thread.join().unwrap());
        seen.collect()
    });
    for seen in seen {
        for kind in ["all", "own"] {
            let names = names(&seen)
                .into_iter()
                .filter(|name| name.starts_with(kind));
            let expected = (0..SENT).map(|number| format!("{kind} {number}"));
            assert!(names.eq(expected), "{kind}");
        }
    }
}

#[test]
fn events_that_come_while_a_connection_comes_back_are_not_lost() {
    let journal = namespace(limits(3, 1 << 20));
    let mut client = Client::connect(&journal);
    broadcast(&journal, slice::from_mut(&mut client), everyone(), "0");
    client.read_all();
    client.cut(&journal);
    broadcast(&journal, &mut [], everyone(), "1");
    let recovered = client.come_back(&journal, |_| {
        assert!(journal.broadcasts().is_waited_for());
        for name in ["2", "3", "4"] {
            broadcast(&journal, &mut [], everyone(), name);
        }
    });
    assert!(recovered);
    assert_eq!(names(&client.got), ["0", "1", "2", "3", "4"]);

    client.read_all();
    client.cut(&journal);
    let recovered = client.come_back(&journal, |_| {
        for name in ["5", "6", "7", "8"] {
            broadcast(&journal, &mut [], everyone(), name);
        }
    });
    assert!(!recovered, "a gap that opens meanwhile");
}

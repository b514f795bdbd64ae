//! How much is kept, for how long, and who has to go if that is too much.

use std::{net::IpAddr, slice, sync::Arc, time::Duration};

use super::{Client, broadcast, event, everyone, limits, names, namespace, roomy, to};
use crate::{
    cluster::EntryId,
    config,
    recovery::{Common, Journal, formers::UNIT},
    transport::Selection,
    user::UserId,
};

#[test]
fn the_own_events_of_a_connection_are_bounded() {
    let journal = namespace(limits(100, 4 << 10));
    let mut client = Client::connect(&journal);
    let large = "x".repeat(1500);
    for number in 0..4 {
        client.emit(&journal, &format!("{number}{large}"));
    }
    client.read(1);
    client.cut(&journal);
    assert!(!client.come_back(&journal, |_| {}));
    client.is_here = true;
    client.read(1);
    assert!(client.come_back(&journal, |_| {}));
    assert_eq!(client.got.len(), 4);

    client.read_all();
    client.emit(&journal, &"x".repeat(5000));
    client.cut(&journal);
    assert!(
        !client.come_back(&journal, |_| {}),
        "larger than all it may take"
    );
    client.read_all();
    assert!(client.come_back(&journal, |_| {}));
}

#[test]
fn the_names_in_a_selection_count_for_the_size_of_the_log() {
    let journal = namespace(limits(1000, 64 << 10));
    let long = Selection {
        except: vec!["x".repeat(10 << 10)],
        ..Selection::default()
    };
    for _ in 0..20 {
        journal.broadcasts().push(None, long.clone(), event("e"));
    }
    let log = journal.broadcasts();
    assert!((1..=6).contains(&(log.next() - log.first())));
}

#[test]
fn nothing_is_kept_where_nobody_can_come_back() {
    let brief = config::Recovery {
        max_age: Duration::ZERO,
        ..roomy()
    };
    for (limits, is_empty, kept) in [
        (roomy(), true, 2),
        (brief.clone(), false, 0),
        (brief, true, 0),
    ] {
        let is_long = !limits.max_age.is_zero();
        let journal = namespace(limits);
        let mut client = Client::connect(&journal);
        broadcast(&journal, slice::from_mut(&mut client), everyone(), "seen");
        client.cut(&journal);
        let stream = Arc::downgrade(&client.stream);
        drop(client);
        assert!(stream.upgrade().is_some());
        journal.sweep(is_empty);
        assert_eq!(stream.upgrade().is_some(), is_long);
        let log = journal.broadcasts();
        assert_eq!((log.next(), log.next() - log.first()), (2, kept));
    }
}

#[test]
fn a_server_of_a_cluster_keeps_for_clients_of_others_also_while_it_has_none() {
    for (is_clustered, kept) in [(true, true), (false, false)] {
        let journal = Journal::new(Arc::new(Common::new(roomy(), is_clustered)));
        let first = EntryId::parse("1-0").unwrap();
        journal.start_at(first.number());
        journal
            .broadcasts()
            .push(Some(first), everyone(), event("e"));
        journal.sweep(true);
        assert_eq!(journal.broadcasts().reaches(first.number()), kept);
    }
}

#[test]
fn connections_that_dropped_are_forgotten_when_they_are_old() {
    let brief = config::Recovery {
        max_age: Duration::ZERO,
        ..roomy()
    };
    let journal = namespace(brief);
    let mut client = Client::connect(&journal);
    client.emit(&journal, "seen");
    client.read_all();
    client.cut(&journal);
    assert!(!client.come_back(&journal, |_| {}));
    assert!(!journal.is_waited_for());
}

/// A client at an address of this number that has dropped. With a user, it is that one's.
fn dropped(journal: &Journal, address: u8, user: Option<&str>) -> Client {
    let mut client = Client::connect(journal);
    client.address = IpAddr::from([192, 0, 2, address]).into();
    client.user = user.map(|id| UserId::from_text(id).unwrap());
    client.cut(journal);
    client
}

#[test]
fn a_crowd_of_one_client_takes_no_place_from_others() {
    let limits = config::Recovery {
        max_clients: 30,
        ..roomy()
    };
    let journal = namespace(limits);
    let crowd = |address, user: Option<&str>| -> Vec<_> {
        let alike = |_| dropped(&journal, address, user);
        (0..100).map(alike).collect()
    };
    let mut kept: Vec<_> = (0..5)
        .flat_map(|number| {
            let user = format!("user {number}");
            // One with a user, one at an address of its own, and one at that of the crowd.
            let clients = [(1, Some(&*user)), (10 + number, None), (1, None)];
            clients.map(|(address, user)| dropped(&journal, address, user))
        })
        .collect();
    broadcast(&journal, &mut kept, everyone(), "missed");
    let mut crowd_of_one = crowd(1, None);
    crowd_of_one.extend(crowd(1, Some("one")));
    for client in &mut kept {
        assert!(client.come_back(&journal, |_| {}), "{}", client.pid);
        assert_eq!(names(&client.got), ["missed"]);
    }
    let back = |client: &mut Client| client.come_back(&journal, |_| {});
    assert_eq!(
        crowd_of_one
            .iter_mut()
            .filter_map(|client| back(client).then_some(()))
            .count(),
        15
    );
}

/// A client at an address of this number that drops with so many bytes of rooms, or of data.
fn dropped_with(journal: &Journal, address: u8, bytes: usize, in_rooms: bool) -> Client {
    let mut client = Client::connect(journal);
    client.address = IpAddr::from([192, 0, 2, address]).into();
    let text = "x".repeat(bytes - if in_rooms { size_of::<String>() } else { 0 });
    let mut former = client.former();
    match in_rooms {
        true => former.rooms = vec![text],
        false => former.data.set(&"plugin".into(), text.into()),
    }
    assert_eq!(former.size(), bytes);
    journal.end(&client.stream, client.key.session, || Some(former));
    client.is_here = false;
    client
}

#[test]
fn large_rooms_and_data_count_for_several_connections() {
    const MAX: usize = 16;
    let limits = || config::Recovery {
        max_clients: MAX,
        ..roomy()
    };
    for in_rooms in [true, false] {
        for (bytes, kept) in [(UNIT - 1, MAX), (UNIT, MAX / 2), (3 * UNIT, MAX / 4)] {
            let journal = namespace(limits());
            for number in 0..MAX as u8 {
                dropped_with(&journal, number, bytes, in_rooms);
            }
            assert_eq!(journal.sweep(false), kept, "{bytes}");
        }
        let journal = namespace(limits());
        dropped_with(&journal, 0, (MAX + 1) * UNIT, in_rooms);
        assert_eq!(journal.sweep(false), 0, "more than there is room for");
    }
}

#[test]
fn who_has_much_data_takes_no_place_from_others() {
    let limits = config::Recovery {
        max_clients: 40,
        ..roomy()
    };
    let journal = namespace(limits);
    let mut modest: Vec<_> = (0..10)
        .map(|number| dropped(&journal, 10 + number, None))
        .collect();
    let mut greedy: Vec<_> = (0..8)
        .map(|_| dropped_with(&journal, 1, 9 * UNIT, false))
        .collect();
    let mut back = |client: &mut Client| client.come_back(&journal, |_| {});
    assert!(modest.iter_mut().all(&mut back));
    assert_eq!(
        greedy
            .iter_mut()
            .filter_map(|client| back(client).then_some(()))
            .count(),
        3
    );
}

#[test]
fn those_who_return_make_room_and_are_not_counted_any_more() {
    const ALL: usize = 500;
    let limits = config::Recovery {
        max_clients: ALL,
        ..roomy()
    };
    let common = Arc::new(Common::new(limits, false));
    let namespaces = [(); 2].map(|()| Journal::new(common.clone()));
    let mut clients: Vec<_> = (0..ALL)
        .map(|number| Client::connect(&namespaces[number % 2]))
        .collect();
    for _ in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.emit(&namespaces[number % 2], "event");
            client.read_all();
            client.cut(&namespaces[number % 2]);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert!(client.come_back(&namespaces[number % 2], |_| {}));
        }
        assert!(!namespaces.iter().any(Journal::is_waited_for));
    }
    // There is one bound for all namespaces together.
    for client in clients.iter_mut().step_by(2) {
        client.cut(&namespaces[0]);
    }
    for _ in 0..ALL {
        Client::connect(&namespaces[1]).cut(&namespaces[1]);
    }
    let awaited = namespaces.each_ref().map(|journal| journal.sweep(false));
    assert_eq!(awaited.iter().sum::<usize>(), ALL);
}

#[test]
fn the_memory_of_all_namespaces_has_one_bound() {
    const BYTES: usize = 64 << 10;
    const NAMESPACES: usize = 20;
    let common = Arc::new(Common::new(limits(10_000, BYTES as u64), false));
    let namespaces: Vec<_> = (0..NAMESPACES)
        .map(|_| Journal::new(common.clone()))
        .collect();
    let bytes = || -> usize {
        let sizes = namespaces
            .iter()
            .map(|journal| journal.broadcasts().bytes());
        sizes.sum()
    };
    let sweep = || {
        namespaces
            .iter()
            .for_each(|journal| _ = journal.sweep(false));
        common.share_out();
    };
    let mut clients: Vec<_> = namespaces.iter().map(Client::connect).collect();
    for (client, journal) in clients.iter_mut().zip(&namespaces) {
        client.cut(journal);
    }
    let large = "x".repeat(1000);
    let fill = |journal: &Journal| {
        for _ in 0..100 {
            broadcast(journal, &mut [], to("nobody"), &large);
            assert!(bytes() <= BYTES);
        }
    };
    // One takes all, until others want some.
    fill(&namespaces[0]);
    assert!(bytes() > BYTES / 2);
    sweep();
    for (client, journal) in clients.iter_mut().zip(&namespaces).skip(1) {
        broadcast(journal, slice::from_mut(client), everyone(), "small");
        fill(&namespaces[0]);
    }
    for (client, journal) in clients.iter_mut().zip(&namespaces).skip(1) {
        assert!(client.come_back(journal, |_| {}));
        assert_eq!(names(&client.got), ["small"]);
        client.read_all();
    }
    // All take much: each has its share.
    for _ in 0..3 {
        namespaces.iter().for_each(fill);
        sweep();
    }
    let share = BYTES / NAMESPACES / 2;
    for journal in &namespaces {
        assert!(journal.broadcasts().bytes() > share);
    }
    drop(clients);
    drop(namespaces);
    assert!(!common.broadcasts.is_scarce());
}

#[test]
fn the_memory_of_all_single_connections_has_one_bound() {
    const BYTES: usize = 256 << 10;
    let common = Arc::new(Common::new(limits(10_000, BYTES as u64), false));
    let journal = Journal::new(common.clone());
    let sweep = || {
        journal.sweep(false);
        common.share_out();
    };
    let large = "x".repeat(1000);
    let mut greedy: Vec<_> = (0..20).map(|_| Client::connect(&journal)).collect();
    let fill = |client: &mut Client| {
        for _ in 0..50 {
            client.emit(&journal, &large);
            assert!(!common.own.is_overdrawn());
        }
    };
    greedy.iter_mut().for_each(fill);
    sweep();
    sweep();
    // Those who come later have their part, though the others never say a word again.
    let mut modest: Vec<_> = (0..20).map(|_| Client::connect(&journal)).collect();
    for client in &mut modest {
        client.emit(&journal, "small");
        client.cut(&journal);
        assert!(client.come_back(&journal, |_| {}));
        assert_eq!(names(&client.got), ["small"]);
    }
    drop((greedy, modest));
    sweep();
    assert!(!common.own.is_scarce());
}

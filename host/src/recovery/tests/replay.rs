//! What a client gets that comes back, and what opens nothing.

use std::slice;

use super::{
    Client, broadcast, broadcast_volatile, event, everyone, limits, names, namespace, place, roomy,
    session, to,
};
use crate::user::UserId;

#[test]
fn what_a_client_missed_before_it_joined_a_room_is_not_for_it() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "hello");
    client.read_all();
    broadcast(&journal, slice::from_mut(&mut client), to("a"), "too early");
    client.change_rooms(&journal, "a", true);
    broadcast(&journal, slice::from_mut(&mut client), to("a"), "in time");
    client.change_rooms(&journal, "a", false);
    broadcast(&journal, slice::from_mut(&mut client), to("a"), "too late");
    client.cut(&journal);
    broadcast(
        &journal,
        slice::from_mut(&mut client),
        to("a"),
        "much too late",
    );
    assert!(client.come_back(&journal, |_| {}));
    assert_eq!(names(&client.got), ["hello", "in time"]);
}

#[test]
fn nothing_is_replayed_with_a_gap() {
    // An entry, its packet, and the name of its room here and in the index.
    const EVENT: u64 = 256 + 30 + 25 + 25 + 96;
    for limits in [limits(3, 1 << 20), limits(100, 3 * EVENT)] {
        let journal = namespace(limits);
        let mut client = Client::connect(&journal);
        broadcast(&journal, slice::from_mut(&mut client), everyone(), "seen");
        client.read_all();
        client.cut(&journal);
        for _ in 0..3 {
            broadcast(&journal, &mut [], to("a"), "another");
        }
        // The event that it has seen is gone, but none behind it.
        assert!(client.come_back(&journal, |_| {}));
        client.cut(&journal);
        broadcast(&journal, &mut [], to("a"), "another");
        assert!(!client.come_back(&journal, |_| {}));
    }
}

#[test]
fn a_connection_that_leaves_its_socket_behind_is_reached_where_it_is_now() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "seen");
    client.read_all();
    client.cut(&journal);
    client.emit(&journal, "while it is away");
    assert!(client.come_back(&journal, |_| {}));
    let session = journal.emit(&client.stream, false, event("x"), |session, _| session);
    assert_eq!(session, Some(client.key.session));
    assert_eq!(names(&client.got), ["seen", "while it is away"]);

    // The end of a former socket is not its end.
    let former = || panic!("nothing is kept");
    journal.end(&client.stream, self::session(0), former);
    client.emit(&journal, "here");
}

#[test]
fn places_that_this_journal_never_gave_open_nothing() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "own");
    broadcast(
        &journal,
        slice::from_mut(&mut client),
        everyone(),
        "broadcast",
    );
    client.cut(&journal);
    let own = place(&client.got[0]).to_owned();
    let tag = &own[..4];
    assert_eq!(own, format!("{tag}1.1"));
    let take = |pid: &str, offset: &str| journal.take(pid, Some(offset), None).is_some();
    for bad in [
        "",
        "0",
        tag,
        "hello",
        &format!("{tag}5"),
        &format!("{tag}1.2"),
        &format!("{tag}9.0"),
    ] {
        assert!(!take(&client.pid, bad), "{bad}");
    }
    assert!(!take("other", &own));
    assert!(take(&client.pid, &own));
    assert!(!take(&client.pid, &own), "only once");
}

#[test]
fn a_client_that_was_sent_nothing_comes_back_to_its_connect() {
    let journal = namespace(roomy());
    let mut former = Client::connect(&journal);
    former.emit(&journal, "former");
    broadcast(
        &journal,
        slice::from_mut(&mut former),
        everyone(),
        "too early",
    );
    former.read_all();
    // Of no connection, of an earlier one, and of another run of the server.
    let offsets = [
        None,
        Some(place(&former.got[0]).to_owned()),
        former.offset.clone(),
        Some("~other2".to_owned()),
    ];
    for offset in offsets {
        let mut client = Client::connect(&journal);
        client.offset = offset.clone();
        client.cut(&journal);
        client.emit(&journal, "own");
        client.emit(&journal, "second");
        broadcast(&journal, slice::from_mut(&mut client), everyone(), "all");
        assert!(client.come_back(&journal, |_| {}), "{offset:?}");
        assert_eq!(names(&client.got), ["own", "second", "all"], "{offset:?}");
    }

    // What it was sent may not have arrived. Nobody can tell from something else.
    for (offset, recovers) in [("~other2", true), ("hello", false)] {
        let mut client = Client::connect(&journal);
        client.emit(&journal, "own");
        client.offset = Some(offset.to_owned());
        client.cut(&journal);
        assert_eq!(client.come_back(&journal, |_| {}), recovers);
        assert_eq!(names(&client.got), ["own"]);
    }
}

#[test]
fn a_volatile_event_has_a_place_and_is_not_kept() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit_volatile(&journal, "v0");
    client.emit(&journal, "1");
    client.emit_volatile(&journal, "v2");
    broadcast_volatile(&journal, slice::from_mut(&mut client), &everyone(), "v3");
    client.read_all();
    client.cut(&journal);
    client.emit_volatile(&journal, "v4");
    broadcast_volatile(&journal, slice::from_mut(&mut client), &everyone(), "v5");
    client.emit(&journal, "6");
    assert!(client.come_back(&journal, |_| {}));
    assert_eq!(names(&client.got), ["v0", "1", "v2", "v3", "6"]);
}

#[test]
fn an_event_over_which_a_client_drops_is_replayed_twice() {
    let journal = namespace(roomy());
    let mut client = Client::connect(&journal);
    client.emit(&journal, "seen");
    client.read_all();
    client.emit(&journal, "unreadable");
    let drop_over_it = |client: &mut Client| {
        client.cut(&journal);
        client.come_back(&journal, |_| {})
    };
    assert!(drop_over_it(&mut client));
    assert!(drop_over_it(&mut client));
    assert!(!drop_over_it(&mut client));

    // Whoever sees something in between is only slow.
    let mut client = Client::connect(&journal);
    for number in 0..5 {
        client.emit(&journal, &number.to_string());
    }
    for _ in 0..4 {
        client.read(1);
        assert!(drop_over_it(&mut client));
    }
    assert!(drop_over_it(&mut client));
    // And whoever missed nothing may drop as often as it likes.
    client.read_all();
    for _ in 0..5 {
        assert!(drop_over_it(&mut client));
    }
}

#[test]
fn a_private_id_alone_opens_nothing_that_had_a_user() {
    let journal = namespace(roomy());
    let user = |id: &str| UserId::from_text(id).unwrap();
    let number = UserId::from_json(&7.into()).unwrap();
    for (had, shows, may) in [
        (None, None, true),
        (Some(user("7")), Some(user("7")), true),
        (Some(user("7")), Some(number), true),
        (Some(user("7")), None, false),
        (Some(user("7")), Some(user("8")), false),
        (None, Some(user("7")), false),
    ] {
        let mut client = Client::connect(&journal);
        client.user = had.clone();
        client.cut(&journal);
        let taken = journal.take(&client.pid, None, shows.as_ref());
        assert_eq!(taken.is_some(), may, "{had:?} {shows:?}");
        // Who may not have it takes it from nobody.
        let taken = journal.take(&client.pid, None, had.as_ref());
        assert_eq!(taken.is_some(), !may, "{had:?} {shows:?}");
    }
}

use std::time::Duration;

use proptest::prelude::*;

use super::{reading::Page, *};
use crate::{message::Arguments, units::Size};

fn history(topics: usize, events: usize, topic_bytes: u64, bytes: u64) -> History {
    History::new(config::History {
        topics,
        events,
        topic_bytes: Size::new(topic_bytes),
        bytes: Size::new(bytes),
        max_age: Duration::from_secs(60),
    })
}

fn keep(history: &History, topic: &str, number: usize) {
    let arguments = Arguments::parse(format!("[{number}]")).unwrap();
    history.keep(topic, "e", &Message::text(arguments));
}

/// The numbers in a page, its gap and whether there are more.
fn read(page: &Page) -> (Vec<usize>, bool, bool) {
    let number = |(_, entry): &(Position, Entry)| {
        let text = entry.message.arguments.as_str();
        text.trim_matches(['[', ']']).parse().unwrap()
    };
    (
        page.entries.iter().map(number).collect(),
        page.gap,
        page.more,
    )
}

#[test]
fn events_are_read_from_a_position_on() {
    let history = history(9, 9, 1 << 20, 1 << 20);
    let all = |topic, position, limit| history.since(topic, position, limit, |_| true);
    let nothing = all("a", None, 9);
    assert_eq!(read(&nothing), (vec![], false, false));
    for number in 0..5 {
        keep(&history, "a", number);
        keep(&history, "b", number + 10);
    }
    let page = all("a", None, 2);
    assert_eq!(read(&page), (vec![3, 4], true, false), "the last of them");
    assert_eq!(
        read(&all("a", Some(page.position), 2)),
        (vec![], false, false)
    );
    let page = all("a", Some(nothing.position), 2);
    assert_eq!(read(&page), (vec![0, 1], false, true));
    let page = all("a", Some(page.position), 9);
    assert_eq!(read(&page), (vec![2, 3, 4], false, false));
    assert_eq!(read(&all("a", None, 0)), (vec![], true, false));
    assert_eq!(read(&all("b", None, 9)).0, [10, 11, 12, 13, 14]);
    let page = history.since("a", Some(nothing.position), 9, |_| false);
    assert_eq!(
        (read(&page), page.position),
        ((vec![], false, true), nothing.position)
    );
}

#[test]
fn what_is_not_there_any_more_is_told() {
    let history = history(2, 3, 1 << 20, 1 << 20);
    let all = |topic, position| history.since(topic, position, 9, |_| true);
    keep(&history, "a", 0);
    let first = all("a", None).position;
    for number in 1..4 {
        keep(&history, "a", number);
    }
    assert_eq!(read(&all("a", Some(first))), (vec![1, 2, 3], false, false));
    keep(&history, "a", 4);
    assert_eq!(read(&all("a", Some(first))), (vec![2, 3, 4], true, false));
    assert_eq!(read(&all("a", None)), (vec![2, 3, 4], true, false));
    let here = all("a", None).position;
    keep(&history, "b", 0);
    keep(&history, "c", 0);
    assert_eq!(
        read(&all("a", Some(first))),
        (vec![], true, false),
        "a topic too many"
    );
    assert_eq!(
        read(&all("a", Some(here))),
        (vec![], false, false),
        "it had all"
    );
    keep(&history, "a", 5);
    assert_eq!(read(&all("a", Some(first))), (vec![5], true, false));
    assert_eq!(read(&all("a", Some(here))), (vec![5], false, false));
}

#[test]
fn a_position_of_another_run_is_a_gap() {
    let (former, history) = (
        history(9, 9, 1 << 20, 1 << 20),
        history(9, 9, 1 << 20, 1 << 20),
    );
    keep(&former, "a", 0);
    let position = former.since("a", None, 9, |_| true).position;
    assert_eq!(
        read(&history.since("a", Some(position), 9, |_| true)),
        (vec![], true, false)
    );
    keep(&history, "a", 1);
    assert_eq!(
        read(&history.since("a", Some(position), 9, |_| true)),
        (vec![1], true, false)
    );
    let made_up = Position {
        number: 77,
        ..history.since("a", None, 9, |_| true).position
    };
    assert!(history.since("a", Some(made_up), 9, |_| true).gap);
}

#[test]
fn what_a_server_of_a_cluster_has_not_read_is_a_gap() {
    let history = History::of_cluster(config::History::default());
    let keep = |id, text: &str| {
        let id = EntryId::from_number(id);
        history.has_read(id);
        let arguments = Arguments::parse(format!("[{text}]")).unwrap();
        let kept = Kept {
            id: id.number(),
            topic: "a".to_owned(),
            at: id.time(),
            event: "e".to_owned(),
            message: Message::text(arguments),
        };
        history.keep_entry(id, kept);
    };
    let since = |position| history.since("a", position, 9, |_| true);
    history.redis_shows(EntryId::from_number(20).time());
    history.begin(EntryId::from_number(10));
    assert!(since(None).gap, "of what was before it nobody knows");
    keep(10, "1");
    keep(10, "1");
    let first = since(None).position;
    assert_eq!(
        read(&since(Some(Position { number: 9, ..first }))),
        (vec![1], false, false)
    );
    let ahead = Position {
        number: 99,
        ..first
    };
    let page = since(Some(ahead));
    assert_eq!(
        (read(&page), page.position),
        ((vec![], false, false), ahead)
    );
    history.has_missed();
    assert!(since(Some(first)).gap);
    keep(20, "2");
    assert_eq!(read(&since(Some(first))), (vec![2], true, false));
    let second = since(None).position;
    assert_eq!(read(&since(Some(second))), (vec![], false, false));
}

#[test]
fn old_events_go() {
    let history = history(9, 9, 1 << 20, 1 << 20);
    let begin = history.since("a", None, 9, |_| true).position;
    keep(&history, "a", 0);
    let at = SystemTime::now() + Duration::from_secs(30);
    history.keep_at(
        at,
        "a",
        "e",
        &Message::text(Arguments::parse("[1]".into()).unwrap()),
    );
    let page = history.since_at(at + Duration::from_secs(31), "a", Some(begin), 9, |_| true);
    assert_eq!(read(&page), (vec![1], true, false));
}

#[test]
fn a_position_is_what_was_displayed() {
    let position = Position {
        epoch: 7,
        number: 12,
    };
    assert_eq!(position.to_string().parse(), Ok(position));
    for text in [
        "",
        "-",
        "7",
        "7-",
        "g-1",
        "7-1-1",
        "7--1",
        "11111111111111111-1",
    ] {
        assert_eq!(text.parse::<Position>(), Err(()), "{text}");
    }
}

proptest! {
    /// Whatever is kept and read: bounds hold, and who follows by positions has all that was kept, or is
    /// told of a gap.
    #[test]
    fn bounds_hold_and_no_loss_goes_untold(
        steps in proptest::collection::vec((0..4_usize, 0..3_usize, 1..5_usize), 1..200),
        topics in 1..4_usize,
        events in 1..6_usize,
        bytes in 300..3000_u64,
    ) {
        let history = history(topics, events, bytes, bytes);
        let begin = history.since("", None, 9, |_| true).position;
        let mut followers = [begin; 3];
        let mut kept: [Vec<usize>; 3] = Default::default();
        for (number, (step, topic, limit)) in steps.into_iter().enumerate() {
            let name = ["a", "b", "c"][topic];
            if step < 3 {
                keep(&history, name, number);
                kept[topic].push(number);
            } else {
                let page = history.since(name, Some(followers[topic]), limit, |_| true);
                let (numbers, gap, more) = read(&page);
                prop_assert!(numbers.len() <= limit);
                prop_assert!(kept[topic].ends_with(&numbers) || more);
                if !gap {
                    prop_assert!(kept[topic].starts_with(&numbers));
                    prop_assert!(more || numbers.len() == kept[topic].len());
                }
                match numbers.last() {
                    Some(last) => kept[topic].retain(|number| number > last),
                    None if gap => kept[topic].clear(),
                    None => prop_assert!(kept[topic].is_empty()),
                }
                followers[topic] = page.position;
            }
            let held = history.topics.lock();
            prop_assert!(held.by_name.len() <= topics && held.bytes as u64 <= bytes);
            prop_assert!(held.by_name.values().all(|topic| topic.entries.len() <= events));
            let sum: usize = held.by_name.values().map(|topic| topic.bytes).sum();
            prop_assert_eq!(sum, held.bytes);
            prop_assert_eq!(held.by_name.len(), held.by_age.len());
        }
    }
}

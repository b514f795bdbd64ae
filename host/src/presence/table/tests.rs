use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(60);

fn table() -> Table {
    Table::new(&config::Presence::default(), GRACE)
}

fn room() -> Place {
    Place::new("/", "r")
}

fn enter(table: &mut Table, connection: &str, user: &str) {
    let who = Who::User(user.into());
    table.has_place(&room(), &who).unwrap();
    table.enter(Entering {
        place: &room(),
        connection,
        who: &who,
        data: &"1".into(),
        server: "",
    });
}

fn counts(table: &Table) -> Vec<(String, u32)> {
    let members = table.members(&room()).into_iter();
    members
        .map(|member| (member.who.id().to_owned(), member.connections))
        .collect()
}

#[test]
fn who_was_replaced_and_comes_back_is_present_again() {
    let (mut table, now) = (table(), Instant::now());
    enter(&mut table, "1", "ada");
    table.drop_out(&room(), "1", now, 0);
    assert_eq!(counts(&table), [("ada".to_owned(), 0)]);
    enter(&mut table, "2", "ada");
    table.leave(&room(), "2");
    assert_eq!(counts(&table), [], "by its page that was loaded again");
    assert!(table.come_back(&room(), "1"));
    assert_eq!(counts(&table), [("ada".to_owned(), 1)]);
    table.leave(&room(), "1");
    table.take_changes();
    assert!(table.rooms.is_empty() && table.bytes == 0);
}

#[test]
fn who_came_and_went_since_nobody_was_told_is_not_told() {
    let mut table = table();
    enter(&mut table, "1", "ada");
    enter(&mut table, "2", "bob");
    table.leave(&room(), "2");
    let changes = table.take_changes();
    assert_eq!((changes.len(), changes[0].1.joined.len()), (1, 1));
    table.drop_out(&room(), "1", Instant::now(), 0);
    table.come_back(&room(), "1");
    assert_eq!(table.take_changes(), []);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Enter,
    Leave,
    Drop,
    Back,
    Pass,
    Tell,
}

proptest! {
    /// Whatever connections do: counts are those of the connections that are here, who follows the changes
    /// knows what the table says, and nothing is left in the end.
    #[test]
    fn counts_are_exact(
        steps in proptest::collection::vec(
            (0..6_usize, 0..6_usize),
            1..150,
        ),
    ) {
        let all = [Step::Enter, Step::Leave, Step::Drop, Step::Back, Step::Pass, Step::Tell];
        let (mut table, mut now) = (table(), Instant::now());
        let mut here = [false; 6];
        let mut marks = 0;
        let mut known: BTreeMap<Who, u32> = BTreeMap::new();
        for (step, connection) in steps {
            let id = connection.to_string();
            match all[step] {
                Step::Enter => {
                    enter(&mut table, &id, ["ada", "bob"][connection % 2]);
                    here[connection] = true;
                }
                Step::Leave => {
                    table.leave(&room(), &id);
                    here[connection] = false;
                }
                Step::Drop => {
                    marks += 1;
                    table.drop_out(&room(), &id, now, marks);
                    here[connection] = false;
                }
                Step::Back => here[connection] |= table.come_back(&room(), &id),
                Step::Pass => {
                    now += GRACE / 2;
                    table.expire(now);
                }
                Step::Tell => {
                    for (_, change) in table.take_changes() {
                        for member in change.joined.into_iter().chain(change.updated) {
                            known.insert(member.who, member.connections);
                        }
                        for member in change.left {
                            prop_assert!(known.remove(&member.who).is_some());
                        }
                    }
                    let told: Vec<_> = known
                        .iter()
                        .map(|(who, connections)| (who.id().to_owned(), *connections))
                        .collect();
                    prop_assert_eq!(told, counts(&table));
                }
            }
            for (user, rest) in [("ada", 0), ("bob", 1)] {
                let is_here = |index: &usize| index % 2 == rest && here[*index];
                let expected = (0..6).filter(is_here).count() as u32;
                let counted = counts(&table);
                let counted = counted.iter().find(|(id, _)| id == user);
                prop_assert_eq!(counted.map_or(0, |(_, count)| *count), expected);
            }
        }
        for connection in 0..6 {
            table.leave(&room(), &connection.to_string());
        }
        table.take_changes();
        prop_assert!(table.rooms.is_empty());
        prop_assert_eq!(table.bytes, 0);
    }
}

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::SeqCst, mpsc},
    time::Duration,
};

use futures_util::FutureExt;
use proptest::prelude::*;
use redb::ReadableDatabase;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::{clock::now, units::Size};

/// A store in a folder that lives as long as it.
fn store(durability: Durability) -> (TempDir, Arc<Local>) {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Store {
        path: folder.path().join("store.redb"),
        durability,
        ..config::Store::default()
    };
    (folder, open(config))
}

fn open(config: config::Store) -> Arc<Local> {
    Local::start(config, Signals::default()).unwrap()
}

fn begin(store: &Arc<Local>) -> Transaction {
    Transaction::new(Open::Disk(store.clone()))
}

/// A disk is read at once.
fn at_once<T>(read: impl Future<Output = T>) -> T {
    read.now_or_never().expect("nobody is waited for")
}

fn key(name: &str) -> Key {
    Key::new(&Bucket::of_plugin("test"), name).unwrap()
}

fn value(text: &str) -> Value {
    Value {
        bytes: text.as_bytes().into(),
        expires: None,
    }
}

/// Says how a commit ended.
struct Tell(mpsc::Sender<Result<(), Arc<str>>>);

impl Follow for Tell {
    fn follow(self: Box<Self>, stored: Result<(), Unstored>) {
        let _ = self
            .0
            .send(stored.map_err(|unstored| unstored.to_string().into()));
    }

    fn overdue(&mut self) -> super::Tell {
        let told = self.0.clone();
        Box::new(move || _ = told.send(Err("overdue".into())))
    }
}

/// Commits, and waits until it may be told.
fn commit(store: &Arc<Local>, transaction: Transaction) -> Result<(), CommitError> {
    let (told, tells) = mpsc::channel();
    store
        .commit(transaction, Box::new(Tell(told)))
        .map_err(|(error, _)| error)?;
    loop {
        match tells.recv_timeout(Duration::from_millis(1)) {
            Ok(stored) => return stored.map_err(CommitError::Unavailable),
            // What the server's settler does.
            Err(_) => store.follow_here(),
        }
    }
}

fn get(store: &Arc<Local>, name: &str) -> Option<String> {
    let mut transaction = begin(store);
    let value = at_once(transaction.get(&key(name))).unwrap()?;
    Some(String::from_utf8(value.bytes.to_vec()).unwrap())
}

/// So many keys, of any size.
fn keys(keys: usize) -> Most {
    let bytes = usize::MAX;
    Most { keys, bytes }
}

/// Waits for what the writer does.
fn until(is_so: impl Fn() -> bool) {
    for _ in 0..4000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it is never so");
}

fn usage(store: &Local) -> Usage {
    store.state.lock().recent.usage(&Bucket::of_plugin("test"))
}

fn set(store: &Arc<Local>, name: &str, text: &str) {
    let mut transaction = begin(store);
    transaction.set(key(name), value(text));
    commit(store, transaction).unwrap();
}

#[test]
fn a_transaction_conflicts_with_what_was_written_since_it_read() {
    let (_folder, store) = store(Durability::Commit);
    set(&store, "a", "1");
    set(&store, "b", "1");
    for (reads, conflicts) in [("a", true), ("b", false)] {
        let mut transaction = begin(&store);
        at_once(transaction.get(&key(reads))).unwrap();
        transaction.set(key("c"), value("2"));
        set(&store, "a", "2");
        let committed = commit(&store, transaction);
        assert_eq!(matches!(committed, Err(CommitError::Conflict)), conflicts);
    }
}

#[test]
fn a_range_conflicts_with_a_key_that_comes_into_it_and_with_no_other() {
    let (_folder, store) = store(Durability::Commit);
    for name in ["k1", "k3", "k5"] {
        set(&store, name, "x");
    }
    let bucket = Bucket::of_plugin("test");
    for (limit, written, conflicts) in [
        (2, "k2", true),
        (2, "k4", false),
        (10, "k4", true),
        (10, "l", false),
        (10, "k", true),
        (2, "j", false),
    ] {
        let mut transaction = begin(&store);
        at_once(transaction.scan(&bucket, "k", None, keys(limit))).unwrap();
        set(&store, written, "x");
        let is_conflict = matches!(commit(&store, transaction), Err(CommitError::Conflict));
        assert_eq!(is_conflict, conflicts, "{limit} keys, {written} written");
        let mut transaction = begin(&store);
        transaction.delete(key(written));
        commit(&store, transaction).unwrap();
    }
}

#[test]
fn what_was_committed_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    for durability in [
        Durability::Commit,
        Durability::Interval(Duration::from_millis(10)),
    ] {
        let config = config::Store {
            path: folder.path().join(format!("{durability:?}.redb")),
            durability,
            ..config::Store::default()
        };
        let store = open(config.clone());
        for number in 0..100 {
            set(&store, &format!("k{number}"), &number.to_string());
        }
        store.close();
        drop(store);
        let store = open(config);
        for number in 0..100 {
            assert_eq!(get(&store, &format!("k{number}")), Some(number.to_string()));
        }
        let used = usage(&store);
        assert_eq!((used.keys, used.bytes), (100, 290 + 190));
        store.close();
    }
}

#[test]
fn nothing_is_kept_in_memory_of_what_is_on_the_disk() {
    let (_folder, store) = store(Durability::Commit);
    let mut reader = begin(&store);
    at_once(reader.get(&key("k0"))).unwrap();
    for number in 0..100 {
        set(&store, &format!("k{number}"), "x");
    }
    assert_eq!(
        store.state.lock().recent.len(),
        100,
        "it may have to be held against them"
    );
    drop(reader);
    set(&store, "last", "x");
    until(|| store.state.lock().recent.len() == 0);
}

#[test]
fn what_is_added_to_is_not_lost_when_it_gets_to_the_disk_meanwhile() {
    let (_folder, store) = store(Durability::Commit);
    set(&store, "n", "40");
    // So that it is in memory still.
    let held = begin(&store);
    let mut first = begin(&store);
    at_once(first.get(&key("other"))).unwrap();
    set(&store, "n", "41");
    let mut adds = begin(&store);
    adds.add(key("n"), 1).unwrap();
    adds.look_up(&store).unwrap();
    drop((held, first));
    set(&store, "other", "x");
    until(|| store.state.lock().recent.get(&key("n")).is_none());
    let applied = store.state.lock().recent.apply(&adds, store.config());
    assert!(applied.is_ok());
    assert_eq!(get(&store, "n").as_deref(), Some("42"));
    assert_eq!(usage(&store).keys, 2);
}

#[test]
fn a_key_is_there_or_is_gone_for_a_whole_transaction() {
    let (_folder, store) = store(Durability::Memory);
    let mut writer = begin(&store);
    let expires = now() + 50;
    writer.set(
        key("short"),
        Value {
            expires: Some(expires),
            ..value("x")
        },
    );
    commit(&store, writer).unwrap();
    let mut reader = begin(&store);
    let first = at_once(reader.get(&key("short"))).unwrap();
    assert!(first.is_some());
    until(|| now() > expires);
    assert_eq!(at_once(reader.get(&key("short"))).unwrap(), first);
    assert_eq!(get(&store, "short"), None);
}

#[test]
fn a_bucket_that_is_empty_again_is_forgotten() {
    let (_folder, store) = store(Durability::Commit);
    for number in 0..10 {
        let bucket = Bucket::shared(&format!("room {number}"));
        let key = Key::new(&bucket, "k").unwrap();
        let mut transaction = begin(&store);
        transaction.set(key.clone(), value("x"));
        commit(&store, transaction).unwrap();
        let mut transaction = begin(&store);
        transaction.delete(key);
        commit(&store, transaction).unwrap();
    }
    assert_eq!(store.state.lock().recent.buckets(), 0);
}

#[test]
fn keys_whose_time_is_over_make_room_however_many_they_are() {
    let (_folder, store) = store(Durability::Memory);
    let expires = Some(now());
    let mut transaction = begin(&store);
    for number in 0..60_000 {
        let value = Value {
            expires,
            ..value("x")
        };
        transaction.set(key(&format!("k{number}")), value);
    }
    commit(&store, transaction).unwrap();
    // At a thousand a second, one client could fill a bucket for all others.
    until(|| usage(&store).keys == 0);
}

#[test]
fn what_the_disk_does_not_take_is_undone_and_told() {
    let (_folder, store) = store(Durability::Commit);
    set(&store, "a", "before");
    // Its database is gone, as after a failure of the system.
    store.disk.faults.refuses.store(true, SeqCst);
    let mut transaction = begin(&store);
    transaction.set(key("a"), value("after"));
    let (told, tells) = mpsc::channel();
    let committed = store.commit(transaction, Box::new(Tell(told)));
    assert!(committed.is_ok());
    // It may read what is not on the disk, or what is there again.
    let mut reader = begin(&store);
    let read = at_once(reader.get(&key("a"))).unwrap();
    reader.set(key("copy"), read.unwrap());
    assert!(tells.recv().unwrap().is_err());
    assert!(store.failure().is_some());
    store.disk.faults.refuses.store(false, SeqCst);
    until(|| store.failure().is_none());
    assert_eq!(get(&store, "a").as_deref(), Some("before"));
    let copied = commit(&store, reader);
    assert!(
        matches!(copied, Err(CommitError::Conflict))
            || get(&store, "copy").as_deref() == Some("before")
    );
    set(&store, "a", "again");
}

#[test]
fn what_is_on_the_disk_though_it_said_that_it_failed_has_happened() {
    let (_folder, store) = store(Durability::Commit);
    set(&store, "a", "before");
    store.disk.faults.denies.store(true, SeqCst);
    let mut transaction = begin(&store);
    transaction.set(key("a"), value("after"));
    commit(&store, transaction).unwrap();
    assert_eq!(get(&store, "a").as_deref(), Some("after"));
    store.disk.faults.denies.store(false, SeqCst);
    until(|| store.failure().is_none());
    set(&store, "b", "x");
    assert_eq!(usage(&store).keys, 2);
}

/// A store whose disk is soon said to hang.
fn impatient(durability: Durability) -> (TempDir, Arc<Local>) {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Store {
        path: folder.path().join("store.redb"),
        durability,
        commit_timeout: Duration::from_millis(50),
        ..config::Store::default()
    };
    (folder, open(config))
}

#[test]
fn a_disk_that_hangs_is_told_and_what_waits_for_it_follows_when_it_answers() {
    let (_folder, store) = impatient(Durability::Commit);
    set(&store, "a", "before");
    until(|| store.state.lock().recent.len() == 0);
    let hang = store.disk.faults.hangs.lock();
    let mut transaction = begin(&store);
    transaction.set(key("b"), value("x"));
    let (told, tells) = mpsc::channel();
    let committed = store.commit(transaction, Box::new(Tell(told)));
    assert!(committed.is_ok());
    until(|| store.failure().is_some());
    until(|| {
        store.tell_overdue();
        tells.try_recv() == Ok(Err("overdue".into()))
    });
    // Nothing more is written, and what is there can be read.
    let mut refused = begin(&store);
    refused.set(key("c"), value("x"));
    let refused = commit(&store, refused);
    assert!(
        matches!(&refused, Err(CommitError::Unavailable(reason)) if reason.contains("does not answer")),
        "{refused:?}"
    );
    assert_eq!(get(&store, "a").as_deref(), Some("before"));
    store.tell_overdue();
    assert!(tells.try_recv().is_err(), "it is told once");
    drop(hang);
    until(|| {
        store.follow_here();
        tells.try_recv() == Ok(Ok(()))
    });
    assert!(store.failure().is_none());
    set(&store, "c", "x");
}

#[test]
fn a_store_whose_disk_hangs_can_be_left() {
    let (_folder, store) = impatient(Durability::Commit);
    let hang = store.disk.faults.hangs.lock();
    let mut transaction = begin(&store);
    transaction.set(key("a"), value("x"));
    let (told, _tells) = mpsc::channel();
    assert!(store.commit(transaction, Box::new(Tell(told))).is_ok());
    store.close();
    drop(hang);
}

#[test]
fn keys_of_the_host_are_told_when_they_are_durable() {
    let (_folder, store) = store(Durability::Commit);
    let hang = store.disk.faults.hangs.lock();
    let timer = Key::new(&Bucket::of_host("timers", "p"), "t").unwrap();
    let mut transaction = begin(&store);
    transaction.set(timer.clone(), value("x"));
    let (told, tells) = mpsc::channel();
    let committed = store.commit(transaction, Box::new(Tell(told)));
    assert!(committed.is_ok());
    let written = || store.signals.written.keys.lock().clone();
    assert!(written().is_empty());
    drop(hang);
    until(|| {
        store.follow_here();
        tells.try_recv().is_ok()
    });
    assert_eq!(written(), [timer]);
}

#[test]
fn a_file_of_a_newer_host_is_said_and_left_as_it_is() {
    const ABOUT: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("about");
    const LATER: redb::TableDefinition<u64, &str> = redb::TableDefinition::new("values");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let newer = redb::Database::create(&path).unwrap();
    let write = newer.begin_write().unwrap();
    write
        .open_table(ABOUT)
        .unwrap()
        .insert("format", 2)
        .unwrap();
    write.open_table(LATER).unwrap().insert(1, "one").unwrap();
    write.commit().unwrap();
    drop(newer);
    let config = config::Store {
        path: path.clone(),
        ..config::Store::default()
    };
    let Err(error) = Local::start(config, Signals::default()) else {
        panic!("it is opened");
    };
    let error = error.to_string();
    assert!(
        error.ends_with(
            "is of format 2, and this host knows formats up to 1: it was written by a newer version"
        ),
        "{error}"
    );
    let newer = redb::Database::open(&path).unwrap();
    let read = newer.begin_read().unwrap().open_table(LATER).unwrap();
    assert_eq!(read.get(1).unwrap().unwrap().value(), "one");
}

#[test]
fn a_damaged_file_is_said_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let config = config::Store {
        path: path.clone(),
        ..config::Store::default()
    };
    let whole = open(config.clone());
    for number in 0..200 {
        let mut transaction = begin(&whole.clone());
        let expires = Some(now() + 3_600_000);
        let value = Value {
            expires,
            ..value(&"x".repeat(500))
        };
        transaction.set(key(&format!("k{number}")), value);
        commit(&whole, transaction).unwrap();
    }
    whole.close();
    drop(whole);
    let content = std::fs::read(&path).unwrap();
    let cut = (0..20).map(|part| content[..content.len() * part / 20].to_vec());
    let filled = (0..40).map(|part| {
        let mut filled = content.clone();
        let at = content.len() * part / 40;
        filled[at..at + 64].fill(0xa5);
        filled
    });
    let look = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        let store = match Local::start(config.clone(), Signals::default()) {
            Ok(store) => store,
            Err(OpenError::Damaged { .. } | OpenError::Unreadable { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        for number in 0..200 {
            let _ = at_once(begin(&store).get(&key(&format!("k{number}"))));
        }
        let bucket = Bucket::of_plugin("test");
        let _ = at_once(begin(&store).scan(&bucket, "", None, keys(1000)));
        store.close();
    };
    cut.chain(filled).for_each(|content| look(&content));
}

#[test]
fn a_bucket_takes_so_much_and_what_shrinks_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Store {
        path: folder.path().join("store.redb"),
        bucket_keys: 2,
        bucket_bytes: Size::new(20),
        ..config::Store::default()
    };
    let store = open(config);
    let try_to_set = |name: &str, text: &str| {
        let mut transaction = begin(&store);
        transaction.set(key(name), value(text));
        commit(&store, transaction)
    };
    let is_over = |result: Result<(), CommitError>, expected: &str| matches!(result, Err(CommitError::OverQuota { budget, .. }) if budget == expected);
    try_to_set("a", "123456789").unwrap();
    try_to_set("b", "123456789").unwrap();
    assert!(is_over(try_to_set("b", "1234567890"), "bucket_bytes"));
    try_to_set("b", "1").unwrap();
    assert!(is_over(try_to_set("c", "1"), "bucket_keys"));
    try_to_set("a", "12345").unwrap();
}

#[test]
fn all_shared_buckets_together_take_so_much_however_many_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Store {
        path: folder.path().join("store.redb"),
        shared_bytes: Size::new(3000),
        ..config::Store::default()
    };
    let key = |number: u32| {
        let bucket = Bucket::shared(&format!("room-{number}"));
        Key::new(&bucket, "k").unwrap()
    };
    let with = |store: &Arc<Local>, write: &dyn Fn(&mut Transaction)| {
        let mut transaction = begin(store);
        write(&mut transaction);
        commit(store, transaction)
    };
    let full = |result: Result<(), CommitError>| {
        let error = result.unwrap_err().to_string();
        let expected = "the budget shared_bytes = 3kB of all shared buckets together is used up";
        assert_eq!(error, expected);
    };
    let store = open(config.clone());
    let fill = |store: &Arc<Local>, from| {
        let set = |number| with(store, &|it| it.set(key(number), value("1")));
        (from..1000).find_map(|number| set(number).err().map(|error| (number, error)))
    };
    let (first, error) = fill(&store, 0).unwrap();
    full(Err(error));
    assert!((20..30).contains(&first), "{first}");
    // Others have room, and so has whoever makes some.
    set(&store, "own", "1");
    full(with(&store, &|it| it.set(key(0), value(&"x".repeat(200)))));
    with(&store, &|it| it.delete(key(0))).unwrap();
    with(&store, &|it| it.set(key(0), value("1"))).unwrap();
    store.close();
    drop(store);
    let store = open(config);
    full(with(&store, &|it| it.set(key(first), value("1"))));
    for number in 0..first {
        with(&store, &|it| it.delete(key(number))).unwrap();
    }
    assert_eq!(fill(&store, 0).map(|(last, _)| last), Some(first));
}

/// Ten keys with values of 100 bytes that are on the disk, and not in memory.
fn large_values() -> (TempDir, Arc<Local>) {
    let (folder, store) = store(Durability::Commit);
    for number in 0..10 {
        set(&store, &format!("k{number}"), &"x".repeat(100));
    }
    until(|| store.state.lock().recent.len() == 0);
    (folder, store)
}

#[test]
fn no_more_is_read_of_a_range_than_there_may_be_bytes_of() {
    let (_folder, store) = large_values();
    let bucket = Bucket::of_plugin("test");
    let scan = |transaction: &mut Transaction, bytes| {
        let before = store.disk.faults.rows_read.load(SeqCst);
        let page = at_once(transaction.scan(&bucket, "k", None, Most { keys: 10, bytes }));
        let Page { entries, is_cut } = page.unwrap();
        let names: Vec<_> = entries.into_iter().map(|entry| entry.key).collect();
        let rows = store.disk.faults.rows_read.load(SeqCst) - before;
        (names.join(" "), is_cut, rows)
    };
    let new = || begin(&store);
    assert_eq!(scan(&mut new(), 306), ("k0 k1 k2".to_owned(), true, 4));
    assert_eq!(
        scan(&mut new(), 10),
        ("k0".to_owned(), true, 1),
        "one comes in any case"
    );
    let (names, is_cut, rows) = scan(&mut new(), 10_000);
    assert_eq!((names.len(), is_cut, rows), (29, false, 10));

    // What it writes itself, or is gone, counts for nothing that is read.
    let mut writes = new();
    writes.delete(key("k0"));
    writes.set(key("k1"), value("small"));
    writes.set(key("k9z"), value("behind"));
    assert_eq!(scan(&mut writes, 204), ("k1 k2 k3".to_owned(), true, 5));
    assert_eq!(scan(&mut writes, 1), ("k1".to_owned(), true, 3));

    // What was not read is not held against it.
    set(&store, "k8", "new");
    assert!(matches!(commit(&store, writes), Ok(())));
    let mut reads = new();
    scan(&mut reads, 306);
    reads.set(key("other"), value("1"));
    set(&store, "k2", "new");
    assert!(matches!(commit(&store, reads), Err(CommitError::Conflict)));
}

#[test]
fn values_that_nobody_wants_are_not_kept_in_memory() {
    let (_folder, store) = large_values();
    let mut transaction = begin(&store);
    for number in 0..10 {
        let key = key(&format!("k{number}"));
        assert!(at_once(transaction.get(&key)).unwrap().is_some());
        transaction.let_go(&key);
        transaction.delete(key);
    }
    transaction.look_up(&store).unwrap();
    assert_eq!(transaction.held_bytes(), 0);
    commit(&store, transaction).unwrap();
    assert_eq!(usage(&store).keys, 0);
    assert_eq!(usage(&store).bytes, 0);

    // Whoever wants one after all has what was there, and the commit is held against the first look.
    for is_changed in [false, true] {
        set(&store, "n", "1");
        let mut transaction = begin(&store);
        at_once(transaction.get(&key("n"))).unwrap();
        transaction.let_go(&key("n"));
        if is_changed {
            set(&store, "n", "2");
        }
        assert!(at_once(transaction.get(&key("n"))).unwrap().is_some());
        transaction.let_go(&key("n"));
        transaction.add(key("n"), 5).unwrap();
        let committed = commit(&store, transaction);
        assert_eq!(matches!(committed, Err(CommitError::Conflict)), is_changed);
    }
    assert_eq!(get(&store, "n").as_deref(), Some("2"));
}

/// One step of a transaction.
#[derive(Debug, Clone)]
enum Step {
    Get(u8),
    Set(u8, u8),
    Delete(u8),
    Add(u8, i64),
    Scan(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..6_u8;
    let step = prop_oneof![
        key.clone().prop_map(Step::Get),
        (key.clone(), 0..100_u8).prop_map(|(key, value)| Step::Set(key, value)),
        key.clone().prop_map(Step::Delete),
        (key, -5..5_i64).prop_map(|(key, delta)| Step::Add(key, delta)),
        (1..4_usize).prop_map(Step::Scan),
    ];
    prop::collection::vec(step, 1..6)
}

/// Takes a step on a transaction; what it said.
fn take(transaction: &mut Transaction, step: &Step) -> Vec<String> {
    let name = |number: &u8| key(&format!("k{number}"));
    let text = |value: Value| String::from_utf8(value.bytes.to_vec()).unwrap();
    match step {
        Step::Get(key) => at_once(transaction.get(&name(key)))
            .unwrap()
            .map(text)
            .into_iter()
            .collect(),
        Step::Set(key, number) => {
            transaction.set(name(key), value(&number.to_string()));
            Vec::new()
        }
        Step::Delete(key) => {
            transaction.delete(name(key));
            Vec::new()
        }
        Step::Add(key, delta) => {
            transaction.add(name(key), *delta).unwrap();
            Vec::new()
        }
        Step::Scan(limit) => {
            let bucket = Bucket::of_plugin("test");
            let found = at_once(transaction.scan(&bucket, "k", None, keys(*limit))).unwrap();
            let entries = found.entries.into_iter();
            entries
                .map(|entry| entry.key + "=" + &text(entry.value))
                .collect()
        }
    }
}

/// What the step says and does in a map.
fn model(map: &mut BTreeMap<String, i64>, step: &Step) -> Vec<String> {
    let name = |number: &u8| format!("k{number}");
    match step {
        Step::Get(key) => map
            .get(&name(key))
            .map(i64::to_string)
            .into_iter()
            .collect(),
        Step::Set(key, number) => {
            map.insert(name(key), i64::from(*number));
            Vec::new()
        }
        Step::Delete(key) => {
            map.remove(&name(key));
            Vec::new()
        }
        Step::Add(key, delta) => {
            *map.entry(name(key)).or_default() += delta;
            Vec::new()
        }
        Step::Scan(limit) => {
            let entries = map.iter().take(*limit);
            entries
                .map(|(key, number)| format!("{key}={number}"))
                .collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Transactions that overlap in any way: those that commit are as if each had run alone, in the order
    /// of their commits; and all is there when the store is opened again.
    #[test]
    fn transactions_are_as_if_each_had_run_alone(
        rounds in prop::collection::vec(prop::collection::vec(steps(), 1..4), 1..12)
    ) {
        let (folder, store) = store(Durability::Interval(Duration::from_millis(1)));
        let mut map = BTreeMap::new();
        for round in rounds {
            // All of a round begin before the first of them is committed.
            let run = |steps: Vec<Step>| {
                let mut transaction = begin(&store);
                let said: Vec<_> = steps.iter().map(|step| take(&mut transaction, step)).collect();
                (steps, said, transaction)
            };
            let begun: Vec<_> = round.into_iter().map(run).collect();
            for (steps, said, transaction) in begun {
                match commit(&store, transaction) {
                    Ok(()) => {
                        let expected: Vec<_> = steps.iter().map(|step| model(&mut map, step)).collect();
                        prop_assert_eq!(said, expected);
                    }
                    Err(CommitError::Conflict) => {}
                    Err(error) => prop_assert!(false, "{error}"),
                }
                let bytes = |(key, number): (&String, &i64)| key.len() + number.to_string().len();
                let used = usage(&store);
                prop_assert_eq!(used.keys, map.len() as u64);
                prop_assert_eq!(used.bytes, map.iter().map(bytes).sum::<usize>() as u64);
            }
        }
        store.close();
        drop(store);
        let config = config::Store { path: folder.path().join("store.redb"), ..config::Store::default() };
        let store = open(config);
        let mut transaction = begin(&store);
        prop_assert_eq!(take(&mut transaction, &Step::Scan(10)), model(&mut map, &Step::Scan(10)));
        drop(transaction);
        store.close();
    }
}

#[tokio::test]
async fn what_follows_one_commit_is_performed_on_the_servers_runtime_without_the_settler() {
    let (_folder, store) = store(Durability::Commit);
    store.signals.runtime.get_or_init(Handle::current);
    /// Says whether it is performed where tasks can be made.
    struct OnRuntime(oneshot::Sender<bool>);
    impl Follow for OnRuntime {
        fn follow(self: Box<Self>, _: Result<(), Unstored>) {
            let _ = self.0.send(Handle::try_current().is_ok());
        }

        fn overdue(&mut self) -> super::Tell {
            Box::new(|| {})
        }
    }
    let (told, tells) = oneshot::channel();
    let mut transaction = begin(&store);
    transaction.set(key("a"), value("1"));
    let committed = store.commit(transaction, Box::new(OnRuntime(told)));
    assert!(committed.is_ok());
    assert_eq!(tells.await, Ok(true));
}

#[test]
fn usage_is_written_when_it_changes() {
    let (_folder, store) = store(Durability::Commit);
    let bucket = Bucket::of_plugin("test");
    for (text, is_written) in [("1", true), ("2", false), ("10", true), ("11", false)] {
        let mut transaction = begin(&store);
        transaction.set(key("a"), value(text));
        transaction.look_up(&store).unwrap();
        let batch = {
            let mut state = store.state.lock();
            state.recent.apply(&transaction, store.config()).unwrap();
            state.recent.pending()
        };
        let usage = batch.usage.iter().any(|(of, _)| *of == bucket);
        assert_eq!(usage, is_written, "{text}");
        // As the writer does it, who sleeps: nobody has woken it.
        store.disk.write(&batch).unwrap();
        let mut state = store.state.lock();
        let seq = state.recent.seq();
        state.recent.written(seq);
        drop(state);
        drop(transaction);
    }
    assert_eq!(usage(&store).bytes, 3);
}

#[test]
fn a_store_that_was_closed_can_be_opened_while_somebody_has_it_still() {
    let (_folder, store) = store(Durability::Commit);
    set(&store, "a", "1");
    store.close();
    let again = open(store.config().clone());
    assert_eq!(get(&again, "a").as_deref(), Some("1"));
}

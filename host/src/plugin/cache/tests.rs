use std::{fs, time::Duration};

use super::*;
use crate::plugin::content::Content;

/// A component with nothing in it.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

struct Home {
    folder: tempfile::TempDir,
    engine: Engine,
}

impl Home {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            engine: Engine::default(),
        }
    }

    fn open(&self) -> Cache {
        Cache::open(self.folder.path(), &self.engine).unwrap()
    }

    fn store(&self, cache: &Cache, content: &Content) {
        let component = Component::from_binary(&self.engine, content.bytes()).unwrap();
        cache.store(content.hash(), &component, Duration::from_millis(1234));
    }

    fn entries(&self) -> usize {
        let files = fs::read_dir(self.folder.path().join(FOLDER)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(EXTENSION)).count()
    }

    /// Somebody's entry that was last used an hour ago.
    fn old_entry(&self, name: &str, len: u64) {
        let path = self
            .folder
            .path()
            .join(FOLDER)
            .join(format!("{name}{EXTENSION}"));
        let file = File::create(path).unwrap();
        file.set_len(len).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        file.set_times(FileTimes::new().set_modified(hour_ago))
            .unwrap();
    }
}

#[test]
fn an_entry_comes_back_with_the_time_it_took() {
    let home = Home::new();
    let content = Content::new(EMPTY.to_vec());
    assert!(home.open().load(&home.engine, content.hash()).is_none());
    home.store(&home.open(), &content);
    let cached = home.open().load(&home.engine, content.hash()).unwrap();
    assert_eq!(cached.took, Duration::from_millis(1234));
}

#[test]
fn other_compilers_have_other_entries() {
    let home = Home::new();
    let content = Content::new(EMPTY.to_vec());
    home.store(&home.open(), &content);
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    let other = Engine::new(&config).unwrap();
    let cache = Cache::open(home.folder.path(), &other).unwrap();
    assert!(cache.load(&other, content.hash()).is_none());
    assert_eq!(home.entries(), 1, "and leave those of others alone");
}

#[test]
fn the_entries_that_were_not_used_for_longest_make_room() {
    for (count, len) in [(MAX_ENTRIES + 20, 1), (4, MAX_BYTES / 2)] {
        let home = Home::new();
        let cache = home.open();
        (0..count).for_each(|index| home.old_entry(&format!("{index:04}"), len));
        let content = Content::new(EMPTY.to_vec());
        home.store(&cache, &content);
        let bound = MAX_ENTRIES.min((MAX_BYTES / len) as usize);
        assert!(home.entries() <= bound, "{} entries", home.entries());
        assert!(cache.load(&home.engine, content.hash()).is_some());
    }
}

#[test]
fn what_another_process_is_writing_is_left_alone() {
    let home = Home::new();
    let cache = home.open();
    let unfinished = home.folder.path().join(FOLDER).join("a.code.1.new");
    fs::write(&unfinished, "half").unwrap();
    home.store(&cache, &Content::new(EMPTY.to_vec()));
    assert!(unfinished.exists());
    let long_ago = SystemTime::now() - 2 * ABANDONED;
    let file = File::options().write(true).open(&unfinished).unwrap();
    file.set_times(FileTimes::new().set_modified(long_ago))
        .unwrap();
    home.store(&cache, &Content::new(EMPTY.to_vec()));
    assert!(!unfinished.exists());
}

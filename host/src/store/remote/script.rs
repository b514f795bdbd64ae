//! The scripts that read ranges and commit, and what they are given.

use std::collections::HashMap;

use redis::{Cmd, RedisResult, Script, aio::MultiplexedConnection};

use super::{
    Line,
    names::{Names, bounds},
};
use crate::{
    config, id,
    store::{
        Key,
        transaction::{Transaction, Write},
    },
};

/// Whether a commit happened is kept for so long beyond the time in which it may be sent again, in
/// milliseconds.
const REMEMBERED: u64 = 60_000;

/// The scripts, which have their hashes.
pub(super) struct Scripts {
    pub(super) scan: Script,
    commit: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            scan: Script::new(concat!(include_str!("rows.lua"), include_str!("scan.lua"))),
            commit: Script::new(concat!(
                include_str!("rows.lua"),
                include_str!("commit.lua")
            )),
        }
    }

    pub(super) async fn load(&self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        self.scan.load_async(redis).await?;
        self.commit.load_async(redis).await?;
        Ok(())
    }

    /// What commits a transaction.
    pub(super) fn commit(
        &self,
        transaction: &Transaction,
        names: &Names,
        line: &Line,
        config: &config::Store,
    ) -> Cmd {
        let mut request = Request::new(names);
        for (key, number) in transaction.expected() {
            let bucket = request.bucket(key);
            let expected = request.expected.word(bucket);
            expected.word(key.name()).word(number).next();
        }
        for (key, at) in transaction.reads() {
            let bucket = request.bucket(key);
            request.reads.word(bucket).word(key.name()).word(at).next();
        }
        for range in transaction.ranges() {
            let bucket = request.bucket(&range.prefix);
            let (from, to) = bounds(range);
            let Some(stood) = &range.stood else { continue };
            request.ranges.word(bucket).bytes(from).bytes(to);
            request.ranges.word(stood.count).word(&stood.hash).next();
        }
        for (key, write) in transaction.writes() {
            let bucket = request.bucket(key);
            let writes = request.writes.word(bucket).word(key.name());
            match write {
                Write::Set(value) => {
                    let expires = value.expires.map_or(0, |expires| line.there(expires));
                    writes.word("set").bytes(value.bytes.to_vec()).word(expires)
                }
                Write::Delete => writes.word("delete").word("").word(0),
                Write::Add(delta) => writes.word("add").word(delta).word(0),
            }
            .next();
        }
        request.into_command(&self.commit, config)
    }

    /// What deletes keys if their time is over.
    pub(super) fn expire(&self, keys: &[Key], names: &Names, config: &config::Store) -> Cmd {
        let mut request = Request::new(names);
        for key in keys {
            let bucket = request.bucket(key);
            let writes = request.writes.word(bucket).word(key.name());
            writes.word("expire").word("").word(0).next();
        }
        request.into_command(&self.commit, config)
    }
}

/// What a commit's script is given.
struct Request<'a> {
    names: &'a Names,
    /// Buckets, by the places that the script knows them by.
    buckets: Vec<String>,
    places: HashMap<String, usize>,
    expected: Words,
    reads: Words,
    ranges: Words,
    writes: Words,
}

/// Words in groups.
#[derive(Default)]
struct Words {
    words: Vec<Vec<u8>>,
    groups: usize,
}

impl Words {
    fn word(&mut self, word: impl ToString) -> &mut Self {
        self.bytes(word.to_string().into_bytes())
    }

    fn bytes(&mut self, word: Vec<u8>) -> &mut Self {
        self.words.push(word);
        self
    }

    fn next(&mut self) {
        self.groups += 1;
    }
}

impl<'a> Request<'a> {
    fn new(names: &'a Names) -> Self {
        Self {
            names,
            buckets: Vec::new(),
            places: HashMap::new(),
            expected: Words::default(),
            reads: Words::default(),
            ranges: Words::default(),
            writes: Words::default(),
        }
    }

    /// Where the script finds the bucket of a key.
    fn bucket(&mut self, key: &Key) -> usize {
        let name = key.bucket_name();
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.buckets.push(name.to_owned());
        self.places.insert(name.to_owned(), self.buckets.len());
        self.buckets.len()
    }

    fn into_command(self, script: &Script, config: &config::Store) -> Cmd {
        let Self { names, buckets, .. } = self;
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(6 + 2 * buckets.len());
        command.arg(names.last()).arg(names.commit(&id::random()));
        command.arg(names.sum()).arg(names.bytes());
        command.arg(names.expiries()).arg(names.news());
        for bucket in &buckets {
            command.arg(names.values(bucket)).arg(names.keys(bucket));
        }
        let wait = u64::try_from(config.commit_timeout.as_millis()).unwrap_or(u64::MAX);
        command.arg(wait.saturating_add(REMEMBERED));
        command.arg(config.bucket_keys);
        command.arg(config.bucket_bytes.bytes());
        command.arg(config.shared_bytes.bytes());
        command.arg(buckets.len()).arg(buckets);
        for words in [self.expected, self.reads, self.ranges, self.writes] {
            command.arg(words.groups);
            for word in words.words {
                command.arg(word);
            }
        }
        command
    }
}

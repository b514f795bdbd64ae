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

/// What came of a commit. If that is nothing yet, it is refused when it comes: a connection that is lost may still bring
/// it in.
const SETTLE: &str = r"
local came = redis.call('GET', KEYS[1])
if came then return {came} end
redis.call('SET', KEYS[1], 'conflict', 'PX', ARGV[1])
return {'conflict'}";

/// The scripts, which have their hashes.
pub(super) struct Scripts {
    pub(super) scan: Script,
    commit: Script,
    settle: Script,
}

/// Has Redis commit a transaction.
pub(super) struct Request {
    pub command: Cmd,
    /// The key of what came of it.
    name: String,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            scan: Script::new(concat!(include_str!("rows.lua"), include_str!("scan.lua"))),
            commit: Script::new(concat!(
                include_str!("rows.lua"),
                include_str!("commit.lua")
            )),
            settle: Script::new(SETTLE),
        }
    }

    pub(super) async fn load(&self, redis: &mut MultiplexedConnection) -> RedisResult<()> {
        self.scan.load_async(redis).await?;
        self.commit.load_async(redis).await?;
        self.settle.load_async(redis).await?;
        Ok(())
    }

    /// What asks what came of a commit. One that has not happened by then never does.
    pub(super) fn settle(&self, request: &Request, config: &config::Store) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.settle.get_hash()).arg(1);
        command.arg(&request.name).arg(remembered(config));
        command
    }

    /// What commits a transaction.
    pub(super) fn commit(
        &self,
        transaction: &Transaction,
        names: &Names,
        line: &Line,
        config: &config::Store,
    ) -> Request {
        let mut arguments = Arguments::new(names);
        for (key, number) in transaction.expected() {
            let bucket = arguments.bucket(key);
            let expected = arguments.expected.word(bucket);
            expected.word(key.name()).word(number).next();
        }
        for (key, at) in transaction.reads() {
            let bucket = arguments.bucket(key);
            arguments
                .reads
                .word(bucket)
                .word(key.name())
                .word(at)
                .next();
        }
        for range in transaction.ranges() {
            let bucket = arguments.bucket(&range.prefix);
            let (from, to) = bounds(range);
            let Some(stood) = &range.stood else { continue };
            arguments.ranges.word(bucket).bytes(from).bytes(to);
            arguments.ranges.word(stood.count).word(&stood.hash).next();
        }
        for (key, write) in transaction.writes() {
            let bucket = arguments.bucket(key);
            let writes = arguments.writes.word(bucket).word(key.name());
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
        arguments.into_request(&self.commit, config)
    }

    /// What deletes keys if their time is over.
    pub(super) fn expire(&self, keys: &[Key], names: &Names, config: &config::Store) -> Cmd {
        let mut arguments = Arguments::new(names);
        for key in keys {
            let bucket = arguments.bucket(key);
            let writes = arguments.writes.word(bucket).word(key.name());
            writes.word("expire").word("").word(0).next();
        }
        arguments.into_request(&self.commit, config).command
    }
}

/// What a commit's script is given.
struct Arguments<'a> {
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

impl<'a> Arguments<'a> {
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

    fn into_request(self, script: &Script, config: &config::Store) -> Request {
        let Self { names, buckets, .. } = self;
        let name = names.commit(&id::random());
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(6 + 2 * buckets.len());
        command.arg(names.last()).arg(&name);
        command.arg(names.sum()).arg(names.bytes());
        command.arg(names.expiries()).arg(names.news());
        for bucket in &buckets {
            command.arg(names.values(bucket)).arg(names.keys(bucket));
        }
        command.arg(remembered(config));
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
        Request { command, name }
    }
}

/// For how long what came of a commit is kept, in milliseconds.
fn remembered(config: &config::Store) -> u64 {
    let wait = u64::try_from(config.commit_timeout.as_millis()).unwrap_or(u64::MAX);
    wait.saturating_add(REMEMBERED)
}

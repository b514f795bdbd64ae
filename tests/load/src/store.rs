//! What it costs to remember: events that read and write by how durable that is, many keys, and a start
//! with much data.

use std::{
    iter,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use redb::{Database, TableDefinition};
use tokio::{sync::oneshot, task::spawn_blocking, time::sleep};

use crate::{
    client::Client,
    configuration::Configuration,
    drive::Drive,
    options::{Peer, PluginOptions, ServerOptions},
    procfs,
    programs::{Programs, printed},
    report::Format,
    rows::Rows,
    running::Running,
    scenario::Exchange,
};

/// How many clients send at once, each its next event when the last is answered.
const CONNECTIONS: [usize; 3] = [1, 10, 100];

/// What is measured: what `[store] durability` says, or none for a plugin that does not remember.
const VARIANTS: [(&str, Option<&str>); 4] = [
    ("without the store", None),
    ("in memory", Some("memory")),
    ("every 100 ms", Some("interval:100ms")),
    ("at each commit", Some("commit")),
];

const WARM_UP: Duration = Duration::from_millis(500);
const TIME: Duration = Duration::from_secs(2);

/// How long the server may come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// What the server with much data holds: so many keys with values of so many bytes.
const KEYS: usize = 1_000_000;
const VALUE_BYTES: usize = 1000;

/// How many keys one event writes.
const KEYS_AT_ONCE: usize = 500;

/// The bare engine's table.
const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("values");

/// Measure what it costs to remember.
#[derive(Args, Debug, Clone)]
pub struct Store {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Without the keys by the million.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    plugins: PluginOptions,
}

impl Store {
    /// Runs it; returns what is to be printed, and how much went wrong.
    pub fn run(
        &self,
        options: &ServerOptions,
        drive: &Drive,
        format: Format,
    ) -> Result<(String, u64)> {
        self.programs.build(&[Peer::Mixlab])?;
        let server = self.programs.server(Peer::Mixlab, options)?;
        let (mut rows, mut faults) = (Rows::default(), 0);
        drive.run(async {
            for round in 1..=self.rounds {
                eprintln!("round {round} of {}", self.rounds);
                for connections in CONNECTIONS {
                    for variant in VARIANTS {
                        faults += self
                            .events(variant, connections, &server, &mut rows)
                            .await?;
                    }
                    bare(connections, &mut rows).await?;
                }
                if !self.quick {
                    self.many_keys(&server, &mut rows).await?;
                }
            }
            Ok(())
        })?;
        for connections in CONNECTIONS {
            let ours = rows.values(&row("at each commit", connections)).to_vec();
            let bare = rows.values(&row("bare engine", connections)).to_vec();
            for (ours, bare) in ours.iter().zip(bare) {
                let what =
                    format!("**at each commit, of the bare engine, connections: {connections}**");
                rows.add(&what, "of 1", ours / bare);
            }
        }
        let machine = self.programs.machine()?;
        let command = format!("store --rounds {}", self.rounds);
        let table = rows.markdown("Store", &command, &machine);
        self.programs.write(&[("store.md", &table)])?;
        let values = rows.json("store", &machine);
        Ok((printed(format, table, &values), faults))
    }

    /// Events that read a key of their client's and write it.
    async fn events(
        &self,
        (name, durability): (&str, Option<&str>),
        connections: usize,
        server: &ServerOptions,
        rows: &mut Rows,
    ) -> Result<u64> {
        let mut configuration = Configuration::new()?;
        match durability {
            None => {
                let keys = "config.event = \"custom_event\"";
                let file = self.plugins.named("named")?;
                configuration.plugin("plugin", &file, &["emit:custom_response"], keys);
            }
            Some(durability) => self.remember(&mut configuration, durability)?,
        }
        let running = Running::from_options(&configuration.options(server)?).await?;
        let exchange = Exchange {
            sockets: connections,
            in_flight: 1,
            rate: None,
            bytes: 64,
            warm_up: WARM_UP,
            time: TIME,
        };
        let report = exchange.run(&running.target, false).await;
        let report = running.stop_after(report).await?;
        for (figure, what, unit) in [
            ("per_second", row(name, connections), "a second"),
            (
                "cpu_us_per_message",
                format!("{name}, CPU, connections: {connections}"),
                "µs",
            ),
            (
                "p99_us",
                format!("{name}, p99, connections: {connections}"),
                "µs",
            ),
        ] {
            let value = report
                .number(figure)
                .context("a figure is missing in the report")?;
            rows.add(&what, unit, value);
        }
        Ok(report.faults())
    }

    /// Fills the store, and starts again with what it holds.
    async fn many_keys(&self, server: &ServerOptions, rows: &mut Rows) -> Result<()> {
        let mut configuration = Configuration::new()?;
        // Each event waits for the disk: what is written faster than that is refused at some point.
        self.remember(&mut configuration, "commit")?;
        let server = configuration.options(server)?;
        let running = Running::from_options(&server).await?;
        let memory = |running: &Running| {
            let memory = procfs::memory(running.target.pid)?;
            anyhow::Ok(memory.resident_kib as f64 / 1024.0)
        };
        let mut client = Client::connect(&running.target, None).await?;
        client.say("[\"custom_event\",1]").await?;
        let before = memory(&running)?;
        for from in (0..KEYS).step_by(KEYS_AT_ONCE) {
            let fill = format!("[\"fill\",{from},{KEYS_AT_ONCE},{VALUE_BYTES}]");
            let answer = client.ask(&fill).await?;
            ensure!(!answer.contains("error"), "it was answered with {answer}");
        }
        sleep(REST).await;
        let what = format!("memory for {KEYS} keys of {VALUE_BYTES} bytes, just written");
        rows.add(&what, "MiB", memory(&running)? - before);
        running.stop().await?;

        let began = Instant::now();
        let running = Running::from_options(&server).await?;
        let mut client = Client::connect(&running.target, None).await?;
        client.say("[\"custom_event\",1]").await?;
        let what = format!("start to first answer with {KEYS} keys of {VALUE_BYTES} bytes");
        rows.add(&what, "ms", began.elapsed().as_secs_f64() * 1e3);
        let what = format!("memory for {KEYS} keys of {VALUE_BYTES} bytes, after a start");
        rows.add(&what, "MiB", memory(&running)? - before);
        running.stop().await
    }

    fn remember(&self, configuration: &mut Configuration, durability: &str) -> Result<()> {
        // A folder of its own: in that of the configuration, where changes are watched for, the server would
        // hear of each write.
        let path = configuration.path("data/store.redb");
        configuration.add(&format!(
            "[store]\npath = {path:?}\ndurability = \"{durability}\"\n\
             bucket_keys = 10000000\nbucket_bytes = \"8GiB\""
        ));
        let file = self.plugins.named("stores")?;
        let grants = ["emit:custom_response", "store"];
        configuration.plugin("plugin", &file, &grants, "");
        Ok(())
    }
}

/// The engine without a server, in two ways.
async fn bare(connections: usize, rows: &mut Rows) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("waited.redb");
    let per_second = waited(&path, connections).await?;
    rows.add(&row("bare engine", connections), "a second", per_second);
    let path = folder.path().join("unwaited.redb");
    let per_second = spawn_blocking(move || unwaited(&path, connections)).await??;
    let what = row("bare engine for which nobody waits", connections);
    rows.add(&what, "a second", per_second);
    Ok(())
}

/// A write of one key, and who waits until it is durable.
struct Put {
    key: String,
    value: String,
    durable: oneshot::Sender<()>,
}

/// So many writers, each of which has one write under way, and a thread that commits what came meanwhile.
async fn waited(path: &Path, writers: usize) -> Result<f64> {
    let database = Database::create(path)?;
    let (puts, incoming) = mpsc::channel::<Put>();
    let committing = spawn_blocking(move || {
        while let Ok(first) = incoming.recv() {
            let puts: Vec<_> = iter::once(first).chain(incoming.try_iter()).collect();
            let pairs = puts.iter().map(|put| (&*put.key, &*put.value));
            write(&database, pairs)?;
            for put in puts {
                // Who waited may have had its time.
                let _ = put.durable.send(());
            }
        }
        anyhow::Ok(())
    });
    let began = Instant::now();
    let writing = (0..writers).map(|writer| {
        let puts = puts.clone();
        tokio::spawn(async move {
            let mut written = 0_u64;
            while began.elapsed() < TIME {
                let (durable, is_durable) = oneshot::channel();
                let (key, value) = (writer.to_string(), written.to_string());
                puts.send(Put {
                    key,
                    value,
                    durable,
                })?;
                is_durable.await?;
                written += 1;
            }
            anyhow::Ok(written)
        })
    });
    let writing: Vec<_> = writing.collect();
    drop(puts);
    let mut written = 0;
    for writer in writing {
        written += writer.await??;
    }
    let took = began.elapsed();
    committing.await??;
    Ok(written as f64 / took.as_secs_f64())
}

/// So many keys in each transaction, one transaction after the other: what the disk and the engine take.
fn unwaited(path: &Path, keys: usize) -> Result<f64> {
    let database = Database::create(path)?;
    let began = Instant::now();
    let mut commits = 0_u64;
    while began.elapsed() < TIME {
        let value = commits.to_string();
        let names: Vec<_> = (0..keys).map(|key| key.to_string()).collect();
        write(&database, names.iter().map(|name| (&**name, &*value)))?;
        commits += keys as u64;
    }
    Ok(commits as f64 / began.elapsed().as_secs_f64())
}

fn write<'a>(database: &Database, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<()> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in pairs {
            table.insert(key, value.as_bytes())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn row(name: &str, connections: usize) -> String {
    format!("{name}, events, connections: {connections}")
}

//! How long a start and a reload take, and what plugins and their instances need of memory.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    backend::Backend,
    client::Client,
    configuration::Configuration,
    crowd,
    drive::Drive,
    options::{Peer, PluginOptions, ServerOptions},
    procfs,
    programs::{Programs, printed},
    report::Format,
    rows::Rows,
    running::Running,
};

const MIB: usize = 1 << 20;

/// What is added to a file, in MiB.
const PADDING: [usize; 4] = [0, 1, 4, 16];

/// Plugins whose memory is compared with that of the first count.
const PLUGINS: [usize; 3] = [1, 10, 50];

/// Calls that each need an instance at the same time.
const INSTANCES: usize = 50;

/// How long the server may come to rest before its memory is read.
pub const REST: Duration = Duration::from_secs(1);

/// How often the server is asked whether a new version serves, and for how long.
const LOOK: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// Measure starts, reloads and the memory of plugins.
#[derive(Args, Debug, Clone)]
pub struct Start {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    plugins: PluginOptions,
}

impl Start {
    /// Runs it; returns what is to be printed.
    pub fn run(&self, options: &ServerOptions, drive: &Drive, format: Format) -> Result<String> {
        self.programs.build(&[Peer::Mixlab])?;
        let server = self.programs.server(Peer::Mixlab, options)?;
        eprintln!("about {:.0} minutes", (self.rounds as f64 / 2.0).max(1.0));
        let mut rows = Rows::default();
        drive.run(async {
            for round in 1..=self.rounds {
                eprintln!("round {round} of {}", self.rounds);
                self.starts(&server, &mut rows).await?;
                self.reloads(&server, &mut rows).await?;
                self.memory_of_plugins(&server, &mut rows).await?;
                self.memory_of_instances(&server, &mut rows).await?;
            }
            Ok(())
        })?;
        let machine = self.programs.machine()?;
        let table = rows.markdown(
            "Start and reload",
            &format!("start --rounds {}", self.rounds),
            &machine,
        );
        self.programs.write(&[("start.md", &table)])?;
        Ok(printed(format, table, &rows.json("start", &machine)))
    }

    /// From the command to the first answer of a plugin.
    async fn starts(&self, server: &ServerOptions, rows: &mut Rows) -> Result<()> {
        let mut configuration = Configuration::new()?;
        configuration.with_own_cache();
        for (name, grants) in [
            ("custom-event", ["emit:custom_response"].as_slice()),
            ("booking", &["role:admin:new_booking", "notify"]),
        ] {
            configuration.plugin(name, &self.plugins.shipped(name)?, grants, "");
        }
        let server = configuration.options(server)?;
        for what in [
            "start to first answer, shipped plugins compiled",
            "start to first answer, shipped plugins cached",
        ] {
            let began = Instant::now();
            let running = Running::from_options(&server).await?;
            let answered = first_answer(&running).await.map(|()| began.elapsed());
            running.stop().await?;
            rows.add(what, "ms", milliseconds(answered?));
        }
        Ok(())
    }

    /// From the rename of a file to its service.
    async fn reloads(&self, server: &ServerOptions, rows: &mut Rows) -> Result<()> {
        let mut configuration = Configuration::new()?;
        configuration.with_own_cache();
        configuration.add("[reload]\ndebounce = \"1ms\"");
        let files = [
            ("custom-event", self.plugins.shipped("custom-event")?),
            ("stamped", self.plugins.stamped()?),
            ("capabilities", self.plugins.named("capabilities")?),
        ];
        let grants = [
            "payments",
            "notify",
            "role:*",
            "clients",
            "room:*",
            "emit",
            "ask",
            "handshake",
            "find",
            "disconnect",
        ];
        for (name, file) in &files {
            let place = configuration.path(&format!("{name}.wasm"));
            fs::copy(file, &place)?;
            configuration.plugin(name, &place, &grants, "");
        }
        let running = Running::from_options(&configuration.options(server)?).await?;
        let mut backend = Backend::connect(&running.target).await?;
        let staging = configuration.path("staged");
        for (name, file) in &files {
            let component = fs::read(file)?;
            let place = configuration.path(&format!("{name}.wasm"));
            let paddings = if *name == "stamped" {
                &PADDING[..]
            } else {
                &PADDING[..1]
            };
            for mib in paddings {
                let bytes = padded(&component, mib * MIB);
                let size = bytes.len() / 1024;
                let took = put(&bytes, &staging, &place, name, &mut backend).await?;
                let what = format!("reload of {name}, {size} KiB, compiled");
                rows.add(&what, "ms", milliseconds(took));
                put(&component, &staging, &place, name, &mut backend).await?;
                let took = put(&bytes, &staging, &place, name, &mut backend).await?;
                let what = format!("reload of {name}, {size} KiB, cached");
                rows.add(&what, "ms", milliseconds(took));
            }
        }
        running.stop().await
    }

    /// What more plugins add, each of a file of its own.
    async fn memory_of_plugins(&self, server: &ServerOptions, rows: &mut Rows) -> Result<()> {
        let component = fs::read(self.plugins.named("named")?)?;
        let mut first = None;
        for count in PLUGINS {
            let mut configuration = Configuration::new()?;
            // Compiled in a process of its own: what a compiler leaves behind is not a plugin's.
            configuration.with_own_cache();
            for plugin in 0..count {
                let (name, place) = (
                    format!("named-{plugin}"),
                    configuration.path(&format!("{plugin}.wasm")),
                );
                fs::write(&place, padded(&component, 0))?;
                let keys = format!("config.event = \"named:{plugin}\"");
                configuration.plugin(&name, &place, &["emit:custom_response"], &keys);
            }
            let server = configuration.options(server)?;
            Running::from_options(&server).await?.stop().await?;
            let running = Running::from_options(&server).await?;
            sleep(REST).await;
            let kib = procfs::memory(running.target.pid)?.resident_kib as f64;
            running.stop().await?;
            rows.add(&format!("memory, plugins: {count}"), "KiB", kib);
            match first {
                None => first = Some(kib),
                Some(first) => rows.add(
                    &format!("memory per plugin, plugins: {count}"),
                    "KiB",
                    (kib - first) / (count - PLUGINS[0]) as f64,
                ),
            }
        }
        Ok(())
    }

    /// What instances add that serve at the same time.
    async fn memory_of_instances(&self, server: &ServerOptions, rows: &mut Rows) -> Result<()> {
        let mut configuration = Configuration::new()?;
        let keys = format!("budget.instances = {INSTANCES}");
        configuration.plugin("stamped", &self.plugins.stamped()?, &[], &keys);
        let running = Running::from_options(&configuration.options(server)?).await?;
        let mut clients = crowd::connect(&running.target, 0, INSTANCES).await?;
        for client in &mut clients {
            client.ask("[\"stamped\",1]").await?;
        }
        sleep(REST).await;
        let before = procfs::memory(running.target.pid)?.resident_kib;
        let mut tasks = JoinSet::new();
        for mut client in clients {
            tasks.spawn(async move { client.ask("[\"stamped:slow\",1000]").await });
        }
        while let Some(answer) = tasks.join_next().await {
            let answer = answer??;
            ensure!(!answer.contains("error"), "it was answered with {answer}");
        }
        let after = procfs::memory(running.target.pid)?.resident_kib;
        running.stop().await?;
        let each = after.saturating_sub(before) as f64 / (INSTANCES - 1) as f64;
        rows.add("memory per instance", "KiB", each);
        Ok(())
    }
}

async fn first_answer(running: &Running) -> Result<()> {
    let mut client = Client::connect(&running.target, None).await?;
    client.say("[\"custom_event\",1]").await
}

/// Puts a file in place and waits until it serves.
pub async fn put(
    bytes: &[u8],
    staging: &Path,
    place: &Path,
    name: &str,
    backend: &mut Backend,
) -> Result<Duration> {
    fs::write(staging, bytes)?;
    let before = backend.plugin(name).await?.generation;
    let began = Instant::now();
    fs::rename(staging, place)?;
    until_newer(name, before, backend).await?;
    Ok(began.elapsed())
}

/// Waits until a plugin serves another generation than the one before.
pub async fn until_newer(name: &str, before: u64, backend: &mut Backend) -> Result<()> {
    let began = Instant::now();
    loop {
        let state = backend.plugin(name).await?;
        if state.generation > before {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{name} does not serve: {:?}",
            state.refusal
        );
        sleep(LOOK).await;
    }
}

/// The component with a custom section of so many random bytes, and some that make it another
/// file where there are none.
fn padded(component: &[u8], bytes: usize) -> Vec<u8> {
    const NAME: &[u8] = b"\x07padding";
    const UNIQUE: usize = 16;
    let size = NAME.len() + UNIQUE + bytes;
    let mut file = component.to_vec();
    // Of custom sections, and the length as WebAssembly writes numbers: seven bits a byte.
    file.push(0);
    let mut rest = size;
    while rest >= 0x80 {
        file.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    file.push(rest as u8);
    file.extend_from_slice(NAME);
    file.extend((0..UNIQUE + bytes).map(|_| fastrand::u8(..)));
    file
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_file_is_another_each_time() {
        let (one, other) = (padded(b"wasm", 200), padded(b"wasm", 200));
        assert_ne!(one, other);
        // 8 for the name, 16 and 200: 224 in two bytes.
        assert_eq!(one[..7], *b"wasm\x00\xe0\x01");
        assert_eq!(one.len(), 4 + 3 + 224);
    }
}

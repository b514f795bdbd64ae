//! What an event costs in each language that plugins are written in, beside a handler in Node's own server, in
//! turns; and what scripts need that nobody calls.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use tokio::time::sleep;

use crate::{
    backend::Backend,
    configuration::{Configuration, ITS_EVENTS},
    crowd,
    drive::Drive,
    figure::CPU_PER_MESSAGE,
    options::{Peer, PluginOptions, ServerOptions},
    peer::load_folder,
    procfs,
    programs::{Programs, printed},
    report::Format,
    rows::Rows,
    running::Running,
    scenario::Exchange,
    start::{REST, put, until_newer},
};

/// The handler of Node's own server, with which the others are compared.
const NODE: &str = "Node's server, a handler in JavaScript";

/// How many scripts are served at once where their memory and their reloads are measured.
const SCRIPTS: usize = 50;

/// How often one of them is saved in a round.
const SAVES: usize = 5;

/// Measure what an event costs in each language, and what idle scripts cost.
#[derive(Args, Debug, Clone)]
pub struct Languages {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each server is measured in each round, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    plugins: PluginOptions,
}

/// Who answers `custom_event`.
struct Answerer {
    name: &'static str,
    /// The plugin's file and more of its keys; none for Node's own server.
    plugin: Option<(PathBuf, String)>,
}

impl Languages {
    /// Runs it; returns what is to be printed, and how much went wrong.
    pub fn run(
        &self,
        options: &ServerOptions,
        drive: &Drive,
        format: Format,
    ) -> Result<(String, u64)> {
        self.programs.build(&[Peer::Mixlab, Peer::Node])?;
        self.programs
            .build_plugins("tests/load/languages/mixlab.toml")?;
        let on_core = options.on_core();
        let mixlab = self.programs.server(Peer::Mixlab, &on_core)?;
        let node = self.programs.server(Peer::Node, &on_core)?;
        let answerers = self.answerers()?;
        let seconds = (self.seconds + 4) * (answerers.len() * self.rounds) as u64;
        eprintln!("about {} minutes", seconds / 60 + 1);
        let (mut rows, mut faults) = (Rows::default(), 0);
        drive.on_core().run(async {
            for round in 0..self.rounds {
                for turn in 0..answerers.len() {
                    let answerer = &answerers[(turn + round) % answerers.len()];
                    eprintln!("round {} of {}: {}", round + 1, self.rounds, answerer.name);
                    let (cost, wrong) = self.measure(answerer, &mixlab, &node).await?;
                    rows.add(answerer.name, CPU_PER_MESSAGE.unit, cost);
                    faults += wrong;
                }
                self.idle_scripts(&mixlab, &mut rows).await?;
                self.reloads(&mixlab, &mut rows).await?;
            }
            Ok(())
        })?;
        let node_costs = rows.values(NODE).to_vec();
        for answerer in answerers.iter().filter(|one| one.plugin.is_some()) {
            let costs = rows.values(answerer.name).to_vec();
            for (cost, of_node) in costs.into_iter().zip(&node_costs) {
                let name = format!("**{}, to Node's server**", answerer.name);
                rows.add(&name, "×", cost / of_node);
            }
        }
        let machine = self.programs.machine()?;
        let table = rows.markdown(
            "Languages",
            &format!("languages --rounds {}", self.rounds),
            &machine,
        );
        self.programs.write(&[("languages.md", &table)])?;
        let values = rows.json("languages", &machine);
        Ok((printed(format, table, &values), faults))
    }

    fn answerers(&self) -> Result<Vec<Answerer>> {
        let plugin = |name, file, keys| Answerer {
            name,
            plugin: Some((file, keys)),
        };
        Ok(vec![
            Answerer {
                name: NODE,
                plugin: None,
            },
            plugin(
                "a plugin in Rust",
                self.plugins.shipped("custom-event")?,
                // The others say so themselves.
                format!("config.limit = \"1000000/1s\"{ITS_EVENTS}"),
            ),
            plugin(
                "a plugin in C",
                self.plugins.shipped("echo-c")?,
                String::new(),
            ),
            plugin("a script", script(), String::new()),
            plugin(
                "a plugin in Python",
                self.plugins.shipped("echo-python")?,
                String::new(),
            ),
        ])
    }

    /// Sixteen clients with many events under way, each with its answer and its ack.
    async fn measure(
        &self,
        answerer: &Answerer,
        mixlab: &ServerOptions,
        node: &ServerOptions,
    ) -> Result<(f64, u64)> {
        let mut configuration = Configuration::new()?;
        let server = match &answerer.plugin {
            None => node.clone(),
            Some((file, keys)) => {
                configuration.plugin("echo-python", file, &["emit:custom_response"], keys);
                configuration.options(mixlab)?
            }
        };
        let running = Running::from_options(&server).await?;
        let exchange = Exchange {
            sockets: 16,
            in_flight: 32,
            rate: None,
            bytes: 64,
            warm_up: Duration::from_secs(2),
            time: Duration::from_secs(self.seconds),
        };
        let report = exchange.run(&running.target, true).await;
        let report = running.stop_after(report).await?;
        let cost = report.number(CPU_PER_MESSAGE.field);
        Ok((cost.context("no CPU time in the report")?, report.faults()))
    }

    /// What each of many scripts adds that nobody calls, and when each has been called once.
    async fn idle_scripts(&self, mixlab: &ServerOptions, rows: &mut Rows) -> Result<()> {
        let mut one = None;
        for count in [1, SCRIPTS] {
            let scripts = Scripts::new(count)?;
            let running = Running::from_options(&scripts.configuration.options(mixlab)?).await?;
            sleep(REST).await;
            let idle = procfs::memory(running.target.pid)?.resident_kib as f64;
            let mut clients = crowd::connect(&running.target, 0, 1).await?;
            for script in 0..count {
                clients[0].ask(&format!("[\"echo:{script}\",1]")).await?;
            }
            sleep(REST).await;
            let called = procfs::memory(running.target.pid)?.resident_kib as f64;
            running.stop().await?;
            match one {
                None => one = Some((idle, called)),
                Some((one_idle, one_called)) => {
                    let others = (count - 1) as f64;
                    let each = (idle - one_idle) / others;
                    rows.add("memory of a script that nobody has called", "KiB", each);
                    let each = (called - one_called) / others;
                    rows.add("memory of a script that was called", "KiB", each);
                }
            }
        }
        Ok(())
    }

    /// From the save of a script to its service, among many; and of all of them at once.
    async fn reloads(&self, mixlab: &ServerOptions, rows: &mut Rows) -> Result<()> {
        let scripts = Scripts::new(SCRIPTS)?;
        let running = Running::from_options(&scripts.configuration.options(mixlab)?).await?;
        let mut backend = Backend::connect(&running.target).await?;
        let staging = scripts.configuration.path("staged");
        for save in 0..SAVES {
            let name = Scripts::name(save);
            let text = Scripts::text(save, "saved alone");
            let place = scripts.place(save);
            let took = put(text.as_bytes(), &staging, &place, &name, &mut backend).await?;
            let what = format!("a script of {SCRIPTS} that is saved serves after");
            rows.add(&what, "ms", took.as_secs_f64() * 1e3);
        }
        let mut before = Vec::new();
        for script in 0..SCRIPTS {
            before.push(backend.plugin(&Scripts::name(script)).await?.generation);
        }
        let began = Instant::now();
        for script in 0..SCRIPTS {
            fs::write(&staging, Scripts::text(script, "saved with all"))?;
            fs::rename(&staging, scripts.place(script))?;
        }
        for (script, before) in before.into_iter().enumerate() {
            until_newer(&Scripts::name(script), before, &mut backend).await?;
        }
        let what = format!("{SCRIPTS} scripts that are saved at once serve after");
        rows.add(&what, "ms", began.elapsed().as_secs_f64() * 1e3);
        running.stop().await
    }
}

/// The script that is compared.
fn script() -> PathBuf {
    load_folder().join("languages/echo.ts")
}

/// Many scripts, each with an event and a file of its own.
struct Scripts {
    configuration: Configuration,
}

impl Scripts {
    fn new(count: usize) -> Result<Self> {
        let mut configuration = Configuration::new()?;
        configuration.add("[reload]\ndebounce = \"1ms\"");
        for script in 0..count {
            let place = configuration.path(&Self::file(script));
            fs::write(&place, Self::text(script, "new"))?;
            configuration.plugin(&Self::name(script), &place, &["emit:custom_response"], "");
        }
        Ok(Self { configuration })
    }

    fn name(script: usize) -> String {
        format!("script-{script}")
    }

    fn place(&self, script: usize) -> PathBuf {
        self.configuration.path(&Self::file(script))
    }

    fn file(script: usize) -> String {
        format!("{}.ts", Self::name(script))
    }

    fn text(script: usize, what: &str) -> String {
        format!(
            "// {what}, {}\nimport {{ event, plugin, t }} from \"mixlab\";\n\nexport default plugin({{\n    \
             \"echo:{script}\": event({{ access: \"anyone\", args: [t.integer()] }}, (cx, n: number) => n),\n}});\n",
            fastrand::u64(..)
        )
    }
}

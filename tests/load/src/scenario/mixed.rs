//! Everything at once, and in the middle of it plugins that loop, sleep and take all the memory
//! they get, and one that is replaced: does a good plugin notice?
//!
//! Quiet and troubled times take turns, so that a machine that is busy with something else
//! disturbs both alike.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use clap::Args;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::sockets;
use crate::{
    asking::Asking,
    backend::Backend,
    client::Client,
    conversation::{Conversation, Pace},
    crowd,
    faults::{Faults, error_code},
    latency::Latencies,
    meter::Meter,
    options::{PluginOptions, ServerOptions, defaults, duration},
    report::Report,
    sandbox::Sandbox,
    subscriber::{Subscriber, Updates},
    swapper::Swapper,
    target::Target,
    usage::report_memory,
};

/// Between two pushes, and between two clients that come and go.
const PUSH_EVERY: Duration = Duration::from_millis(50);
const CONNECT_EVERY: Duration = Duration::from_millis(100);

/// Between a socket's questions to the plugin that is replaced.
const THINK: Duration = Duration::from_millis(100);

/// A plugin that makes trouble.
struct Bad {
    /// Its guest and its event.
    name: &'static str,
    /// What its calls may end with.
    codes: &'static [&'static str],
    /// Their number in the report.
    field: &'static str,
}

const BAD: [Bad; 3] = [
    Bad {
        name: "handler_loops",
        codes: &["plugin_timeout"],
        field: "loops_stopped",
    },
    Bad {
        name: "sleeps",
        codes: &["plugin_timeout"],
        field: "sleeps_stopped",
    },
    Bad {
        name: "memory_linear",
        // Where memory is slow to come, the budget of CPU time is used up first.
        codes: &["plugin_error", "plugin_timeout"],
        field: "memory_stopped",
    },
];

/// Between a quiet and a troubled time; longer than any call may use CPU.
const SETTLE: Duration = Duration::from_millis(500);

/// How often a socket looks whether there is trouble to be made.
const LOOK: Duration = Duration::from_millis(20);

/// Length of the text in events and updates.
const BYTES: usize = 64;

/// A good plugin among bad ones and one that is replaced.
#[derive(Args, Debug, Clone)]
pub struct Mixed {
    /// Sockets of each kind: asking the good plugin, asking the one that is replaced, subscribed
    /// to payments.
    #[arg(long, default_value = "50", value_parser = sockets())]
    sockets: usize,
    /// Questions a second to the good plugin.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Sockets that call each of the bad plugins all the time while there is trouble.
    #[arg(long, default_value = "4", value_parser = sockets())]
    troublemakers: usize,
    /// How often a quiet and a troubled time take turns.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// The length of each.
    #[arg(long, default_value = "4s", value_parser = duration)]
    time: Duration,
    #[command(flatten)]
    plugins: PluginOptions,
}

/// What all tasks share.
struct Scene {
    target: Arc<Target>,
    /// Measures the good plugin alone.
    good: Arc<Meter>,
    others: Arc<Meter>,
    updates: Arc<Updates>,
    trouble: AtomicBool,
    calls_stopped: [AtomicU64; BAD.len()],
    calls_refused: AtomicU64,
    connects: AtomicU64,
    /// Pushes that went to another number of sockets than have subscribed.
    miscounted: AtomicU64,
}

impl Mixed {
    /// With the numbers that stand when nothing else is said.
    pub fn standard(plugins: &PluginOptions) -> Self {
        Self {
            plugins: plugins.clone(),
            ..defaults()
        }
    }

    /// Runs it against a server of its own.
    pub async fn run(&self, options: &ServerOptions) -> Result<Report> {
        let good = self.plugins.shipped("custom-event")?;
        let bad = BAD.map(|bad| (bad.name.replace('_', "-"), self.plugins.named(bad.name)));
        let mut plugins = vec![("custom-event", good.as_path(), "emit:custom_response")];
        for (name, file) in &bad {
            let file = file.as_ref().map_err(|error| anyhow!("{error:#}"))?;
            plugins.push((name, file, ""));
        }
        let (sandbox, swapper) = Sandbox::start(options, &self.plugins, &plugins).await?;
        let report = self.play(&sandbox, swapper).await;
        sandbox.stop_after(report).await
    }

    async fn play(&self, sandbox: &Sandbox, mut swapper: Swapper) -> Result<Report> {
        let scene = Arc::new(Scene {
            target: sandbox.target().clone(),
            good: Meter::new(),
            others: Meter::new(),
            updates: Updates::new(BYTES),
            trouble: AtomicBool::new(false),
            calls_stopped: Default::default(),
            calls_refused: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            miscounted: AtomicU64::new(0),
        });
        let mut tasks = self.people(&scene, sandbox).await?;
        let (quiet, troubled) = (Latencies::default(), Latencies::default());
        let played = self.turns(&scene, &mut swapper, &quiet, &troubled).await;
        scene.good.stop();
        scene.others.stop();
        let mut faults = Faults::default();
        while let Some(ended) = tasks.join_next().await {
            faults += ended?;
        }
        faults.explain();
        played?;

        let mut report = Report::new("mixed", &scene.target.name);
        faults.report(&mut report);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let miscounted = count(&scene.miscounted);
        for (bad, stopped) in BAD.iter().zip(&scene.calls_stopped) {
            let stopped = count(stopped);
            ensure!(
                stopped > 0,
                "{} was never stopped: nothing was tested",
                bad.name
            );
            report.set(bad.field, stopped);
        }
        report.set("miscounted_pushes", miscounted);
        report.add_faults(miscounted);
        report.set("calls_refused", count(&scene.calls_refused));
        report.set("swaps", swapper.swaps());
        swapper.report(&mut report);
        report.set("connects", count(&scene.connects));
        report.set("updates", scene.updates.count());
        report.set("good_events", scene.good.total());
        report.set("other_answers", scene.others.total());
        let (without, with) = (quiet.quantile(0.99), troubled.quantile(0.99));
        report.set_us("good_p50_us_without", quiet.quantile(0.50));
        report.set_us("good_p50_us_with", troubled.quantile(0.50));
        report.set_us("good_p99_us_without", without);
        report.set_us("good_p99_us_with", with);
        report.set_us("good_max_us_with", troubled.max());
        report.set_number("good_p99_ratio", with.as_secs_f64() / without.as_secs_f64());
        report_memory(&mut report, &scene.target)?;
        Ok(report)
    }

    /// Starts everybody. They end when the meters do.
    async fn people(&self, scene: &Arc<Scene>, sandbox: &Sandbox) -> Result<JoinSet<Faults>> {
        let mut ids = (0..).step_by(self.sockets.max(self.troublemakers));
        let mut crowd = async |count| {
            let first = ids.next().expect("there is no last one");
            crowd::connect(&scene.target, first, count).await
        };
        let mut tasks = JoinSet::new();
        for (socket, client) in crowd(self.sockets).await?.into_iter().enumerate() {
            let pace = Pace::evenly(self.rate, socket, self.sockets);
            let conversation = Conversation::new(socket, false, BYTES);
            tasks.spawn(conversation.run(client, pace, scene.good.clone()));
        }
        for (socket, client) in crowd(self.sockets).await?.into_iter().enumerate() {
            let asking = Asking::new(socket, 1, THINK, sandbox.placements.clone());
            tasks.spawn(asking.run(client, scene.others.clone()));
        }
        for mut client in crowd(self.sockets).await? {
            let subscriber = Subscriber::subscribe(&mut client, scene.updates.clone()).await?;
            tasks.spawn(subscriber.run(client, scene.others.clone()));
        }
        for bad in 0..BAD.len() {
            for client in crowd(self.troublemakers).await? {
                let scene = scene.clone();
                tasks.spawn(async move { scene.call(bad, client).await });
            }
        }
        let (pusher, comers, subscribers) = (scene.clone(), scene.clone(), self.sockets as u64);
        tasks.spawn(async move { ending(pusher.push_updates(subscribers).await) });
        let id = ids.next().expect("there is no last one");
        tasks.spawn(async move { ending(comers.come_and_go(id).await) });
        Ok(tasks)
    }

    async fn turns(
        &self,
        scene: &Scene,
        swapper: &mut Swapper,
        quiet: &Latencies,
        troubled: &Latencies,
    ) -> Result<()> {
        let measured = scene.good.latencies();
        for turn in 1..=self.turns {
            eprintln!("turn {turn} of {}", self.turns);
            sleep(SETTLE).await;
            measured.clear();
            sleep(self.time).await;
            quiet.take(measured);

            scene.trouble.store(true, Ordering::Relaxed);
            let end = Instant::now() + self.time;
            while Instant::now() < end {
                swapper.put_broken().await?;
                swapper.swap().await?;
            }
            sleep_until(end).await;
            troubled.take(measured);
            scene.trouble.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Scene {
    /// Calls a bad plugin, while there is trouble to be made.
    async fn call(&self, bad: usize, mut client: Client) -> Faults {
        let mut faults = Faults::default();
        let question = format!("[{:?}]", BAD[bad].name);
        while !self.others.is_over() {
            if !self.trouble.load(Ordering::Relaxed) {
                tokio::select! {
                    ended = client.idle() => return ending(ended),
                    () = sleep(LOOK) => continue,
                }
            }
            let answer = match client.ask(&question).await {
                Ok(answer) => answer,
                Err(error) => return ending(Err(error)),
            };
            match error_code(&answer) {
                Some(code) if BAD[bad].codes.contains(&code) => {
                    self.calls_stopped[bad].fetch_add(1, Ordering::Relaxed);
                }
                // It failed so often that the server does not even call it for a while.
                Some("plugin_unavailable") => {
                    self.calls_refused.fetch_add(1, Ordering::Relaxed);
                    sleep(LOOK).await;
                }
                _ => faults.wrong_answer(answer.as_bytes()),
            }
        }
        faults
    }

    async fn push_updates(&self, subscribers: u64) -> Result<()> {
        let mut backend = Backend::connect(&self.target).await?;
        while !self.others.is_over() {
            if self.updates.push(&mut backend).await? != Some(subscribers) {
                self.miscounted.fetch_add(1, Ordering::Relaxed);
            }
            sleep(PUSH_EVERY).await;
        }
        Ok(())
    }

    /// Somebody connects and leaves again, over and over.
    async fn come_and_go(&self, id: u64) -> Result<()> {
        let token = self.target.token(id);
        while !self.others.is_over() {
            let client = Client::connect(&self.target, Some((id, &token))).await?;
            client.close().await?;
            self.connects.fetch_add(1, Ordering::Relaxed);
            sleep(CONNECT_EVERY).await;
        }
        Ok(())
    }
}

fn ending(ended: Result<()>) -> Faults {
    let mut faults = Faults::default();
    if let Err(error) = ended {
        faults.disconnected(&error);
    }
    faults
}

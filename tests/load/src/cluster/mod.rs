//! Servers that are one over Redis, while Redis and the servers fail in every way: whether each client
//! gets every event once and in order, or is told that it starts afresh.

mod ledger;
mod listener;
mod members;
mod redis;

pub use self::redis::Redis;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use self::{
    ledger::{Answer, FAULTS, Ledger},
    listener::{Crowd, EVENT, Listener},
    members::{Member, Members},
};
use crate::{
    backend::Backend,
    cores,
    options::{ServerOptions, duration, optimised},
    report::Report,
};

/// Let Redis and the servers of a cluster fail, and see that nobody misses anything unknowingly.
#[derive(Args, Debug, Clone)]
pub struct Cluster {
    /// Servers.
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Clients that listen; each comes back to any server when its own is gone.
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// Events a second, to everybody, by way of all servers in turns.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// What becomes of events while Redis is away, as `[cluster] on_loss` has it.
    #[arg(long, default_value = "hold")]
    on_loss: OnLoss,
    /// How often Redis holds still for 0.1 to 10 s.
    #[arg(long, default_value_t = 20)]
    redis_holds: usize,
    /// How often Redis is killed, and comes back after 0.1 to 10 s with what it had.
    #[arg(long, default_value_t = 5)]
    redis_kills: usize,
    /// How often Redis is killed, and comes back with nothing.
    #[arg(long, default_value_t = 1)]
    redis_losses: usize,
    /// How often a server is killed.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// How often a server holds still for 0.1 to 10 s.
    #[arg(long, default_value_t = 5)]
    holds: usize,
    /// How often a server is told to end (SIGTERM), and started again.
    #[arg(long, default_value_t = 5)]
    leaves: usize,
    /// How long all is well between one failure and the next.
    #[arg(long, default_value = "1s", value_parser = duration)]
    calm: Duration,
    /// The order of the failures, and how long each takes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnLoss {
    Local,
    Hold,
}

impl OnLoss {
    fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Hold => "hold",
        }
    }
}

/// What fails.
#[derive(Debug, Clone, Copy)]
enum Failure {
    RedisHolds(Duration),
    RedisDies(Duration),
    RedisForgets,
    ServerDies(usize),
    ServerHolds(usize, Duration),
    ServerLeaves(usize),
}

/// How long clients may take until all of them are connected, and servers until all are ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long servers may take to hear what each other counts.
const HEARTBEATS: Duration = Duration::from_secs(10);

/// So long without any event is the end of them.
const QUIET: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

impl Cluster {
    /// Runs it.
    pub async fn run(&self, options: &ServerOptions) -> Result<Report> {
        cores::check_room_for(self.clients)?;
        let program = optimised(&options.server, "mixlab")?;
        let mut redis = Redis::start().await?;
        let on_loss = self.on_loss.name();
        let members = Members::start(self.servers, &program, &redis, on_loss).await?;
        members.are_ready().await?;
        let crowd = Arc::new(Crowd {
            members: members.all.clone(),
            ledger: Ledger::new(self.servers),
            connected: AtomicUsize::new(0),
            recovered: AtomicU64::new(0),
            afresh: AtomicU64::new(0),
            copies: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            is_all_sent: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
        });
        let mut listeners = JoinSet::new();
        for id in 0..self.clients as u64 {
            listeners.spawn(Listener::new(crowd.clone(), id).run());
        }
        let mut report = Report::new("cluster", "mixlab");
        let mut hangs = u64::from(!self.all_connected(&crowd).await);
        let mut senders = JoinSet::new();
        for server in 0..self.servers {
            senders.spawn(send(crowd.clone(), server, self.rate / self.servers as f64));
        }

        let failures = self.failures();
        for (number, failure) in failures.iter().enumerate() {
            sleep(self.calm).await;
            eprintln!("{} of {}: {failure:?}", number + 1, failures.len());
            crowd.ledger.fails();
            fail(*failure, &mut redis, &members, &crowd).await?;
            members.are_ready().await?;
            hangs += u64::from(!self.all_connected(&crowd).await);
            if let Some(ended) = listeners.try_join_next() {
                ended??;
                bail!("a client has ended before the end");
            }
        }
        sleep(self.calm).await;
        let miscounted = self.miscounted(&members).await?;
        crowd.is_over.store(true, Ordering::Relaxed);
        while let Some(sender) = senders.join_next().await {
            sender??;
        }
        crowd.is_all_sent.store(true, Ordering::Relaxed);
        let mut followed = Vec::new();
        let quiet = tokio::spawn(end_when_quiet(crowd.clone()));
        while let Some(listener) = listeners.join_next().await {
            followed.push(listener??);
        }
        quiet.abort();

        report.set("servers", self.servers);
        report.set("clients", self.clients);
        report.set("on_loss", on_loss);
        report.set("failures", failures.len());
        report.set("events", crowd.ledger.counts().iter().sum::<usize>());
        report.set("copies", crowd.copies.load(Ordering::Relaxed));
        report.set("recovered", crowd.recovered.load(Ordering::Relaxed));
        report.set("afresh", crowd.afresh.load(Ordering::Relaxed));
        report.set("hangs", hangs);
        report.set("miscounted", miscounted);
        report.add_faults(hangs + miscounted);
        for (what, count) in crowd.ledger.verdict(followed) {
            report.set(what, count);
            if FAULTS.contains(&what) {
                report.add_faults(count);
            }
        }
        if report.faults() > 0 {
            members
                .all
                .iter()
                .for_each(|member| eprintln!("{}", member.log()));
        }
        Ok(report)
    }

    /// All that is to fail, shuffled.
    fn failures(&self) -> Vec<Failure> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut some = |count: usize, make: fn(usize, Duration) -> Failure| -> Vec<Failure> {
            let one = |_| {
                let time = Duration::from_secs_f64(10f64.powf(random.f64() * 2.0 - 1.0));
                make(random.usize(..self.servers), time)
            };
            (0..count).map(one).collect()
        };
        let mut failures = [
            some(self.redis_holds, |_, time| Failure::RedisHolds(time)),
            some(self.redis_kills, |_, time| Failure::RedisDies(time)),
            some(self.redis_losses, |_, _| Failure::RedisForgets),
            some(self.kills, |server, _| Failure::ServerDies(server)),
            some(self.holds, Failure::ServerHolds),
            some(self.leaves, |server, _| Failure::ServerLeaves(server)),
        ]
        .concat();
        random.shuffle(&mut failures);
        failures
    }

    /// Waits until all are connected; whether they are in time.
    async fn all_connected(&self, crowd: &Crowd) -> bool {
        let began = Instant::now();
        while crowd.connected.load(Ordering::Relaxed) < self.clients {
            if began.elapsed() > PATIENCE {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    /// How many servers do not count every client once, when they have had time to hear of each other.
    async fn miscounted(&self, members: &Members) -> Result<u64> {
        let (began, mut miscounted) = (Instant::now(), 0);
        for member in &members.all {
            let mut backend = Backend::connect(&member.target).await?;
            let mut count = backend.clients().await?;
            while count != self.clients as u64 && began.elapsed() < HEARTBEATS {
                sleep(LOOK).await;
                count = backend.clients().await?;
            }
            if count != self.clients as u64 {
                eprintln!("{} counts {count} clients", member.target.name);
                miscounted += 1;
            }
        }
        Ok(miscounted)
    }
}

async fn fail(failure: Failure, redis: &mut Redis, members: &Members, crowd: &Crowd) -> Result<()> {
    match failure {
        Failure::RedisHolds(time) => redis.hold(time).await,
        Failure::RedisDies(time) => redis.die(time).await,
        Failure::RedisForgets => redis.forget().await,
        Failure::ServerDies(server) => {
            crowd.ledger.killed(server);
            members.all[server].kill();
            crowd.ledger.killed(server);
            members.all[server].start().await
        }
        Failure::ServerHolds(server, time) => members.all[server].hold(time).await,
        Failure::ServerLeaves(server) => {
            members.all[server].leave().await?;
            members.all[server].start().await
        }
    }
}

/// Sends events by way of one server until it is over, one after the other.
async fn send(crowd: Arc<Crowd>, server: usize, rate: f64) -> Result<()> {
    let member: &Member = &crowd.members[server];
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut backend = None;
    while !crowd.is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let Some(connection) = &mut backend else {
            backend = Backend::connect(&member.target).await.ok();
            continue;
        };
        let number = crowd.ledger.send(server);
        match connection
            .emit(EVENT, &format!("[{server},{number}]"))
            .await
        {
            Ok(200) => crowd.ledger.answered(server, number, Answer::Taken),
            Ok(503) => crowd.ledger.answered(server, number, Answer::Refused),
            Ok(status) => bail!("an event was answered with {status}"),
            Err(_) => backend = None,
        }
    }
    Ok(())
}

/// Says so when nothing comes any more.
async fn end_when_quiet(crowd: Arc<Crowd>) {
    loop {
        let before = crowd.copies.load(Ordering::Relaxed);
        sleep(QUIET).await;
        if crowd.copies.load(Ordering::Relaxed) == before {
            return crowd.is_quiet.store(true, Ordering::Relaxed);
        }
    }
}

//! What is compared: a scenario with its numbers, and the figures that count.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use crate::{
    figure::{CPU_PER_COPY, CPU_PER_MESSAGE, Figure, KIB_PER_CONNECTION},
    report::Report,
    scenario::{Connect, Exchange, Fanout, Idle},
    target::Target,
    transport::Transport,
};

/// Node's compiler needs some time until it has warmed up.
const WARM_UP: Duration = Duration::from_secs(1);

/// Tens of thousands of messages.
const TIME: Duration = Duration::from_secs(2);

/// Length of the texts in messages.
const BYTES: usize = 64;

/// One scenario as it is compared.
pub struct Case {
    /// For the command line and the JSON.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What counts first of all; lower is better.
    pub figure: Figure,
    /// What is worth knowing beside it.
    pub more: &'static [Figure],
    /// About how long it takes against one server, with its start and end.
    pub seconds: f64,
    scenario: Scenario,
}

enum Scenario {
    Connect(Connect),
    Echo(Exchange),
    Ack(Exchange),
    Fanout(Fanout),
    Idle(Idle),
}

const CPU_PER_CONNECT: Figure = Figure {
    field: "cpu_us_per_connect",
    unit: "CPU µs per connection",
};
const LOAD: Figure = Figure {
    field: "load_cpu_us_per_message",
    unit: "CPU µs of this tool",
};
const P50: Figure = Figure {
    field: "p50_us",
    unit: "median latency, µs",
};
const P99: Figure = Figure {
    field: "p99_us",
    unit: "99th percentile, µs",
};
const PER_SECOND: Figure = Figure {
    field: "per_second",
    unit: "per second",
};
const BASE: Figure = Figure {
    field: "base_rss_kib",
    unit: "KiB without connections",
};

/// With a core each for server and load, in the order of the table.
pub fn pinned() -> Vec<Case> {
    vec![
        echo(),
        echo_deep(),
        Case {
            name: "ack",
            title: "echo with ack, 64 sockets, 1 in flight each",
            figure: CPU_PER_MESSAGE,
            more: &[LOAD, PER_SECOND, P50, P99],
            seconds: 3.7,
            scenario: Scenario::Ack(exchange(64, 1)),
        },
        fanout(),
        connect(
            "connect",
            "1,000 users connect, websocket",
            Transport::Websocket,
        ),
        connect(
            "connect-polling",
            "1,000 users connect, polling",
            Transport::Polling,
        ),
        idle(
            "idle",
            "2,000 idle connections, websocket",
            Transport::Websocket,
        ),
        idle(
            "idle-polling",
            "2,000 idle connections, polling",
            Transport::Polling,
        ),
        open_loop(),
    ]
}

/// With all cores for both.
pub fn unpinned() -> Vec<Case> {
    vec![echo(), echo_deep(), fanout(), open_loop()]
}

fn echo() -> Case {
    Case {
        name: "echo",
        title: "echo, 64 sockets, 1 in flight each",
        figure: CPU_PER_MESSAGE,
        more: &[LOAD, PER_SECOND, P50, P99],
        seconds: 3.7,
        scenario: Scenario::Echo(exchange(64, 1)),
    }
}

fn echo_deep() -> Case {
    Case {
        name: "echo-deep",
        title: "echo, 16 sockets, 32 in flight each",
        figure: CPU_PER_MESSAGE,
        more: &[LOAD, PER_SECOND],
        seconds: 3.7,
        scenario: Scenario::Echo(exchange(16, 32)),
    }
}

fn fanout() -> Case {
    Case {
        name: "fanout",
        title: "payment update to 1,000 subscribers",
        figure: CPU_PER_COPY,
        more: &[LOAD, P50, P99],
        seconds: 5.0,
        scenario: Scenario::Fanout(Fanout {
            at_once: 1,
            subscribers: 1000,
            pushes: 100,
            every: Duration::from_millis(25),
            bytes: BYTES,
        }),
    }
}

fn connect(name: &'static str, title: &'static str, transport: Transport) -> Case {
    Case {
        name,
        title,
        figure: CPU_PER_CONNECT,
        more: &[PER_SECOND],
        seconds: 2.5,
        scenario: Scenario::Connect(Connect {
            clients: 1000,
            at_once: 16,
            transport,
        }),
    }
}

fn idle(name: &'static str, title: &'static str, transport: Transport) -> Case {
    Case {
        name,
        title,
        figure: KIB_PER_CONNECTION,
        more: &[BASE],
        seconds: 12.0,
        scenario: Scenario::Idle(Idle {
            sockets: 2000,
            rest: Duration::from_secs(4),
            hold: Duration::from_millis(500),
            transport,
        }),
    }
}

fn open_loop() -> Case {
    Case {
        name: "open-loop",
        title: "20,000 events a second over 200 connections",
        figure: P99,
        more: &[P50, CPU_PER_MESSAGE],
        seconds: 5.0,
        scenario: Scenario::Echo(Exchange {
            rate: Some(20_000.0),
            time: Duration::from_secs(3),
            ..exchange(200, 1)
        }),
    }
}

fn exchange(sockets: usize, in_flight: usize) -> Exchange {
    Exchange {
        sockets,
        in_flight,
        rate: None,
        bytes: BYTES,
        warm_up: WARM_UP,
        time: TIME,
    }
}

impl Case {
    /// Runs it once.
    pub async fn run(&self, target: &Arc<Target>) -> Result<Report> {
        match &self.scenario {
            Scenario::Connect(connect) => connect.run(target).await,
            Scenario::Echo(exchange) => exchange.run(target, false).await,
            Scenario::Ack(exchange) => exchange.run(target, true).await,
            Scenario::Fanout(fanout) => fanout.run(target).await,
            Scenario::Idle(idle) => idle.run(target).await,
        }
    }

    /// All its figures.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        [&self.figure].into_iter().chain(self.more)
    }
}

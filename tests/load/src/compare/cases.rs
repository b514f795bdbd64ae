//! What is compared: a scenario with its numbers, and the figures that count.

use std::{sync::Arc, time::Duration};

use anyhow::Result;

use crate::{
    report::Report,
    scenario::{Connect, Exchange, Fanout, Idle, Transport},
    target::Target,
};

/// Node's compiler needs some time until it has warmed up.
const WARM_UP: Duration = Duration::from_secs(2);

/// CPU time is counted in hundredths of a second: this long, that is less than a percent.
const TIME: Duration = Duration::from_secs(5);

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
    scenario: Scenario,
}

/// A value of a report.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its name there.
    pub field: &'static str,
    /// Its unit, for people.
    pub unit: &'static str,
}

enum Scenario {
    Connect(Connect),
    Echo(Exchange),
    Ack(Exchange),
    Fanout(Fanout),
    Idle(Idle),
}

const CPU_PER_MESSAGE: Figure = Figure {
    field: "cpu_us_per_message",
    unit: "CPU µs per message",
};
const CPU_PER_CONNECT: Figure = Figure {
    field: "cpu_us_per_connect",
    unit: "CPU µs per connection",
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
const KIB_PER_CONNECTION: Figure = Figure {
    field: "kib_per_connection",
    unit: "KiB per connection",
};
const BASE: Figure = Figure {
    field: "base_rss_kib",
    unit: "KiB without connections",
};

/// All cases, in the order of the table.
pub fn all() -> Vec<Case> {
    let connect = |clients, transport| {
        Scenario::Connect(Connect {
            clients,
            at_once: 16,
            transport,
        })
    };
    let exchange = |sockets, in_flight, rate| Exchange {
        sockets,
        in_flight,
        rate,
        bytes: BYTES,
        warm_up: WARM_UP,
        time: TIME,
    };
    vec![
        Case {
            name: "echo",
            title: "echo, 64 sockets, 1 in flight each",
            figure: CPU_PER_MESSAGE,
            more: &[PER_SECOND, P50, P99],
            scenario: Scenario::Echo(exchange(64, 1, None)),
        },
        Case {
            name: "echo-deep",
            title: "echo, 256 sockets, 8 in flight each",
            figure: CPU_PER_MESSAGE,
            more: &[PER_SECOND],
            scenario: Scenario::Echo(exchange(256, 8, None)),
        },
        Case {
            name: "ack",
            title: "echo with ack, 64 sockets, 1 in flight each",
            figure: CPU_PER_MESSAGE,
            more: &[PER_SECOND, P50, P99],
            scenario: Scenario::Ack(exchange(64, 1, None)),
        },
        Case {
            name: "steady",
            title: "echo at 5,000 a second, 64 sockets",
            figure: CPU_PER_MESSAGE,
            more: &[P50, P99],
            scenario: Scenario::Echo(exchange(64, 1, Some(5000.0))),
        },
        Case {
            name: "fanout",
            title: "payment update to 1,000 subscribers",
            figure: Figure {
                unit: "CPU µs per copy",
                ..CPU_PER_MESSAGE
            },
            more: &[P50, P99],
            scenario: Scenario::Fanout(Fanout {
                subscribers: 1000,
                pushes: 100,
                every: Duration::from_millis(50),
                bytes: BYTES,
            }),
        },
        Case {
            name: "connect",
            title: "connecting with a token, websocket",
            figure: CPU_PER_CONNECT,
            more: &[PER_SECOND],
            scenario: connect(2000, Transport::Websocket),
        },
        Case {
            name: "connect-polling",
            title: "connecting with a token, polling",
            figure: CPU_PER_CONNECT,
            more: &[PER_SECOND],
            scenario: connect(2000, Transport::Polling),
        },
        Case {
            name: "idle",
            title: "2,000 idle connections",
            figure: KIB_PER_CONNECTION,
            more: &[BASE],
            scenario: Scenario::Idle(Idle {
                sockets: 2000,
                rest: Duration::from_secs(2),
                hold: Duration::from_secs(1),
            }),
        },
    ]
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
}

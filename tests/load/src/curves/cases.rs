//! What grows, and how far.

use std::time::Duration;

use anyhow::Result;

use crate::{
    configuration::Configuration,
    figure::{CPU_PER_COPY, CPU_PER_MESSAGE, Figure, KIB_PER_CONNECTION},
    options::{Peer, PluginOptions},
    report::Report,
    running::Running,
    scenario::Fanout,
    talk::Talk,
};

/// One thing that grows.
pub struct Curve {
    /// For the command line and the JSON.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What grows.
    pub axis: &'static str,
    /// Against whom.
    pub peers: &'static [Peer],
    /// What is read off.
    pub figures: &'static [Figure],
    /// The values of what grows.
    pub points: &'static [usize],
    load: fn(usize) -> Load,
}

/// What one point is measured with.
enum Load {
    Talk(Talk),
    Fanout(Fanout),
}

const ALL: &[Peer] = &[Peer::Mixlab, Peer::Node, Peer::Native];
const OWN: &[Peer] = &[Peer::Mixlab];

/// Questions a second, however many connections they come from.
const RATE: f64 = 5000.0;

/// Copies of updates that are measured, about.
const COPIES: usize = 100_000;

/// In the order of the tables.
pub const CURVES: [Curve; 5] = [
    Curve {
        name: "connections",
        title: "5,000 events a second over more and more connections",
        axis: "connections",
        peers: ALL,
        figures: &[CPU_PER_MESSAGE, KIB_PER_CONNECTION],
        points: &[100, 1000, 5000, 10_000],
        load: |sockets| {
            Load::Talk(Talk {
                sockets,
                rate: Some(RATE),
                ..Talk::default()
            })
        },
    },
    Curve {
        name: "plugins",
        title: "echo, 100 sockets, over more and more plugins",
        axis: "plugins",
        peers: OWN,
        figures: &[CPU_PER_MESSAGE],
        points: &[1, 10, 100],
        load: |plugins| {
            Load::Talk(Talk {
                sockets: 100,
                events: (0..plugins).map(event).collect(),
                ..Talk::default()
            })
        },
    },
    Curve {
        name: "payload",
        title: "echo, 16 sockets, of longer and longer texts",
        axis: "KiB",
        peers: ALL,
        figures: &[CPU_PER_MESSAGE],
        points: &[1, 4, 16, 64],
        load: |kib| {
            Load::Talk(Talk {
                bytes: kib * 1024,
                ..Talk::default()
            })
        },
    },
    Curve {
        name: "fanout",
        title: "payment update to more and more subscribers",
        axis: "subscribers",
        peers: ALL,
        figures: &[CPU_PER_COPY],
        points: &[10, 100, 1000, 5000],
        load: |subscribers| {
            Load::Fanout(Fanout {
                at_once: 1,
                subscribers,
                pushes: (COPIES / subscribers).clamp(20, 400) as u64,
                every: Duration::from_millis(5),
                bytes: 64,
            })
        },
    },
    Curve {
        name: "rooms",
        title: "echo, 200 sockets, in more and more rooms each",
        axis: "rooms",
        peers: OWN,
        figures: &[CPU_PER_MESSAGE, KIB_PER_CONNECTION],
        points: &[1, 10, 100],
        load: |rooms| {
            Load::Talk(Talk {
                sockets: 200,
                rooms,
                events: vec!["message".to_owned()],
                answer: "message-back",
                ..Talk::default()
            })
        },
    },
];

impl Curve {
    /// The configuration of MixLab at one point, where the shipped plugins are not what is asked.
    pub fn configuration(
        &self,
        point: usize,
        files: &PluginOptions,
    ) -> Result<Option<Configuration>> {
        if self.peers != OWN {
            return Ok(None);
        }
        let mut configuration = Configuration::new()?;
        if self.name == "rooms" {
            let file = files.named("conformance")?;
            let grants = [
                "emit",
                "ask",
                "room:*",
                "namespace:/*",
                "handshake",
                "disconnect",
            ];
            configuration.plugin("conformance", &file, &grants, "config.quiet = true");
            return Ok(Some(configuration));
        }
        let file = files.named("named")?;
        for plugin in 0..point {
            let more = format!(
                "config = {{ event = {:?}, limit = \"1000000/1s\" }}",
                event(plugin)
            );
            let name = format!("named-{plugin}");
            configuration.plugin(&name, &file, &["emit:custom_response"], &more);
        }
        Ok(Some(configuration))
    }

    /// Measures one point.
    pub async fn run(&self, point: usize, running: &Running) -> Result<Report> {
        match (self.load)(point) {
            Load::Talk(talk) => talk.run(&running.target).await,
            Load::Fanout(fanout) => fanout.run(&running.target).await,
        }
    }

    /// About how long one round takes.
    pub fn seconds(&self) -> f64 {
        let connections = match self.name {
            "connections" | "fanout" => self.points.iter().sum::<usize>() as f64,
            _ => 0.0,
        };
        let one = |peer: &Peer| {
            let connect = match peer {
                Peer::Node | Peer::NodeCluster => 0.002,
                Peer::Mixlab | Peer::MixlabPlain | Peer::Before | Peer::Native => 0.0004,
            };
            6.0 * self.points.len() as f64 + connect * connections
        };
        self.peers.iter().map(one).sum()
    }
}

fn event(plugin: usize) -> String {
    format!("named:{plugin}")
}

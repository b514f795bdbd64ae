//! What the page is told: the contracts that serve, how the plugins stand, and the log.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Playground;
use crate::{
    declared::{Emit, Event},
    recent_log::Line,
    registry::{DeclaredBy, Registry},
    reload::{PluginState, Status},
};

/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_millis(100);

/// After so long without a word comes an empty line, which finds out whether somebody is there.
const SILENCE: Duration = Duration::from_secs(15);

/// What one page has not been told yet.
pub(super) struct News {
    playground: Playground,
    /// The last line of the log that it has.
    last: u64,
    /// What the registry was like that it was told of.
    registry: Option<Arc<Registry>>,
    standing: Standing,
    told_at: Instant,
}

/// Something to tell.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Told<'a> {
    /// What the plugins that serve say of their events.
    Contracts {
        socket_path: &'a str,
        plugins: Vec<Contracts<'a>>,
    },
    Standing(&'a Standing),
    Log(&'a Line),
    /// So many lines of the log came too fast.
    Lost {
        lines: u64,
    },
}

#[derive(Serialize)]
struct Contracts<'a> {
    name: &'a str,
    version: &'a str,
    namespaces: &'a [String],
    events: &'a [Event],
    emits: &'a [Emit],
}

/// How the plugins stand.
#[derive(Default, PartialEq, Serialize)]
struct Standing {
    /// What is wrong with what was saved last.
    problems: Vec<Problem>,
    plugins: Vec<Loaded>,
}

#[derive(PartialEq, Serialize)]
struct Problem {
    /// The plugin, or `mixlab.toml`.
    of: String,
    reason: String,
    /// Whether an older version serves.
    old_serves: bool,
    /// Whether it may be mended by itself.
    is_waiting: bool,
}

#[derive(PartialEq, Serialize)]
struct Loaded {
    name: String,
    state: PluginState,
    version: Option<String>,
    generation: u64,
}

impl News {
    /// For a page that has the log up to this line.
    pub(super) fn new(playground: Playground, last: u64) -> Self {
        Self {
            playground,
            last,
            registry: None,
            standing: Standing::default(),
            told_at: Instant::now(),
        }
    }

    /// Lines of JSON, at least one; none when the server stops.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            if self.playground.stop.is_cancelled() {
                return None;
            }
            let mut lines = String::new();
            self.tell(&mut lines);
            if lines.is_empty() && self.told_at.elapsed() > SILENCE {
                lines.push('\n');
            }
            if !lines.is_empty() {
                self.told_at = Instant::now();
                return Some(lines);
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.playground.stop.cancelled() => {}
            }
        }
    }

    fn tell(&mut self, lines: &mut String) {
        let registry = self.playground.registry.load_full();
        let is_known = |known: &Arc<Registry>| Arc::ptr_eq(known, &registry);
        if !self.registry.as_ref().is_some_and(is_known) {
            let told = Told::Contracts {
                socket_path: &self.playground.socket_path,
                plugins: registry.declared().iter().map(Contracts::of).collect(),
            };
            add(lines, &told);
            self.registry = Some(registry);
        }
        let standing = self.standing();
        if standing != self.standing {
            add(lines, &Told::Standing(&standing));
            self.standing = standing;
        }
        let (kept, lost) = self.playground.log.after(self.last);
        if lost > 0 {
            add(lines, &Told::Lost { lines: lost });
        }
        for line in kept {
            add(lines, &Told::Log(&line));
            self.last = line.number;
        }
    }

    fn standing(&self) -> Standing {
        let status = self.playground.status.load();
        let builds = self.playground.builds.as_ref();
        let mut problems = of_files(&status);
        for plugin in &status.plugins {
            let failed = builds.and_then(|builds| builds.failure(&plugin.name));
            let waiting = plugin.waiting.clone().filter(|_| plugin.refusal.is_none());
            let refused = plugin
                .refusal
                .clone()
                .filter(|it| failed.as_ref().is_none_or(|failed| failed.reason != *it));
            let failed = failed.map(|failed| format!("{}\n\n{}", failed.reason, failed.words));
            let reasons = [(failed, false), (refused, false), (waiting, true)];
            for (reason, is_waiting) in reasons {
                problems.extend(reason.map(|reason| Problem {
                    of: plugin.name.clone(),
                    reason,
                    old_serves: plugin.generation > 0
                        && matches!(plugin.state, PluginState::Serving | PluginState::ServingOld),
                    is_waiting,
                }));
            }
        }
        let plugins = status.plugins.iter().map(|plugin| Loaded {
            name: plugin.name.clone(),
            state: plugin.state,
            version: plugin.version.clone(),
            generation: plugin.generation,
        });
        Standing {
            problems,
            plugins: plugins.collect(),
        }
    }
}

impl<'a> Contracts<'a> {
    fn of(plugin: &'a DeclaredBy) -> Self {
        Self {
            name: &plugin.plugin,
            version: &plugin.version,
            namespaces: &plugin.namespaces,
            events: &plugin.declared.events,
            emits: &plugin.declared.emits,
        }
    }
}

/// What is wrong with files that are no plugins.
fn of_files(status: &Status) -> Vec<Problem> {
    let problem = |of: &str, reason: &Option<String>, is_waiting| {
        reason.clone().map(|reason| Problem {
            of: of.to_owned(),
            reason,
            old_serves: true,
            is_waiting,
        })
    };
    let all = [
        problem("mixlab.toml", &status.config_error, false),
        problem("mixlab.toml", &status.config_waiting, true),
        problem("[tls]", &status.certificate_error, false),
    ];
    all.into_iter().flatten().collect()
}

fn add(lines: &mut String, told: &Told<'_>) {
    let line = serde_json::to_string(told);
    *lines += &line.expect("texts, numbers and JSON are written as JSON");
    lines.push('\n');
}

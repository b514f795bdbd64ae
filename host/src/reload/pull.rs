//! A plugin's file that comes from a registry: it is fetched while it is not there.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::config::{self, Config};

/// After a failure it is tried again, at first after so long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A registry that keeps failing is asked no more often than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The fetching of a component, until it is there or this is dropped.
pub(super) struct Pull {
    failure: Arc<Mutex<Option<String>>>,
    task: AbortOnDropHandle<()>,
}

impl Pull {
    /// Begins to fetch a plugin's component, if it comes from a registry.
    pub(super) fn start(plugin: &config::Plugin) -> Option<Self> {
        plugin.pulled_from.as_ref()?;
        let failure = Arc::default();
        let pulling = pull(plugin.clone(), Arc::clone(&failure));
        Some(Self {
            failure,
            task: AbortOnDropHandle::new(tokio::spawn(pulling)),
        })
    }

    /// Why it did not come, if it has failed.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Whether it came. If it is not there now, somebody has taken it away.
    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

/// Fetches what is not there, for who loads all plugins once. Why one did not come.
pub(crate) async fn pull_missing(config: &Config) -> Result<(), String> {
    let missing = config.plugins.iter();
    let missing = missing.filter(|it| it.enabled && it.pulled_from.is_some() && !it.path.exists());
    for plugin in missing {
        let pulled = pull_once(Arc::new(plugin.clone())).await;
        pulled.map_err(|reason| format!("{}: {reason}", plugin.name))?;
    }
    Ok(())
}

async fn pull(plugin: config::Plugin, failure: Arc<Mutex<Option<String>>>) {
    let plugin = Arc::new(plugin);
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        match pull_once(plugin.clone()).await {
            Ok(bytes) => {
                let took_ms = began.elapsed().as_millis() as u64;
                let plugin = &plugin.name;
                tracing::info!(plugin, bytes, took_ms, "the component was pulled");
                return;
            }
            Err(reason) => *failure.lock() = Some(reason),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How many bytes came, or why none did. On a thread of its own: the end of the process does not wait for a registry,
/// as it would for a task that blocks.
async fn pull_once(plugin: Arc<config::Plugin>) -> Result<usize, String> {
    let (tell, told) = oneshot::channel();
    let pulling = move || {
        // Nobody may wait for it any more.
        let _ = tell.send(plugin.pull().map_err(|error| error.to_string()));
    };
    let thread = thread::Builder::new().name("pull".to_owned());
    thread.spawn(pulling).map_err(|error| error.to_string())?;
    told.await.map_err(|error| error.to_string())?
}

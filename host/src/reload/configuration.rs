//! `mixlab.toml` while the server runs: what of it is put in force, and when.

use std::sync::Arc;

use super::{
    ConfigSource, Files, Reloader, Targets,
    file::{EMPTIED_WAIT, Stamp},
};
use crate::{
    audit::Entry,
    config::{Config, ConfigError},
    metrics::CONFIG_FILE,
    settings::Settings,
    units::duration,
};

impl Reloader {
    /// Reads `mixlab.toml` again if it changed, and puts what may change live in force.
    pub(super) async fn follow_config(&mut self, files: Files) {
        let Some(ConfigSource {
            path, overrides, ..
        }) = self.source.clone()
        else {
            return;
        };
        if files == Files::All {
            self.config_file.forget();
        }
        let seen = self.config_file.seen().cloned();
        let reading = tokio::task::spawn_blocking(move || {
            let stamp = Stamp::of(&path, &[]);
            let is_same = stamp.is_some() && stamp == seen;
            (!is_same).then(|| (stamp, Config::load(&path, overrides)))
        });
        match reading.await {
            Ok(None) => {}
            Ok(Some((stamp, Ok(config)))) => self.take_config(stamp, config, files),
            Ok(Some((stamp, Err(error)))) => {
                match error {
                    // The file is good for all that is known.
                    ConfigError::Unreadable { .. } => self.config_file.forget(),
                    _ => self.config_file.dealt_with(stamp),
                }
                self.refuse_config(error.to_string());
            }
            Err(error) => self.refuse_config(error.to_string()),
        }
    }

    /// Says why what is written is not in force.
    fn refuse_config(&mut self, error: String) {
        self.config_waiting = None;
        if self.config_error.as_ref() == Some(&error) {
            return;
        }
        self.targets.metrics.reloaded(CONFIG_FILE, false);
        tracing::error!("the old configuration stays in force: {error}");
        let reason = &error;
        self.targets.audit.write(|| Entry::ConfigRefused { reason });
        self.config_error = Some(error);
    }

    /// Puts a configuration in force, unless whoever writes it may have more to write.
    fn take_config(&mut self, stamp: Option<Stamp>, config: Config, files: Files) {
        self.config_error = None;
        let is_empty = stamp.as_ref().is_some_and(Stamp::is_empty);
        if files == Files::Changed
            && config != self.config
            && let Some(loss) = loss(&self.config, &config, is_empty)
            && !self.config_file.postpone(stamp.clone(), EMPTIED_WAIT)
        {
            let wait = duration::display(EMPTIED_WAIT);
            let waiting = format!("{loss}, and is in force if it stays so for {wait}");
            if self.config_waiting.as_ref() != Some(&waiting) {
                tracing::warn!("mixlab.toml is waited for: {waiting}");
            }
            self.config_waiting = Some(waiting);
            return;
        }
        self.config_waiting = None;
        self.config_file.dealt_with(stamp);
        self.targets.metrics.reloaded(CONFIG_FILE, true);
        if config == self.config {
            return;
        }
        let restart = self.started.restart_needed(&config);
        if !restart.is_empty() {
            tracing::warn!(keys = restart.join(", "), "these changes need a restart");
        }
        let known = self.config.doubts();
        for doubt in config.doubts() {
            if !known.contains(&doubt) {
                tracing::warn!("{doubt}");
            }
        }
        let Targets {
            providers,
            revocations,
            ..
        } = &self.targets;
        let settings = Settings::new(&config, &self.secret, &self.limits, providers, revocations);
        self.targets.settings.store(Arc::new(settings));
        let in_force = |config| self.started.in_force(config);
        let (former, now) = (in_force(&self.config), in_force(&config));
        self.targets.audit.configured(&former, &now, restart);
        self.config = config;
        let file = self
            .source
            .as_ref()
            .map(|source| source.path.display().to_string());
        tracing::info!(file, "the configuration was reloaded");
    }
}

/// What a configuration takes away that another begins with, if it may be the beginning of a file that is
/// still being written.
fn loss(former: &Config, new: &Config, is_empty: bool) -> Option<String> {
    if is_empty {
        return Some("it is empty".to_owned());
    }
    let switched_on = |config: &Config| config.plugins.iter().any(|plugin| plugin.enabled);
    if switched_on(former) && !switched_on(new) {
        return Some("it takes away every plugin".to_owned());
    }
    let is_named = |name: &str| new.plugins.iter().any(|plugin| plugin.name == name);
    let gone = former
        .plugins
        .iter()
        .find(|plugin| plugin.enabled && !is_named(&plugin.name))?;
    Some(format!(
        "it does not name the plugin {:?} any more",
        gone.name
    ))
}

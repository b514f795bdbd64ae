//! The plugins and their budgets.

use std::{collections::HashMap, path::PathBuf, str::FromStr};

use figment::value::{Dict, Value};

use super::{MANY, MORE_THAN_ZERO, Resolver};
use crate::config::file::{OneOrMore, PluginFile, Table, WebhookFile};
use crate::config::problem::{KeyPath, key};
use crate::config::sections::budget::BudgetFile;
use crate::config::{Budget, Plugin, PulledFrom, Runtime, Secret, Verification, Webhook};
use crate::grant::Grant;
use crate::namespace::is_namespace;
use crate::oci::{self, Reference, Signer};
use crate::units::{Size, duration};
use crate::webhooks::is_secret;

/// The folder of `[runtime] cache` for components from registries.
const PULLED: &str = "pulled";

impl Resolver<'_> {
    pub(super) fn plugins(
        &mut self,
        files: Vec<Table<PluginFile>>,
        budget: &Budget,
        runtime: &Runtime,
    ) -> Vec<Plugin> {
        let mut named: HashMap<String, KeyPath> = HashMap::new();
        let mut plugins = Vec::new();
        for (index, Table(written)) in files.into_iter().enumerate() {
            let at = format!("plugins.{index}");
            if let Some(name) = &written.name {
                let path = key(&format!("{at}.name"));
                if let Some(first) = named.get(name) {
                    let line = self.document.line(first).unwrap_or_default();
                    let message =
                        format!("duplicate plugin name {name:?}; the first is in line {line}");
                    self.problems.invalid(path, message);
                } else {
                    named.insert(name.clone(), path);
                }
            }
            plugins.extend(self.plugin(&at, written, budget, runtime));
        }
        plugins
    }

    fn plugin(
        &mut self,
        at: &str,
        written: PluginFile,
        budget: &Budget,
        runtime: &Runtime,
    ) -> Option<Plugin> {
        // All are looked at before one that is missing ends it, so that each mistake is found.
        let name = self.required(at, "name", written.name);
        let path = self.required(at, "path", written.path);
        if let Some(name) = &name {
            let is_good = (1..=64).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            let message =
                format!("invalid plugin name {name:?}: expected 1 to 64 of a-z, 0-9 and \"-\"");
            self.check(&format!("{at}.name"), is_good, &message);
            // POST /api/v1/plugins/reload is not about a plugin.
            let message =
                format!("{name:?} is no name for a plugin: the API has it for all of them");
            self.check(&format!("{at}.name"), name != "reload", &message);
        }
        for (index, grant) in written.grants.iter().enumerate() {
            let at = format!("{at}.grants.{index}");
            self.check(
                &at,
                !matches!(
                    grant,
                    Grant::Revoke | Grant::Move | Grant::Inspect | Grant::Operate | Grant::Admin
                ),
                &format!("\"{grant}\" is for API keys, not for plugins"),
            );
        }
        for (index, path) in written.guards.iter().enumerate() {
            let at = format!("{at}.guards.{index}");
            let message = "a namespace begins with /, has one * at most, and neither , nor ? nor #";
            self.check(&at, is_namespace(path), message);
            let is_granted = written.grants.namespace(path);
            let message = format!(
                "the plugin may not serve {path:?}: add \"namespace:{path}\" to its grants"
            );
            self.check(&at, is_granted || !is_namespace(path), &message);
        }
        if let Some(path) = not_in_json(&written.config) {
            let path = [key(&format!("{at}.config")), path].concat();
            let message = "the plugin gets this as JSON, which knows no nan and no inf";
            self.problems.invalid(path, message);
        }
        let own_budget = written.budget.0.over(budget);
        // Without overrides it is as good as [budget], which is checked by itself.
        if written.budget.0 != BudgetFile::default() {
            self.check_budget(
                &format!("{at}.budget"),
                &written.budget.0,
                &own_budget,
                runtime,
            );
        }
        let webhook = self.webhook(&format!("{at}.webhook"), written.webhook.0);
        let http = self.http_rules(&format!("{at}.http"), written.http);
        let (path, pulled_from) = self.pulled_from(
            at,
            path,
            written.credentials_env,
            written.signed_by,
            runtime,
        );
        let build_at = format!("{at}.build");
        let is_blank = |build: &String| build.trim().is_empty();
        let message = "it is empty: say what builds the plugin";
        self.check(
            &build_at,
            !written.build.as_ref().is_some_and(is_blank),
            message,
        );
        let message = "build needs source, the folder that it runs in";
        let has_folder = written.build.is_none() || written.source.is_some();
        self.check(&build_at, has_folder, message);
        let source = self.path(&format!("{at}.source"), written.source);
        let config = serde_json::to_string(&written.config)
            .expect("keys are strings and all values have a JSON form");
        Some(Plugin {
            name: name?,
            path: path?,
            pulled_from,
            source,
            build: written.build,
            enabled: written.enabled.unwrap_or(true),
            grants: written.grants,
            guards: written.guards,
            http,
            config,
            budget: own_budget,
            on_failure: written.on_failure,
            on_excess: written.on_excess,
            shared_limits: written.shared_limits,
            filter: written.filter.0,
            webhook,
        })
    }

    /// The file of a plugin and where it comes from, if that is a registry.
    fn pulled_from(
        &mut self,
        at: &str,
        path: Option<PathBuf>,
        credentials_env: Option<String>,
        signed_by: Option<String>,
        runtime: &Runtime,
    ) -> (Option<PathBuf>, Option<PulledFrom>) {
        let (path_at, env_at) = (format!("{at}.path"), format!("{at}.credentials_env"));
        let signed_at = format!("{at}.signed_by");
        let text = path.as_ref().and_then(|path| path.to_str());
        let Some(text) = text.filter(|text| text.starts_with(oci::SCHEME)) else {
            let message = "credentials_env is of no use without a path that begins with oci://";
            self.check(&env_at, credentials_env.is_none(), message);
            let message = "signed_by is of no use without a path that begins with oci://";
            self.check(&signed_at, signed_by.is_none(), message);
            return (self.path(&path_at, path), None);
        };
        let reference: Reference = match text.parse() {
            Ok(reference) => reference,
            Err(reason) => {
                self.check(&path_at, false, &reason);
                return (path, None);
            }
        };
        let Some(cache) = &runtime.cache else {
            let message = "what is pulled has no place: name a folder in [runtime] cache";
            self.check(&path_at, false, message);
            return (path, None);
        };
        let signed_by = match signed_by.as_deref().map(Signer::from_str).transpose() {
            Ok(signed_by) => signed_by,
            Err(reason) => {
                self.check(&signed_at, false, reason);
                return (path, None);
            }
        };
        let file = reference.file(&cache.join(PULLED), signed_by.as_ref());
        let credentials = credentials_env.and_then(|variable| {
            let value = self.environment.get(&variable);
            let message = format!("the environment variable {variable} is not set");
            self.check(&env_at, value.is_some(), &message);
            value.map(|value| Secret::new(value.to_string_lossy()))
        });
        let pulled_from = PulledFrom {
            reference,
            credentials,
            signed_by,
        };
        (Some(file), Some(pulled_from))
    }

    fn webhook(&mut self, at: &str, written: WebhookFile) -> Webhook {
        let defaults = Webhook::default();
        let max_body = written.max_body.unwrap_or(defaults.max_body);
        self.check(
            &format!("{at}.max_body"),
            max_body > Size::new(0),
            MORE_THAN_ZERO,
        );
        let variables = match written.secret_env {
            None => Vec::new(),
            Some(OneOrMore::One(variable)) => vec![variable],
            Some(OneOrMore::More(variables)) => variables,
        };
        let (verify_at, env_at) = (format!("{at}.verify"), format!("{at}.secret_env"));
        let Some(scheme) = written.verify else {
            let message = "secret_env is of no use without verify";
            self.check(&env_at, variables.is_empty(), message);
            return Webhook {
                verification: None,
                max_body,
                limit: written.limit.unwrap_or(defaults.limit),
            };
        };
        let message = "verify needs secret_env, which names the variable with the secret";
        self.check(&verify_at, !variables.is_empty(), message);
        let mut secrets = Vec::with_capacity(variables.len());
        let mut missing = Vec::new();
        for variable in variables {
            let Some(value) = self.environment.get(&variable) else {
                missing.push(variable);
                continue;
            };
            let secret = Secret::new(value.to_string_lossy());
            let message =
                format!("the environment variable {variable} holds no secret of this scheme");
            self.check(&env_at, is_secret(scheme, &secret), &message);
            secrets.push(secret);
        }
        let max_age = written.max_age.map_or(Webhook::MAX_AGE, |time| time.0);
        let remember = written.remember.map_or(Webhook::REMEMBER, |time| time.0);
        // A signature of a clock that is ahead by max_age is good for twice as long.
        let message = "must be max_age twice at least: clocks of senders may be ahead by it";
        let is_enough = remember / 2 >= max_age;
        self.check(&format!("{at}.remember"), is_enough, message);
        Webhook {
            verification: Some(Verification {
                scheme,
                secrets,
                missing,
                max_age,
                remember,
            }),
            max_body,
            limit: written.limit.unwrap_or(defaults.limit),
        }
    }

    pub(super) fn check_budget(
        &mut self,
        at: &str,
        written: &BudgetFile,
        budget: &Budget,
        runtime: &Runtime,
    ) {
        for (name, size) in [
            ("memory", budget.memory),
            ("boundary", budget.boundary),
            ("file", budget.file),
        ] {
            self.check(&format!("{at}.{name}"), size > Size::new(0), MORE_THAN_ZERO);
        }
        self.check(
            &format!("{at}.compile"),
            !budget.compile.is_zero(),
            MORE_THAN_ZERO,
        );
        self.check(
            &format!("{at}.migration"),
            !budget.migration.is_zero(),
            MORE_THAN_ZERO,
        );
        for (name, count, least) in [
            ("instances", budget.instances, 1),
            ("asks", budget.asks.unwrap_or(0), 0),
            ("requests", budget.requests.unwrap_or(0), 0),
            ("host_calls", budget.host_calls, 0),
            ("effects", budget.effects, 0),
        ] {
            self.check_count(&format!("{at}.{name}"), count, least..=MANY);
        }
        let message = format!(
            "must be at least one runtime.tick ({})",
            duration::display(runtime.tick)
        );
        self.check(&format!("{at}.cpu"), budget.cpu >= runtime.tick, &message);
        // Said about the one that was written, if only one was.
        let (name, message) = match written.wall {
            Some(_) => (
                "wall",
                format!(
                    "must not be less than cpu ({})",
                    duration::display(budget.cpu)
                ),
            ),
            None => (
                "cpu",
                format!(
                    "must not be more than wall ({})",
                    duration::display(budget.wall)
                ),
            ),
        };
        self.check(&format!("{at}.{name}"), budget.cpu <= budget.wall, &message);
    }
}

/// The path of a number that JSON cannot write; serde_json would make null of it.
fn not_in_json(dict: &Dict) -> Option<KeyPath> {
    dict.iter()
        .find_map(|(key, value)| within(key, not_in_json_value(value)))
}

fn not_in_json_value(value: &Value) -> Option<KeyPath> {
    match value {
        Value::Num(_, number) => number
            .to_f64()
            .filter(|number| !number.is_finite())
            .map(|_| KeyPath::new()),
        Value::Dict(_, dict) => not_in_json(dict),
        Value::Array(_, values) => values
            .iter()
            .enumerate()
            .find_map(|(index, value)| within(&index.to_string(), not_in_json_value(value))),
        _ => None,
    }
}

fn within(step: &str, path: Option<KeyPath>) -> Option<KeyPath> {
    let mut path = path?;
    path.insert(0, step.into());
    Some(path)
}

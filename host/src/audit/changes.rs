//! What one configuration changes of another that was in force: who may do what.

use super::{Entry, shown};
use crate::{
    config::{ApiKey, Config},
    grant::Grants,
};

/// Has `write` write it.
pub(super) fn between(
    former: &Config,
    new: &Config,
    restart: Vec<&'static str>,
    mut write: impl FnMut(Entry<'_>),
) {
    write(Entry::ConfigServes {
        tables: tables(former, new),
        restart,
    });
    for plugin in &new.plugins {
        let same = former.plugins.iter().find(|it| it.name == plugin.name);
        let Some(same) = same else { continue };
        let (added, removed) = difference(&same.grants, &plugin.grants);
        if !added.is_empty() || !removed.is_empty() {
            let plugin = &plugin.name;
            write(Entry::GrantsChanged {
                plugin,
                added,
                removed,
            });
        }
    }
    let named = |keys: &'_ [ApiKey], name: &str| keys.iter().position(|key| key.name == name);
    for gone in &former.api.keys {
        if named(&new.api.keys, &gone.name).is_none() {
            write(Entry::KeyRemoved { key: &gone.name });
        }
    }
    for key in &new.api.keys {
        match named(&former.api.keys, &key.name).map(|at| &former.api.keys[at]) {
            None => write(Entry::KeyAdded {
                key: &key.name,
                rights: shown(key.rights.iter()),
            }),
            Some(same) if same != key => {
                let (added, removed) = difference(&same.rights, &key.rights);
                write(Entry::KeyChanged {
                    key: &key.name,
                    added,
                    removed,
                    replaced: same.keys != key.keys,
                });
            }
            Some(_) => {}
        }
    }
}

/// What is in the new ones and not in the former, and what is in those only.
fn difference(former: &Grants, new: &Grants) -> (Vec<String>, Vec<String>) {
    let (former, new) = (shown(former.iter()), shown(new.iter()));
    let without = |all: &[String], others: &[String]| {
        let missing = all.iter().filter(|it| !others.contains(it));
        missing.cloned().collect::<Vec<_>>()
    };
    (without(&new, &former), without(&former, &new))
}

/// The tables that differ.
fn tables(former: &Config, new: &Config) -> Vec<&'static str> {
    // Taken apart whole, so that nobody adds one that is forgotten here.
    let Config {
        listen,
        tls,
        log,
        audit,
        auth,
        payments,
        cors,
        socket,
        api,
        admin,
        web,
        console,
        runtime,
        budget,
        limits,
        breaker,
        recovery,
        presence,
        history,
        store,
        cluster,
        shutdown,
        telemetry,
        reload,
        plugins,
    } = former;
    let differ = [
        ("listen", *listen != new.listen),
        ("tls", *tls != new.tls),
        ("log", *log != new.log),
        ("audit", *audit != new.audit),
        ("auth", *auth != new.auth),
        ("payments", *payments != new.payments),
        ("cors", *cors != new.cors),
        ("socket", *socket != new.socket),
        ("api", *api != new.api),
        ("admin", *admin != new.admin),
        ("web", *web != new.web),
        ("console", *console != new.console),
        ("runtime", *runtime != new.runtime),
        ("budget", *budget != new.budget),
        ("limits", *limits != new.limits),
        ("breaker", *breaker != new.breaker),
        ("recovery", *recovery != new.recovery),
        ("presence", *presence != new.presence),
        ("history", *history != new.history),
        ("store", *store != new.store),
        ("cluster", *cluster != new.cluster),
        ("shutdown", *shutdown != new.shutdown),
        ("telemetry", *telemetry != new.telemetry),
        ("reload", *reload != new.reload),
        ("plugins", *plugins != new.plugins),
    ];
    let differ = differ.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(name, _)| name).collect()
}

//! The shipped `mixlab.toml` is the reference of all keys, so it is held against the code.

use std::fs;
use std::path::Path;

use figment::error::Kind;
use figment::value::{Dict, Value};
use serde::Deserialize;

use super::super::file::{ApiFile, CertificateFile, ConfigFile, KeyFile, PluginFile, TlsFile};
use super::super::locate::Document;
use super::super::problem::key;
use super::super::sections::admin::AdminFile;
use super::super::sections::budget::BudgetFile;
use super::super::sections::telemetry::TelemetryFile;
use super::super::*;
use super::load;

fn shipped() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../mixlab.toml")).unwrap()
}

/// The keys that a table takes, from serde's complaint about one that it does not.
fn keys_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let unknown: Value = Dict::from([("no such key".to_owned(), Value::from(1))]).into();
    match unknown.deserialize::<T>().err().map(|error| error.kind) {
        Some(Kind::UnknownField(_, known)) => known,
        other => panic!("unknown keys are not refused: {other:?}"),
    }
}

/// The file with every commented-out key switched on.
fn switched_on() -> String {
    let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let switch_on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if is_key(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    shipped()
        .lines()
        .map(switch_on)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_key_is_in_the_shipped_file() {
    let document = Document::parse(Path::new("mixlab.toml"), &switched_on()).unwrap();
    let tables = [
        ("", keys_of::<ConfigFile>()),
        ("tls.", keys_of::<TlsFile>()),
        ("log.", keys_of::<Log>()),
        ("audit.", keys_of::<Audit>()),
        ("auth.", keys_of::<Auth>()),
        ("payments.", keys_of::<Payments>()),
        ("cors.", keys_of::<Cors>()),
        ("socket.", keys_of::<Socket>()),
        ("api.", keys_of::<ApiFile>()),
        ("admin.", keys_of::<AdminFile>()),
        ("web.", keys_of::<Web>()),
        ("console.", keys_of::<Console>()),
        ("runtime.", keys_of::<Runtime>()),
        ("budget.", keys_of::<BudgetFile>()),
        ("limits.", keys_of::<Limits>()),
        ("breaker.", keys_of::<Breaker>()),
        ("recovery.", keys_of::<Recovery>()),
        ("presence.", keys_of::<Presence>()),
        ("history.", keys_of::<History>()),
        ("store.", keys_of::<Store>()),
        ("cluster.", keys_of::<Cluster>()),
        ("shutdown.", keys_of::<Shutdown>()),
        ("telemetry.", keys_of::<TelemetryFile>()),
        ("reload.", keys_of::<Reload>()),
        ("plugins.0.", keys_of::<PluginFile>()),
    ];
    // A section that is added without a line here.
    let sections = tables
        .iter()
        .filter(|(table, _)| table.ends_with('.'))
        .count();
    assert_eq!(
        sections,
        keys_of::<ConfigFile>().len() - 1,
        "all but listen are sections"
    );
    for (table, keys) in tables {
        for name in keys {
            assert!(
                document.has(&key(&format!("{table}{name}"))),
                "{table}{name} is missing"
            );
        }
    }
    for name in keys_of::<CertificateFile>() {
        let at = format!("tls.certificates.0.{name}");
        assert!(document.has(&key(&at)), "{at} is missing");
    }
    for name in keys_of::<KeyFile>() {
        let is_there = |index| document.has(&key(&format!("api.keys.{index}.{name}")));
        assert!(is_there(0) || is_there(1), "api.keys {name} is missing");
    }
}

#[test]
fn every_key_of_the_shipped_file_is_explained() {
    let text = shipped();
    let mut above = "";
    // Examples of tables in a list are explained once, before or in the first.
    for line in text
        .lines()
        .take_while(|line| !line.contains("\"booking\""))
    {
        let is_key = line
            .trim_start_matches('#')
            .split_once(" = ")
            .is_some_and(|(key, _)| !key.contains(' '));
        let in_example =
            above.starts_with("#[[") || above.starts_with("#name") || above.starts_with("#key");
        assert!(
            !is_key || in_example || above.starts_with("# "),
            "no explanation above: {line}"
        );
        above = line;
    }
}

#[test]
fn commented_out_keys_are_the_defaults() {
    const FILE: &str = "target/plugins/custom-event.wasm";
    let component = format!("oci://ghcr.io/example/talk@sha256:{}", "0".repeat(64));
    // Without these, the examples of [auth] and of credentials for a registry are refused.
    let text = switched_on()
        .replace("check_origins = false", "check_origins = true")
        .replace(FILE, &component);
    let mut config = load(
        &text,
        &[
            ("BILLING_KEY", "k"),
            ("WEBHOOK_SECRET", "whsec_AAAA"),
            ("COLLECTOR_TOKEN", "t"),
            ("GHCR_CREDENTIALS", "user:password"),
        ],
        None,
    )
    .unwrap();
    // These have no default, as the file says; what stands there must have been an example.
    assert!(config.auth.issuer.take().is_some());
    assert!(config.auth.audience.take().is_some());
    assert!(config.auth.cookie.take().is_some());
    config.cors.check_origins = false;
    assert!(config.auth.header.take().is_some());
    assert!(config.audit.path.take().is_some());
    assert!(config.runtime.cache.take().is_some());
    assert!(config.socket.cookie.take().is_some());
    assert!(config.socket.max_sessions.take().is_some());
    assert!(config.socket.max_sessions_per_address.take().is_some());
    assert!(config.socket.max_namespaces_per_address.take().is_some());
    assert!(config.socket.max_connections_per_address.take().is_some());
    assert!(config.presence.grace.take().is_some());
    assert!(config.cluster.url.take().is_some());
    assert!(config.cluster.address.take().is_some());
    assert!(config.cluster.secret.take().is_some());
    assert!(config.shutdown.drain.take().is_some());
    assert!(config.store.on.take().is_some());
    assert!(config.budget.asks.take().is_some());
    assert!(config.budget.requests.take().is_some());
    assert!(config.limits.socket.take().is_some());
    assert!(config.limits.user.take().is_some());
    assert!(config.limits.ip.take().is_some());
    assert!(config.limits.connections.take().is_some());
    assert!(config.web.root.take().is_some());
    assert!(config.web.client.take().is_some());
    let admin = config.admin.take().unwrap();
    assert!(admin.readonly && admin.namespace == "/admin" && admin.mode == AdminMode::default());
    assert!(config.telemetry.endpoint.take().is_some());
    assert_eq!(std::mem::take(&mut config.telemetry.headers).len(), 1);
    assert_eq!(std::mem::take(&mut config.telemetry.resource).len(), 1);
    let tls = config.tls.take().unwrap();
    assert_eq!(tls.certificates.len(), 2);
    assert_eq!(tls.min_version, TlsVersion::default());
    assert_eq!(tls.handshake_timeout, Tls::HANDSHAKE_TIMEOUT);
    assert!(tls.redirect_from.is_some() && tls.redirect_port.is_some() && tls.hsts.is_some());
    assert_eq!(std::mem::take(&mut config.api.keys).len(), 2);
    let mut plugins = std::mem::take(&mut config.plugins);
    for plugin in &mut plugins {
        assert!(plugin.budget.asks.take().is_some());
        assert!(plugin.budget.requests.take().is_some());
    }
    assert!(plugins[0].build.take().is_some());
    assert!(plugins[0].on_excess.take().is_some());
    assert!(plugins[0].webhook.verification.take().is_some());
    let pulled_from = plugins[0].pulled_from.take().unwrap();
    assert!(pulled_from.credentials.is_some());
    plugins[0].path = FILE.into();
    assert_eq!(config, Config::default());
    assert_eq!(plugins, load(&shipped(), &[], None).unwrap().plugins);
}

#[test]
fn the_shipped_file_switches_on_the_shipped_plugins() {
    let config = load(&shipped(), &[], None).unwrap();
    let [custom_event, booking, quiz, chat, payments] = &config.plugins[..] else {
        panic!("five plugins")
    };

    assert_eq!(custom_event.name, "custom-event");
    assert_eq!(
        custom_event.path,
        Path::new("target/plugins/custom-event.wasm")
    );
    assert_eq!(
        custom_event.source.as_deref(),
        Some(Path::new("plugins/custom-event"))
    );
    assert!(custom_event.enabled && custom_event.grants.emit("custom_response"));
    assert!(!custom_event.grants.emit("other") && !custom_event.grants.any_room());

    assert_eq!(booking.name, "booking");
    assert_eq!(booking.path, Path::new("target/plugins/booking.wasm"));
    assert!(booking.grants.role("admin", Some("new_booking")) && booking.grants.notify("7"));
    assert!(!booking.grants.role("admin", Some("other")) && !booking.grants.any_emit());

    assert_eq!(quiz.name, "quiz");
    assert!(quiz.grants.store() && quiz.grants.timers() && quiz.grants.room("quiz:a"));
    assert!(!quiz.grants.room("other") && !quiz.grants.everyone());

    assert_eq!(chat.name, "chat");
    assert!(chat.grants.presence("chat:a") && chat.grants.history("chat:a"));
    assert!(!chat.grants.presence("other") && !chat.grants.store());

    assert_eq!(payments.name, "payments");
    assert!(payments.grants.payments() && payments.grants.store());
    // A newcomer has no secret, and is told.
    let verification = payments.webhook.verification.as_ref().unwrap();
    assert_eq!(verification.missing, ["PAYMENTS_SECRET"]);
    assert!(matches!(&config.doubts()[..], [doubt] if doubt.contains("PAYMENTS_SECRET")));

    assert_eq!(config.web.root.as_deref(), Some(Path::new("examples/web")));
}

//! The environment, the meaning of what was written, and the shipped file. Mistakes in the file
//! are cases in `tests/config/invalid`.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::access::Access;
use crate::grant::Grants;
use crate::units::Size;

mod shipped;

/// Loads a file of this text, in a folder of its own, which messages leave out.
fn load(text: &str, variables: &[(&str, &str)], listen: Option<&str>) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixlab.toml");
    fs::write(&path, text).unwrap();
    let variables = variables
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    let overrides = Overrides {
        listen: listen.map(Into::into),
    };
    let prefix = format!("{}/", folder.path().display());
    let mut config = Config::load_with(&path, overrides, variables)
        .map_err(|e| e.to_string().replace(&prefix, ""))?;

    let relative = |path: &mut PathBuf| {
        if let Ok(rest) = path.strip_prefix(folder.path()) {
            *path = rest.into();
        }
    };
    for plugin in &mut config.plugins {
        relative(&mut plugin.path);
        plugin.source.iter_mut().for_each(relative);
    }
    relative(&mut config.store.path);
    [
        &mut config.web.root,
        &mut config.web.client,
        &mut config.runtime.cache,
    ]
    .into_iter()
    .flatten()
    .for_each(relative);
    Ok(config)
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(load("", &[], None), Ok(Config::default()));
}

#[test]
fn environment_wins_over_the_file_and_the_command_line_over_both() {
    let file = "listen = \"127.0.0.1:1\"\n[socket]\nping_interval = \"1s\"\nping_timeout = \"2s\"";
    let variables = [
        ("MIXLAB_LISTEN", "127.0.0.1:2"),
        ("MIXLAB_SOCKET__PING_INTERVAL", "10s"),
    ];

    let config = load(file, &[], None).unwrap();
    assert_eq!(
        (config.listen.port(), config.socket.ping_interval),
        (1, Duration::from_secs(1))
    );

    let config = load(file, &variables, None).unwrap();
    assert_eq!(
        (config.listen.port(), config.socket.ping_interval),
        (2, Duration::from_secs(10))
    );
    assert_eq!(
        config.socket.ping_timeout,
        Duration::from_secs(2),
        "the rest of the section stays"
    );

    let config = load(file, &variables, Some("[::1]:3")).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:3");
}

#[test]
fn a_variable_may_be_of_any_type() {
    let config = load(
        "",
        &[
            ("MIXLAB_LISTEN", "[::1]:3000"),
            ("MIXLAB_AUTH__ANONYMOUS", "false"),
            ("MIXLAB_AUTH__ID_CLAIMS", "[uid, sub]"),
            ("MIXLAB_AUTH__AUDIENCE", "42"),
            ("MIXLAB_AUTH__ISSUER", "true"),
            ("MIXLAB_PAYMENTS__SUBSCRIBE", "[admin]"),
            ("MIXLAB_SOCKET__QUEUE", "7"),
            ("MIXLAB_SOCKET__MAX_PAYLOAD", "4096"),
            ("MIXLAB_WEB__ROOT", "2026"),
            (
                "MIXLAB_API__KEYS",
                "[{name=billing,key=k,rights=[payments]}]",
            ),
        ],
        None,
    )
    .unwrap();
    assert_eq!(config.listen.host(), "::1");
    assert!(!config.auth.anonymous);
    assert_eq!(config.auth.id_claims, ["uid", "sub"]);
    assert_eq!(
        config.auth.audience.as_deref(),
        Some("42"),
        "digits are a string where one is wanted"
    );
    assert_eq!(config.auth.issuer.as_deref(), Some("true"));
    assert_eq!(
        config.payments.subscribe,
        Access::Roles(["admin".into()].into())
    );
    assert_eq!(config.socket.queue, 7);
    assert_eq!(config.socket.max_payload, Size::new(4096));
    assert_eq!(config.web.root, Some("2026".into()));
    assert_eq!(config.api.keys[0].name, "billing");
}

#[test]
fn a_wrong_variable_is_refused_by_its_name() {
    for (name, value, message) in [
        (
            "MIXLAB_SOCKET__PING_INTERVAL",
            "30",
            r#"MIXLAB_SOCKET__PING_INTERVAL: invalid duration 30: expected a number with a unit, like "30s""#,
        ),
        (
            "MIXLAB_SOCKET__PNG_INTERVAL",
            "30s",
            "MIXLAB_SOCKET__PNG_INTERVAL: unknown key (did you mean MIXLAB_SOCKET__PING_INTERVAL?)",
        ),
        (
            "MIXLAB_SOKET__PING_INTERVAL",
            "30s",
            "MIXLAB_SOKET__PING_INTERVAL: unknown key (did you mean MIXLAB_SOCKET__PING_INTERVAL?)",
        ),
        (
            "MIXLAB_WEB__FOO",
            "x",
            r#"MIXLAB_WEB__FOO: unknown key "foo"; known: "root", "client""#,
        ),
        (
            "MIXLAB_SOCKET__QUEUE",
            "many",
            "MIXLAB_SOCKET__QUEUE: expected a whole number that is not negative, found a string",
        ),
        (
            "MIXLAB_SOCKET__QUEUE",
            "-1",
            "MIXLAB_SOCKET__QUEUE: expected a whole number that is not negative, found the number -1",
        ),
        (
            "MIXLAB_SOCKET__QUEUE",
            "0",
            "MIXLAB_SOCKET__QUEUE: must be more than 0",
        ),
        (
            "MIXLAB_TLS__REDIRECT_PORT",
            "many",
            "MIXLAB_TLS__REDIRECT_PORT: expected a whole number from 0 to 65535, found a string",
        ),
        (
            "MIXLAB_AUTH__ISSUERS",
            "[1]",
            "MIXLAB_AUTH__ISSUERS: expected a table, found the number 1",
        ),
        (
            "MIXLAB_AUTH__ID_CLAIMS",
            "sub",
            "MIXLAB_AUTH__ID_CLAIMS: expected a list, found a string",
        ),
        (
            "MIXLAB_AUTH__SECRET",
            "x",
            "MIXLAB_AUTH__SECRET: unknown key; the variable for the secret is JWT_SECRET",
        ),
        (
            "MIXLAB_PLUGINS__0__ENABLED",
            "false",
            "MIXLAB_PLUGINS__0__ENABLED: plugins are configured in the file only",
        ),
        (
            "MIXLAB_BUDGET__CPU",
            "10s",
            "MIXLAB_BUDGET__CPU: must not be more than wall (5s)",
        ),
        ("JWT_SECRET", "", "JWT_SECRET: is set, but empty"),
        ("MIXLAB_API_KEY", "", "MIXLAB_API_KEY: is set, but empty"),
        (
            "MIXLAB_API_KEY",
            "two words",
            "MIXLAB_API_KEY: a key is sent in an HTTP header: expected visible ASCII characters without spaces",
        ),
        (
            "MIXLAB_LISTEN",
            "",
            r#"MIXLAB_LISTEN: invalid address "": expected host:port, like "127.0.0.1:3000""#,
        ),
    ] {
        assert_eq!(load("", &[(name, value)], None).unwrap_err(), message);
    }
    let error = load("", &[("MIXLAB_LISTEN", "localhost:1")], Some("nowhere")).unwrap_err();
    assert_eq!(
        error,
        r#"--listen: invalid address "nowhere": expected host:port, like "127.0.0.1:3000""#
    );
}

#[test]
fn other_variables_are_left_alone() {
    let others = [
        ("MIXLAB_HOME", "x"),
        ("MIXLAB_LOG", "debug"),
        ("OTHER_SOCKET__PATH", "x"),
        ("PATH", "/bin"),
    ];
    assert_eq!(load("", &others, None), Ok(Config::default()));
}

#[test]
fn a_mistake_in_the_file_comes_before_one_in_the_environment() {
    let error = load("\nlisen = \"x\"", &[("MIXLAB_API__FOO", "x")], None).unwrap_err();
    assert_eq!(
        error,
        r#"mixlab.toml:2: unknown key "lisen" (did you mean "listen"?)"#
    );
}

#[test]
fn secrets_come_from_the_environment_and_are_never_shown() {
    let file = r#"
        [[api.keys]]
        name = "billing"
        key_env = "BILLING_KEY"
        rights = ["payments"]
    "#;
    let variables = [
        ("JWT_SECRET", "hush-1"),
        ("MIXLAB_API_KEY", "hush-2"),
        ("BILLING_KEY", "hush-3"),
    ];
    let config = load(file, &variables, None).unwrap();
    assert_eq!(config.auth.secret.as_ref().unwrap().expose(), "hush-1");
    let keys: Vec<_> = config
        .api
        .keys
        .iter()
        .map(|key| {
            (
                key.name.as_str(),
                key.keys[0].clear.as_ref().unwrap().expose(),
            )
        })
        .collect();
    assert_eq!(keys, [("billing", "hush-3"), ("MIXLAB_API_KEY", "hush-2")]);
    assert_eq!(config.api.keys[0].keys[0].hash, KeyHash::of(b"hush-3"));
    assert!(config.api.keys[0].rights.payments() && !config.api.keys[0].rights.clients());
    assert_eq!(config.api.keys[1].rights, Grants::all());

    let shown = format!("{config:?}");
    assert!(
        shown.contains("[redacted]") && !shown.contains("hush"),
        "{shown}"
    );

    let same = [("MIXLAB_API_KEY", "hush"), ("BILLING_KEY", "hush")];
    assert_eq!(
        load(file, &same, None).unwrap_err(),
        r#"MIXLAB_API_KEY: is the same key as "billing" in the file"#
    );
}

#[test]
fn a_plugin_has_its_own_budget_over_the_common_one() {
    let config = load(
        r#"
        [budget]
        cpu = "20ms"
        effects = 5
        [[plugins]]
        name = "a"
        path = "a.wasm"
        budget = { cpu = "10ms", instances = 1 }
        [[plugins]]
        name = "b"
        path = "b.wasm"
        "#,
        &[],
        None,
    )
    .unwrap();
    let [a, b] = &config.plugins[..] else {
        panic!("two plugins")
    };
    assert_eq!(
        (a.budget.cpu, a.budget.effects, a.budget.instances),
        (Duration::from_millis(10), 5, 1)
    );
    assert_eq!(b.budget, config.budget);
    assert_eq!(
        (b.budget.cpu, b.budget.wall),
        (Duration::from_millis(20), Budget::default().wall)
    );
}

#[test]
fn a_plugin_gets_its_config_as_json() {
    let config = load(
        r#"
        [[plugins]]
        name = "a"
        path = "dir/a.wasm"
        enabled = false
        [plugins.config]
        text = "t"
        list = [1, 2.5, true]
        day = 2026-01-31
        table = { key = "k" }
        [[plugins]]
        name = "b"
        path = "/b.wasm"
        source = "b"
        "#,
        &[],
        None,
    )
    .unwrap();
    let [a, b] = &config.plugins[..] else {
        panic!("two plugins")
    };
    assert_eq!(
        a.config,
        r#"{"day":"2026-01-31","list":[1,2.5,true],"table":{"key":"k"},"text":"t"}"#
    );
    assert_eq!((a.path.to_str(), a.enabled), (Some("dir/a.wasm"), false));
    assert_eq!((b.config.as_str(), b.enabled), ("{}", true));
    assert_eq!(
        (b.path.to_str(), b.source.as_deref()),
        (Some("/b.wasm"), Some(Path::new("b")))
    );
}

#[test]
fn compiled_code_is_cached_in_a_folder_of_the_user() {
    for (file, variables, expected) in [
        (
            "",
            &[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")][..],
            Some("/x/mixlab"),
        ),
        (
            "",
            &[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")],
            Some("/h/.cache/mixlab"),
        ),
        ("", &[("HOME", "/h")], Some("/h/.cache/mixlab")),
        ("", &[], None),
        (
            "[runtime]\ncache = \"here\"",
            &[("HOME", "/h")],
            Some("here"),
        ),
    ] {
        let config = load(file, variables, None).unwrap();
        assert_eq!(
            config.runtime.cache.as_deref(),
            expected.map(Path::new),
            "{variables:?}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let load = |path: &Path| Config::load_with(path, Overrides::default(), []).unwrap_err();
    let missing = load(&folder.path().join("mixlab.toml")).to_string();
    assert!(
        missing.ends_with("mixlab.toml: no such file; name another with --config"),
        "{missing}"
    );
    assert!(matches!(
        load(folder.path()),
        ConfigError::Unreadable { .. }
    ));
}

#[test]
fn a_changed_key_that_needs_a_restart_is_named() {
    let old = Config::default();
    assert!(old.restart_needed(&old).is_empty());
    for (text, keys) in [
        ("listen = \"127.0.0.1:1\"", &["listen"][..]),
        (
            "[socket]\nqueue = 1\npath = \"/x\"\nsend_buffer = 1",
            &["socket.path", "socket.send_buffer"],
        ),
        (
            "[cors]\nallowed_origins = [\"http://a\"]\ncheck_origins = true",
            &[],
        ),
        ("[web]\nroot = \"x\"", &["web.root"]),
        ("[runtime]\nthreads = 1", &["runtime.threads"]),
        ("[log]\nlevel = \"debug\"", &["log.level"]),
        (
            "[auth]\nanonymous = false\n[budget]\ncpu = \"1s\"\n[reload]\ndrain = \"1s\"",
            &[],
        ),
        ("[[plugins]]\nname = \"a\"\npath = \"a\"", &[]),
        (
            "[payments]\nsubscribe = \"anyone\"\n[api]\nmax_body = 1",
            &[],
        ),
    ] {
        let new = load(text, &[], None).unwrap();
        assert_ne!(new, old, "{text}");
        assert_eq!(old.restart_needed(&new), keys, "{text}");
        let in_force = old.in_force(&new);
        assert!(old.restart_needed(&in_force).is_empty(), "{text}");
        assert_eq!(in_force.restart_needed(&new), keys, "{text}");
        assert_eq!(in_force == new, keys.is_empty(), "{text}");
    }
}

#[test]
fn a_secret_of_webhooks_that_is_not_set_is_doubted_with_what_follows() {
    for (enabled, variables, expected) in [
        (true, &[][..], &["refused with 503"; 2][..]),
        (true, &[("FORMER", "s")], &["the other secrets only"]),
        (true, &[("FORMER", "s"), ("NEW", "t")], &[]),
        (false, &[], &[]),
    ] {
        let text = format!(
            r#"
            [[plugins]]
            name = "shop"
            path = "shop.wasm"
            enabled = {enabled}
            webhook = {{ verify = "github", secret_env = ["NEW", "FORMER"] }}
            "#
        );
        let doubts = load(&text, variables, None).unwrap().doubts();
        assert_eq!(doubts.len(), expected.len(), "{doubts:?}");
        for (doubt, expected) in doubts.iter().zip(expected) {
            assert!(
                doubt.contains("of the plugin \"shop\" is not set"),
                "{doubt}"
            );
            assert!(doubt.contains(expected), "{doubt}");
        }
    }
}

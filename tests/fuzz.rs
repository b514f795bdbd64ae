//! Nothing that comes from outside makes the host panic or hang: packets, `mixlab.toml`, rates,
//! components.
//!
//! Bounded by default; `PROPTEST_CASES=100000 cargo test --test fuzz` runs longer.

use std::{fs, path::Path, sync::OnceLock};

use mixlab::{
    config::{Config, Overrides},
    grant::Grant,
    inspection::{Settings, inspect},
    message::{Arguments, push_event, split_event},
    units::{Rate, Size, duration},
};
use proptest::{collection::vec, prelude::*};

const SHIPPED: &str = include_str!("../mixlab.toml");

/// Pieces of JSON and of things that are nearly JSON.
fn jsonish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("\\"),
        Just("\\u00"),
        Just("\\ud83d"),
        Just("\"event\""),
        Just("null"),
        Just("1e999"),
        Just("-0"),
        Just("18446744073709551616"),
        Just(" "),
        Just("\u{0}"),
        Just("😀"),
        Just("{\"_placeholder\":true,\"num\":0}"),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Replaces, removes and doubles some bytes.
fn mutated(bytes: &[u8], changes: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, what, with) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = at % bytes.len();
        match what % 4 {
            0 => bytes[at] = *with,
            1 => bytes.truncate(at),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, *with),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn packets_are_split_or_refused(packet in prop_oneof![jsonish(), any::<String>()]) {
        if let Ok((event, arguments)) = split_event(&packet) {
            let mut joined = Vec::new();
            push_event(&mut joined, &event, &arguments, None);
            let joined = String::from_utf8(joined).expect("it is text");
            let (again, same) = split_event(&joined).map(|(event, arguments)| (event.into_owned(), arguments)).expect("what was split joins again");
            prop_assert_eq!(again, event.into_owned());
            prop_assert_eq!(same.as_str(), arguments.as_str());
            prop_assert!(serde_json::from_str::<Vec<Box<serde_json::value::RawValue>>>(arguments.as_str()).is_ok());
        }
    }

    #[test]
    fn arguments_are_arrays_or_refused(text in prop_oneof![jsonish(), any::<String>()]) {
        if let Ok(arguments) = Arguments::parse(text) {
            prop_assert!(arguments.as_str().starts_with('[') && arguments.as_str().ends_with(']'));
        }
    }

    #[test]
    fn values_of_the_configuration_parse_or_are_refused(text in any::<String>()) {
        let _ = text.parse::<Rate>();
        let _ = text.parse::<Size>();
        let _ = text.parse::<Grant>();
        let _ = duration::parse(&text);
    }

    #[test]
    fn rates_are_read_as_they_are_written(count in 1u32..1_000_000_000, seconds in 1u64..100_000) {
        // Not more than a million a second.
        prop_assume!(u64::from(count) <= seconds * 1_000_000);
        let rate: Rate = format!("{count}/{seconds}s").parse().expect("it is a rate");
        prop_assert_eq!((rate.count(), rate.interval().as_secs()), (count, seconds));
        prop_assert_eq!(rate.to_string().parse::<Rate>().expect("it can be read again"), rate);
    }

    #[test]
    fn a_damaged_mixlab_toml_loads_or_is_refused_in_one_line(changes in vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..20)) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("mixlab.toml");
        // Comments hide most of the keys.
        let text = SHIPPED.replace("\n#", "\n");
        fs::write(&path, mutated(text.as_bytes(), &changes)).expect("the folder can be written to");
        if let Err(error) = Config::load_with(&path, Overrides::default(), []) {
            prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error);
        }
    }
}

proptest! {
    // Each case may compile a component.
    #![proptest_config(ProptestConfig { cases: (ProptestConfig::default().cases / 8).max(1), ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_component_is_refused(changes in vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..10)) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("plugin.wasm");
        fs::write(&path, mutated(component(), &changes)).expect("the folder can be written to");
        // Refused or not: some damage does not matter.
        let settings = Settings::of(&Config::default(), &[]);
        let _ = runtime().block_on(inspect(&path, &settings));
    }
}

fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins/custom-event.wasm");
        fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}: run `mixlab build`", path.display()))
    })
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime can be started"))
}

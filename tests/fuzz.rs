//! Nothing that comes from outside makes the host panic or hang: `mixlab.toml`, rates, components. What
//! clients send is tested beside what reads it.
//!
//! Bounded by default; `PROPTEST_CASES=100000 cargo test --test fuzz` runs longer.

use std::{fs, path::Path, sync::OnceLock};

use mixlab::{
    config::{Config, Overrides},
    grant::Grant,
    inspection::{Settings, inspect},
    units::{Rate, Size, duration},
};
use proptest::{collection::vec, prelude::*};

const SHIPPED: &str = include_str!("../mixlab.toml");

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

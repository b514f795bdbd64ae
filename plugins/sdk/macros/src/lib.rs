//! The attribute macro of `mixlab-plugin`, which re-exports it. A crate of its own, as every crate
//! that holds procedural macros is; without syn, so that it compiles in no time.
use proc_macro::TokenStream;

/// What `#[data]` derives if nothing is named.
const TRAITS: [&str; 3] = ["Serialize", "Deserialize", "JsonSchema"];

/// Makes a type one that travels as JSON: the data of an event, an ack or a configuration.
///
/// It derives `Serialize`, `Deserialize` and `JsonSchema`, or those of them that are named, where a
/// field has no more: `#[data(Serialize)]`. The crate of the plugin needs neither serde nor schemars
/// for that. Their attributes, such as `#[serde(default)]`, go below it.
#[proc_macro_attribute]
pub fn data(traits: TokenStream, item: TokenStream) -> TokenStream {
    let named = traits.to_string();
    let attributes = attributes(&named).parse::<TokenStream>();
    let attributes = attributes.expect("names of traits and constant text are Rust");
    attributes.into_iter().chain(item).collect()
}

/// The attributes that `#[data(named)]` stands for, or an error that says what may be named.
fn attributes(named: &str) -> String {
    let names: Vec<_> = named
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    if !names.iter().all(|name| TRAITS.contains(name)) {
        return format!(
            "::core::compile_error!(\"`data` derives {}; others go into #[derive(…)]\");",
            TRAITS.join(", ")
        );
    }
    let names = if names.is_empty() {
        TRAITS.to_vec()
    } else {
        names
    };
    let paths: Vec<_> = names
        .iter()
        .map(|name| format!("::mixlab_plugin::prelude::{name}"))
        .collect();
    let mut attributes = format!(
        "#[derive({})] #[serde(crate = \"::mixlab_plugin::serde\")]",
        paths.join(", ")
    );
    if names.contains(&"JsonSchema") {
        attributes.push_str("#[schemars(crate = \"::mixlab_plugin::schemars\")]");
    }
    attributes
}

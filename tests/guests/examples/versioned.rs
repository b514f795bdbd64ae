//! Answers with the version that its configuration names.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

#[derive(Clone, Copy, Deserialize, Serialize, JsonSchema)]
struct Version {
    version: u32,
}

fn plugin(config: &Config) -> Result<Plugin, String> {
    let version: Version = config.get()?;
    Ok(guest("versioned", |event| {
        event.handle_message(move |_: &Context, _| Ok(version))
    }))
}

//! Serves the namespaces of its `config`, answers with its name there and the connection's
//! namespace, and takes as long to let clients in as their auth object says.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin, connections);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    namespaces: Vec<String>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    ms: u64,
}

fn plugin(config: &Config) -> Result<Plugin, String> {
    let Settings { name, namespaces } = config.get()?;
    let plugin = guest("places", |event| {
        event.handle_message(move |cx: &Context, _| {
            Message::of(&(&name, &cx.connection().namespace)).map_err(Into::into)
        })
    })
    .on_connect(on_connect_takes_time);
    Ok(namespaces.into_iter().fold(plugin, Plugin::namespace))
}

fn on_connect_takes_time(cx: &Context, auth: Auth) -> Result<(), Rejection> {
    mixlab_plugin::log::info!("somebody comes to {}", cx.connection().namespace);
    busy_for(Duration::from_millis(auth.ms));
    Ok(())
}

//! Answers the event that its configuration names with `custom_response` and the ack, so that many
//! plugins can be had of one file.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    event: String,
    /// How often one connection may send it.
    limit: Option<String>,
}

fn plugin(config: &Config) -> Result<Plugin, String> {
    let Settings { event, limit } = config.get()?;
    Ok(guest(&event, |mut event| {
        if let Some(limit) = limit {
            event = event.limit(Scope::Socket, &limit);
        }
        event.handle_message(answer)
    }))
}

fn answer(cx: &Context, message: Message) -> Result<Message, Rejection> {
    cx.emit_message("custom_response", &message)?;
    Ok(message)
}

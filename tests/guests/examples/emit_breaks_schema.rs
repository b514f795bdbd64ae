//! Promises to emit a text and emits a number.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

const EVENT: &str = "emit_breaks_schema:seen";

fn plugin(_: &Config) -> Result<Plugin, String> {
    let plugin = guest("emit_breaks_schema", |event| {
        event.handle_message(emit_breaks_schema)
    });
    Ok(plugin.emits::<String>(EVENT))
}

fn emit_breaks_schema(cx: &Context, _: Message) -> Result<(), Rejection> {
    cx.emit(EVENT, &"a text")?;
    Ok(cx.emit(EVENT, &7)?)
}

//! Greets those who connect with their auth object, and tells the others of those who leave.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin, connections);

const ROOM: &str = "greets";

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("greets", |event| {
        event.handle_message(|cx: &Context, _| Ok(cx.connection().id.clone()))
    })
    .on_connect(on_connect)
    .on_disconnect(on_disconnect))
}

fn on_connect(cx: &Context, auth: Value) -> Result<(), Rejection> {
    cx.join(ROOM)?;
    Ok(cx.emit("greets:welcome", &auth)?)
}

/// What goes wrong here is of no use to anybody but the log.
fn on_disconnect(cx: &Context, reason: &str) {
    let left = (&cx.connection().id, reason);
    if let Err(error) = cx.to(ROOM).emit_args("greets:left", &left) {
        mixlab_plugin::log::error!("{error:?}");
    }
}

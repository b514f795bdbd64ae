//! Refuses clients whose auth object asks for the room `closed`.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin, connections);

fn plugin(_: &Config) -> Result<Plugin, String> {
    Ok(guest("on_connect_refuses", |event| {
        event.handle_message(|_: &Context, _| Ok(()))
    })
    .on_connect(on_connect_refuses))
}

#[derive(Deserialize)]
struct Auth {
    room: Option<String>,
}

fn on_connect_refuses(_: &Context, auth: Auth) -> Result<(), Rejection> {
    match auth.room.as_deref() {
        Some("closed") => Err(Rejection::new("room_closed", "The room is closed")),
        _ => Ok(()),
    }
}

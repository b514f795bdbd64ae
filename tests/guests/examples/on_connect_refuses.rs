//! Refuses clients whose auth object asks for the room `closed`, or for one with a `reason`: with that
//! and the room.
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
    reason: Option<String>,
}

fn on_connect_refuses(_: &Context, auth: Auth) -> Result<(), Refusal> {
    match (auth.room.as_deref(), auth.reason) {
        (Some("closed"), _) => Err(Rejection::new("room_closed", "The room is closed").into()),
        (room, Some(reason)) => Err(Refusal::new(reason).data(&room)),
        _ => Ok(()),
    }
}

//! Does what tests of the protocol need of a server, in the namespaces `/` and `/custom`.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin, connections);

/// A name that needs every kind of JSON escape.
const ODD_NAME: &str = "quote\" backslash\\ newline\n bell\u{7} ünï😀";

fn plugin(_: &Config) -> Result<Plugin, String> {
    let anyone = |name: &str| Event::new(name).anyone();
    Ok(Plugin::new("conformance", "1.0.0")
        .namespace("/")
        .namespace("/custom")
        .on_connect(|cx, auth: Value| Ok(cx.emit("auth", &auth)?))
        .event(
            anyone("message").handle_message(|cx: &Context, message: Message| {
                cx.emit_message("message-back", &message)?;
                Ok(())
            }),
        )
        .event(
            anyone("message-with-ack").handle_message(|_: &Context, message: Message| Ok(message)),
        )
        .event(
            anyone(ODD_NAME).handle_message(|cx: &Context, message: Message| {
                cx.emit_message(ODD_NAME, &message)?;
                Ok(message)
            }),
        )
        .event(
            anyone("id")
                .handle_message(|cx: &Context, _: Message| Ok(Message::of(&cx.connection().id)?)),
        )
        .event(anyone("join").handle(|cx: &Context, room: String| Ok(cx.join(&room)?)))
        .event(
            anyone("rooms")
                .handle_message(|cx: &Context, _: Message| Ok(Message::of(&cx.joined()?)?)),
        )
        .event(
            anyone("tell").handle_args(|cx: &Context, (room, text): (String, String)| {
                cx.to(room).emit("told", &text)?;
                Ok(())
            }),
        )
        .event(anyone("count").handle(|cx: &Context, up_to: u32| {
            for number in 1..=up_to {
                cx.emit("number", &number)?;
            }
            Ok(())
        })))
}

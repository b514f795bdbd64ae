//! Does what tests of the protocol need of a server, in the namespaces `/` and `/custom`, and what
//! the stock client's own tests need, in more of them. Those want a server that says nothing by
//! itself: `quiet = true` in the `config` leaves out greetings and answers to unknown events.
use mixlab_guests::prelude::*;

#[path = "conformance/stock_client.rs"]
mod stock_client;

mixlab_plugin::export!(plugin, connections);

/// A name that needs every kind of JSON escape.
const ODD_NAME: &str = "quote\" backslash\\ newline\n bell\u{7} ünï😀";

/// The `config` table.
#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    quiet: bool,
}

fn plugin(config: &Config) -> Result<Plugin, String> {
    let Settings { quiet } = config.get()?;
    let anyone = |name: &str| Event::new(name).anyone();
    let mut plugin = stock_client::add(Plugin::new("conformance", "1.0.0"));
    if quiet {
        plugin = plugin.event(anyone("*").handle_message(|_: &Context, _: Message| Ok(NoAck)));
    }
    Ok(plugin
        .namespace("/")
        .namespace("/custom")
        .on_connect(move |cx, auth: Value| {
            if !quiet && ["/", "/custom"].contains(&cx.connection().namespace.as_str()) {
                cx.emit("auth", &auth)?;
            }
            stock_client::greet(cx, &auth)
        })
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

//! Ends connections: of those who ask for it by `dismisses`, and of those who connect with
//! `?dismiss=leave` or `?dismiss=close`.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin, connections);

fn plugin(config: &Config) -> Result<Plugin, String> {
    let Settings { namespaces } = config.get()?;
    let plugin = guest("dismisses", |event| event.handle(dismiss))
        .event(Event::new("dismisses:fails").anyone().handle_args(fail))
        .on_connect(on_connect)
        .on_disconnect(on_disconnect);
    Ok(namespaces
        .into_iter()
        .fold(plugin, |plugin, namespace| plugin.namespace(namespace)))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    namespaces: Vec<String>,
}

/// The end comes behind everything else, also behind what is emitted later.
fn dismiss(cx: &Context, close: bool) -> Result<&'static str, Rejection> {
    cx.emit("dismisses:before", &1)?;
    end(cx, close)?;
    cx.emit("dismisses:after", &2)?;
    Ok("dismissed")
}

fn fail(cx: &Context, (): ()) -> Result<(), Rejection> {
    cx.close()?;
    Err(Rejection::new("not_now", "Nothing of it happens"))
}

fn on_connect(cx: &Context, _auth: Value) -> Result<(), Rejection> {
    let handshake = cx.handshake()?;
    cx.emit("dismisses:query", &handshake.query)?;
    match handshake.parameter("dismiss") {
        Some(how) => end(cx, how == "close"),
        None => Ok(()),
    }
}

/// Whoever has ended cannot be ended once more, nor can who came after it.
fn on_disconnect(cx: &Context, reason: &str) {
    mixlab_plugin::log::info!("{} has ended: {reason}", cx.connection().id);
    if let Err(error) = cx.close() {
        mixlab_plugin::log::error!("{error:?}");
    }
}

fn end(cx: &Context, close: bool) -> Result<(), Rejection> {
    match close {
        true => cx.close()?,
        false => cx.disconnect()?,
    }
    Ok(())
}

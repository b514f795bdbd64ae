//! Whoever joins gets what is said.
use mixlab_plugin::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_config: &Config) -> Result<Plugin, String> {
    let join = Event::new("{{name}}:join").anyone().handle_args(join);
    let say = Event::new("{{name}}:say")
        .anyone()
        .limit(Scope::Socket, "10/5s")
        .handle(say);
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .event(join)
            .event(say)
            .emits::<Said>("{{name}}:said"),
    )
}

#[data]
struct Said {
    #[schemars(length(min = 1, max = 500))]
    text: String,
}

fn join(cx: &Context, _nothing: Vec<Value>) -> Result<(), Rejection> {
    Ok(cx.join("{{name}}")?)
}

fn say(cx: &Context, said: Said) -> Result<(), Rejection> {
    if !cx.joined()?.iter().any(|room| room == "{{name}}") {
        return Err(Rejection::new("not_joined", "Join first"));
    }
    let to_all = cx.to("{{name}}").include_sender();
    Ok(to_all.emit("{{name}}:said", &said)?)
}

#[cfg(test)]
mod tests {
    use mixlab_plugin::serde_json::json;
    use mixlab_plugin::test::Host;

    use super::*;

    #[test]
    fn who_has_joined_gets_what_is_said() {
        let mut host = Host::load(plugin, json!({})).unwrap();
        let said = json!([{ "text": "hi" }]);
        let refused = host.send("{{name}}:say", said.clone()).unwrap_err();
        assert_eq!(refused.code, "not_joined");
        host.send("{{name}}:join", json!([])).unwrap();
        host.send("{{name}}:say", said.clone()).unwrap();
        let emitted = host.take_emitted();
        assert_eq!((&*emitted[0].event, &emitted[0].arguments), ("{{name}}:said", &said));
    }
}

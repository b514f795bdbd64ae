//! Sees the events of other plugins before they do: what has the word "spam" goes no further.
use mixlab_plugin::prelude::*;

mixlab_plugin::export!(plugin, filters);

fn plugin(_config: &Config) -> Result<Plugin, String> {
    Ok(Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")).filter("*", moderated))
}

fn moderated(_cx: &Context, message: Message) -> Result<Verdict, Rejection> {
    if message.arguments.contains("spam") {
        return Err(Rejection::new("not_welcome", "Say something else"));
    }
    Ok(Verdict::Pass)
}

#[cfg(test)]
mod tests {
    use mixlab_plugin::serde_json::json;
    use mixlab_plugin::test::Host;

    use super::*;

    #[test]
    fn spam_goes_no_further() {
        let mut host = Host::load(plugin, json!({})).unwrap();
        assert!(matches!(host.filter("echo", json!(["hi"])), Ok(Verdict::Pass)));
        let refused = host.filter("echo", json!(["spam"])).unwrap_err();
        assert_eq!(refused.code, "not_welcome");
    }
}

//! Counts, and remembers.
use mixlab_plugin::prelude::*;

mixlab_plugin::export!(plugin);

fn plugin(_config: &Config) -> Result<Plugin, String> {
    let count = Event::new("{{name}}:count").anyone().handle(count);
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .event(count)
            .emits::<Counted>("{{name}}:counted"),
    )
}

#[data]
struct Count {
    #[schemars(range(min = 1, max = 100))]
    by: u64,
}

#[data]
struct Counted {
    count: u64,
}

fn count(cx: &Context, Count { by }: Count) -> Result<Counted, Rejection> {
    let count = cx.store().update("count", |count: &mut u64| {
        *count += by;
        *count
    })?;
    let counted = Counted { count };
    cx.broadcast()
        .include_sender()
        .emit("{{name}}:counted", &counted)?;
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use mixlab_plugin::serde_json::json;
    use mixlab_plugin::test::Host;

    use super::*;

    #[test]
    fn it_counts_on() {
        let mut host = Host::load(plugin, json!({})).unwrap();
        host.put("count", &40);
        let ack = host.send("{{name}}:count", json!([{ "by": 2 }])).unwrap();
        assert_eq!(ack, Some(json!([{ "count": 42 }])));
        assert_eq!(host.take_emitted()[0].event, "{{name}}:counted");
    }
}

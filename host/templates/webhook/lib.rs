//! Another service tells of orders that are paid (`POST /hooks/{{name}}`); they are kept, and admins hear of them.
use mixlab_plugin::prelude::*;
use mixlab_plugin::webhook::{Request, Response};

mixlab_plugin::export!(plugin, webhooks);

fn plugin(_config: &Config) -> Result<Plugin, String> {
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .webhook(paid)
            .emits::<Paid>("{{name}}:paid"),
    )
}

#[data]
struct Paid {
    order: String,
    amount: u64,
}

fn paid(cx: &Context, request: Request) -> Result<Response, Rejection> {
    let paid: Paid = request.json()?;
    cx.store().set(&format!("paid:{}", paid.order), &paid.amount)?;
    cx.to_role("admin").emit("{{name}}:paid", &paid)?;
    Ok(Response::new(204))
}

#[cfg(test)]
mod tests {
    use mixlab_plugin::serde_json::json;
    use mixlab_plugin::test::Host;

    use super::*;

    #[test]
    fn a_payment_is_kept_and_told() {
        let mut host = Host::load(plugin, json!({})).unwrap();
        let paid = json!({ "order": "7", "amount": 500 });
        assert_eq!(host.post(paid.clone()).unwrap().status, 204);
        assert_eq!(host.stored::<u64>("paid:7"), Some(500));
        assert_eq!(host.take_emitted()[0].arguments, json!([paid]));
    }
}

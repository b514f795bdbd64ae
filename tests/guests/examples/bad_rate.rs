//! Declares a rate limit of 0 events, which the SDK would refuse: hence the bare bindings.
use mixlab_plugin::bindings::exports::mixlab::plugin::{events, lifecycle};
use mixlab_plugin::{Connection, Message, Outcome, Rejection, Scope};

struct Component;

mixlab_plugin::bindings::export_plugin!(Component with_types_in mixlab_plugin::bindings);

impl lifecycle::Guest for Component {
    fn describe(_: String) -> Result<lifecycle::Description, String> {
        let none = lifecycle::RateLimit {
            scope: Scope::Socket,
            count: 0,
            interval_ms: 1000,
            burst: None,
        };
        let event = lifecycle::EventContract {
            name: "bad_rate".to_owned(),
            access: lifecycle::Access::Anyone,
            arguments: None,
            reply: None,
            limits: vec![none],
            max_bytes: None,
        };
        Ok(lifecycle::Description {
            name: "bad_rate".to_owned(),
            version: "1.0.0".to_owned(),
            namespaces: Vec::new(),
            events: vec![event],
            emits: Vec::new(),
        })
    }
}

impl events::Guest for Component {
    fn handle(_: Connection, _: String, _: Message) -> Result<Outcome, Rejection> {
        Ok(Outcome::Done)
    }
}

//! Declares the events that its configuration names, with the contracts that stand there, and
//! answers each of them with the configuration's `answer`.
use mixlab_guests::prelude::*;
use mixlab_plugin::HandledEvent;

mixlab_plugin::export!(plugin);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    namespaces: Vec<String>,
    events: Vec<Declared>,
    #[serde(default)]
    answer: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    name: String,
    /// Anyone, if it is left out.
    access: Option<Access>,
    #[serde(default)]
    limits: Vec<Limit>,
    max_bytes: Option<u32>,
    arguments: Option<String>,
    reply: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Access {
    Authenticated(Authenticated),
    Roles(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Authenticated {
    Authenticated,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    scope: Per,
    rate: String,
    burst: Option<u32>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Per {
    Socket,
    User,
    Ip,
    Event,
}

fn plugin(config: &Config) -> Result<Plugin, String> {
    let Settings {
        namespaces,
        events,
        answer,
    } = config.get()?;
    let plugin = Plugin::new("contracts", "1.0.0");
    let plugin = namespaces.into_iter().fold(plugin, Plugin::namespace);
    let events = events.into_iter().map(|event| declare(event, &answer));
    Ok(events.fold(plugin, Plugin::event))
}

fn declare(declared: Declared, answer: &Value) -> HandledEvent {
    let event = Event::new(declared.name);
    let mut event = match declared.access {
        None => event.anyone(),
        Some(Access::Authenticated(_)) => event.authenticated(),
        Some(Access::Roles(roles)) => event.roles(roles),
    };
    for limit in declared.limits {
        let scope = match limit.scope {
            Per::Socket => Scope::Socket,
            Per::User => Scope::User,
            Per::Ip => Scope::Ip,
            Per::Event => Scope::Event,
        };
        event = match limit.burst {
            None => event.limit(scope, &limit.rate),
            Some(burst) => event.limit_with_burst(scope, &limit.rate, burst),
        };
    }
    if let Some(bytes) = declared.max_bytes {
        event = event.max_bytes(bytes);
    }
    if let Some(schema) = declared.arguments {
        event = event.arguments(schema);
    }
    if let Some(schema) = declared.reply {
        event = event.reply(schema);
    }
    let answer = answer.clone();
    event.handle_message(move |_: &Context, _| Ok(answer.clone()))
}

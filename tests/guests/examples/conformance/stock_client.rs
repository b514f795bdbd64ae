//! What the stock client's own tests ask of their server.
use mixlab_guests::prelude::*;
use mixlab_plugin::{HandledEvent, Handshake, Placeholder};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Served in every namespace, as one plugin has one set of events.
const NAMESPACES: [&str; 6] = ["/foo", "/timeout_socket", "/valid", "/asd", "/abc", "/no"];

/// Text in several scripts, the last one with a dash of three bytes.
const TEXTS: [&str; 5] = [
    "てすと",
    "Я Б Г Д Ж Й",
    "Ä ä Ü ü ß",
    "utf8 — string",
    "utf8 — string",
];

const BYTES: &[u8] = b"asdfasdf";

/// `{"hello":"lol","message":BINARY,"goodbye":"gotcha"}`
#[derive(Deserialize, JsonSchema)]
struct Mixed {
    hello: String,
    message: Placeholder,
    goodbye: String,
}

/// Adds namespaces and events.
pub fn add(plugin: Plugin) -> Plugin {
    let plugin = NAMESPACES.into_iter().fold(plugin, Plugin::namespace);
    binary(texts(plugin))
}

/// What a client of one of the namespaces is greeted with, or why it is not let in.
pub fn greet(cx: &Context, auth: &Value) -> Result<(), Refusal> {
    match cx.connection().namespace.as_str() {
        "/" if cx.handshake()?.parameter("fail").is_some() => {
            Err(Refusal::new("Auth failed (main namespace)"))
        }
        "/no" => Err(Refusal::new("Auth failed (custom namespace)")),
        "/abc" => Ok(cx.emit("handshake", &handshake(cx, auth)?)?),
        _ => Ok(()),
    }
}

/// What a plugin knows of a handshake, as far as clients ask for it.
#[derive(Serialize, JsonSchema)]
struct Known {
    auth: Value,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

fn handshake(cx: &Context, auth: &Value) -> Result<Known, Rejection> {
    let Handshake { query, headers } = cx.handshake()?;
    Ok(Known {
        auth: auth.clone(),
        query: query.into_iter().collect(),
        headers: headers.into_iter().collect(),
    })
}

fn texts(plugin: Plugin) -> Plugin {
    plugin
        .event(
            anyone("getHandshake")
                .handle_args(|cx: &Context, _: Vec<Value>| handshake(cx, &Value::Null)),
        )
        .event(
            anyone("requestDisconnect")
                .handle_args(|cx: &Context, _: Vec<Value>| Ok(cx.disconnect()?)),
        )
        .event(
            anyone("hi")
                .handle_args(|cx: &Context, _: Vec<Value>| Ok(cx.emit_args("hi", &[(); 0])?)),
        )
        .event(anyone("ack").handle_args(|cx: &Context, _: Vec<Value>| {
            cx.emit_args("ack", &[(); 0])?;
            Ok(NoAck)
        }))
        .event(anyone("echo").handle_message(|_: &Context, message: Message| Ok(message)))
        .event(
            anyone("false")
                .handle_args(|cx: &Context, _: Vec<Value>| Ok(cx.emit("false", &false)?)),
        )
        .event(
            anyone("getId")
                .handle_args(|cx: &Context, _: Vec<Value>| Ok(cx.connection().id.clone())),
        )
        .event(
            anyone("getUtf8").handle_args(|cx: &Context, _: Vec<Value>| {
                for text in TEXTS {
                    cx.emit("takeUtf8", text)?;
                }
                Ok(())
            }),
        )
        .event(anyone("getAckDate").handle_args(|_: &Context, _: Vec<Value>| Ok(now())))
        .event(
            anyone("getDate")
                .handle_args(|cx: &Context, _: Vec<Value>| Ok(cx.emit("takeDate", &now())?)),
        )
        .event(
            anyone("getDateObj").handle_args(|cx: &Context, _: Vec<Value>| {
                #[derive(Serialize)]
                struct Dated {
                    date: String,
                }
                Ok(cx.emit("takeDateObj", &Dated { date: now() })?)
            }),
        )
}

fn binary(plugin: Plugin) -> Plugin {
    plugin
        .event(sends_bytes("doge", "doge"))
        .event(sends_bytes("getbin", "takebin"))
        .event(takes_bytes("buffa", "buffack"))
        .event(takes_bytes("blob", "back"))
        .event(takes_mixed("jsonbuff", "jsonbuff-ack"))
        .event(takes_mixed("jsonblob", "jsonblob-ack"))
        .event(first("abuff1"))
        .event(after("abuff1", "abuff2", |cx| {
            Ok(cx.emit_args("abuff2-ack", &[(); 0])?)
        }))
        .event(first("blob1"))
        .event(after("blob1", "blob2", |cx| Ok(cx.join("seen:blob2")?)))
        .event(after("blob2", "blob3", |cx| {
            Ok(cx.emit_args("blob3-ack", &[(); 0])?)
        }))
}

fn anyone(name: &str) -> Event {
    Event::new(name).anyone()
}

fn sends_bytes(asked: &str, event: &'static str) -> HandledEvent {
    anyone(asked).handle_args(move |cx: &Context, _: Vec<Value>| {
        let message = Message::of(&Placeholder(0))?.attach(BYTES.to_vec());
        Ok(cx.emit_message(event, &message)?)
    })
}

fn takes_bytes(asked: &str, event: &'static str) -> HandledEvent {
    anyone(asked).handle(move |cx: &Context, bytes: Placeholder| {
        cx.attachment(bytes)?;
        Ok(cx.emit_args(event, &[(); 0])?)
    })
}

fn takes_mixed(asked: &str, event: &'static str) -> HandledEvent {
    anyone(asked).handle(move |cx: &Context, mixed: Mixed| {
        cx.attachment(mixed.message)?;
        if (mixed.hello.as_str(), mixed.goodbye.as_str()) != ("lol", "gotcha") {
            return Err(Rejection::invalid_payload("other words were expected"));
        }
        Ok(cx.emit_args(event, &[(); 0])?)
    })
}

/// An event that another one has to follow. A room of the connection remembers it, as all
/// instances know rooms and none knows another's memory.
fn first(name: &'static str) -> HandledEvent {
    anyone(name).handle(move |cx: &Context, bytes: Placeholder| {
        cx.attachment(bytes)?;
        Ok(cx.join(&format!("seen:{name}"))?)
    })
}

fn after(
    earlier: &'static str,
    name: &str,
    then: impl Fn(&Context) -> Result<(), Rejection> + 'static,
) -> HandledEvent {
    anyone(name).handle(move |cx: &Context, _: Value| {
        if !cx.joined()?.contains(&format!("seen:{earlier}")) {
            return Err(Rejection::new(
                "out_of_order",
                "an earlier event is missing",
            ));
        }
        then(cx)
    })
}

/// As JSON has it from JavaScript: text.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.format(&Rfc3339).expect("the year has four digits")
}

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::Member;
use crate::prelude::*;

fn plugin(config: &Config) -> Result<Plugin, String> {
    let greeting: String = config.get()?;
    Ok(Plugin::new("test", "1.0.0")
        .event(
            Event::new("greet")
                .handle(move |_: &Context, name: String| Ok(format!("{greeting}, {name}"))),
        )
        .event(Event::new("join").handle(join))
        .event(Event::new("silent").handle(|_: &Context, _: Value| Ok(NoAck)))
        .event(Event::new("done").handle(|_: &Context, _: Value| Ok(())))
        .event(Event::new("fetch").handle(fetch))
        .event(Event::new("ask").handle(|cx: &Context, what: String| {
            Ok(cx.ask::<String>("question", &what, Duration::from_secs(1))?)
        }))
        .event(Event::new("remember").handle(remember))
        .on_connect(|cx: &Context, auth: Value| match auth["seat"].as_u64() {
            Some(seat) => Ok(cx.set_data(&seat)?),
            None => Err(Rejection::new("no_seat", "Say which seat")),
        })
        .webhook(|cx, request| {
            let status: u16 = request.json()?;
            cx.store().set("status", &status)?;
            Ok(crate::webhook::Response::new(status))
        })
        .on_timer(|cx, timer| {
            let user: String = timer.payload()?;
            Ok(cx.to_user(user).emit("due", timer.name())?)
        }))
}

fn join(cx: &Context, room: String) -> Result<Vec<Member<String>>, Rejection> {
    let user = cx.user()?.id.clone();
    cx.presence(&room).enter(&user)?;
    let there = cx.presence(&room).members()?;
    cx.to(&room)
        .volatile()
        .keep("joined")
        .emit("joined", &user)?;
    cx.timers()
        .after(Duration::from_secs(60))
        .set("later", &user)?;
    if room == "full" {
        return Err(Rejection::new("full", "Nobody more"));
    }
    Ok(there)
}

fn fetch(cx: &Context, path: String) -> Result<u64, Rejection> {
    cx.emit("fetching", &path)?;
    let response = cx.http().get(&format!("https://example.com/{path}"))?;
    Ok(response.json()?)
}

fn remember(cx: &Context, what: String) -> Result<Vec<String>, Rejection> {
    let store = cx.store();
    store.add("count", 1)?;
    store.set(&format!("what:{what}"), &true)?;
    cx.bucket("shared").set("what:other", &true)?;
    let found = store.scan::<bool>("what:", 10)?;
    Ok(found.into_iter().map(|entry| entry.key).collect())
}

fn host() -> Host {
    Host::load(plugin, json!("Hello")).unwrap()
}

#[test]
fn an_event_is_acked_by_its_handler() {
    let mut host = host();
    let ack = |host: &mut Host, event, arguments| host.send(event, arguments).unwrap();
    assert_eq!(
        ack(&mut host, "greet", json!(["Ada"])),
        Some(json!(["Hello, Ada"]))
    );
    assert_eq!(ack(&mut host, "done", json!([1])), Some(json!([])));
    assert_eq!(ack(&mut host, "silent", json!([1])), None);
    assert_eq!(
        host.send("greet", json!([7])).unwrap_err().code,
        "invalid_payload"
    );
    assert!(Host::load(plugin, json!(7)).is_err());
}

#[test]
fn what_a_handler_did_is_there_unless_it_refused() {
    let mut host = host();
    assert_eq!(
        host.send("join", json!(["hall"])).unwrap_err().code,
        "unauthorized"
    );
    host.log_in("7", &["admin"]);
    assert_eq!(host.send("join", json!(["full"])).unwrap_err().code, "full");
    assert!(host.rooms().is_empty() && host.take_emitted().is_empty() && host.timers().is_empty());

    assert_eq!(
        host.send("join", json!(["hall"])).unwrap(),
        Some(json!([[]]))
    );
    assert_eq!(host.rooms(), ["hall"]);
    let [emitted] = &host.take_emitted()[..] else {
        panic!("one event is emitted");
    };
    let Target::Sockets(selection) = &emitted.target else {
        panic!("it is for a room");
    };
    assert_eq!(selection.rooms, ["hall"]);
    assert_eq!(
        (&*emitted.event, &emitted.arguments),
        ("joined", &json!(["7"]))
    );
    assert!(emitted.volatile);
    assert_eq!(emitted.keep.as_deref(), Some("joined"));
    let there = host.send("join", json!(["hall"])).unwrap().unwrap();
    assert_eq!(there[0][0]["id"], "7");

    host.take_emitted();
    host.fire("later").unwrap();
    assert_eq!(host.take_emitted()[0].arguments, json!(["later"]));
    assert!(host.timers().is_empty());
}

#[test]
fn what_acts_at_once_is_there_also_if_the_handler_refused() {
    let mut host = host();
    assert_eq!(
        host.send("fetch", json!(["a"])).unwrap_err().code,
        "plugin_unavailable"
    );
    assert!(host.take_emitted().is_empty());
    assert_eq!(host.take_requests()[0].url, "https://example.com/a");
    let response = |body: &str| HttpResponse {
        status: 200,
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
    };
    host.answer_http(Ok(response("41")));
    host.answer_http(Ok(response("no number")));
    assert_eq!(host.send("fetch", json!(["b"])).unwrap(), Some(json!([41])));
    assert_eq!(
        host.send("fetch", json!(["c"])).unwrap_err().code,
        "plugin_error"
    );

    assert!(host.send("ask", json!(["why"])).unwrap_err().temporary);
    host.answer_ask(Ok(Message::of("so").unwrap()));
    assert_eq!(
        host.send("ask", json!(["why"])).unwrap(),
        Some(json!(["so"]))
    );
    assert_eq!(
        host.take_asked()[1],
        ("question".to_owned(), json!(["why"]))
    );
}

#[test]
fn what_is_stored_is_read_again() {
    let mut host = host();
    host.put("what:a", &true);
    assert_eq!(
        host.send("remember", json!(["b"])).unwrap(),
        Some(json!([["what:a", "what:b"]]))
    );
    host.send("remember", json!(["b"])).unwrap();
    assert_eq!(host.stored::<u64>("count"), Some(2));
    assert_eq!(host.stored::<bool>("what:other"), None);
}

#[test]
fn who_comes_in_is_decided_by_the_hook() {
    let mut host = host();
    assert_eq!(host.connect(json!({})).unwrap_err().message, "no_seat");
    assert_eq!(host.data::<u64>(), None);
    host.connect(json!({ "seat": 4 })).unwrap();
    assert_eq!(host.data::<u64>(), Some(4));
    host.disconnect("transport close");
}

#[test]
fn a_webhook_that_is_refused_has_done_nothing() {
    let mut host = host();
    assert_eq!(host.post(json!(204)).unwrap().status, 204);
    assert_eq!(host.post(json!(400)).unwrap().status, 400);
    assert_eq!(host.stored::<u16>("status"), Some(204));
    assert_eq!(host.post(json!({})).unwrap_err().code, "invalid_payload");
}

use super::*;
use crate::http_client::Destination;

fn grants(texts: &[&str]) -> Grants {
    texts
        .iter()
        .map(|text| text.parse::<Grant>().unwrap())
        .collect()
}

fn url(text: &str) -> Destination {
    Destination::parse(text).unwrap()
}

#[test]
fn what_is_not_granted_is_denied() {
    let none = Grants::default();
    assert!(
        !none.payments()
            && !none.notify("7")
            && !none.role("admin", Some("x"))
            && !none.room("lobby")
    );
    assert!(!none.namespace("/x") && none.namespace("/"));
    assert!(!none.socket() && !none.everyone() && !none.find());
    assert!(!none.emit("x") && !none.ask("x"));
    assert!(!none.http(&url("https://api.example.com/")) && !none.any_http());
    assert!(!none.clients() && !none.inspect() && !none.operate() && !none.admin());
    assert!(!none.disconnect() && !none.handshake() && !none.header("x-a"));
    assert!(!none.claim("tenant"));
    assert!(!none.user("7", Some("x")) && !none.user("7", None) && !none.role("admin", None));
    assert!(!none.any_notify() && !none.any_role() && !none.any_room());
    assert!(!none.any_emit() && !none.any_ask());
}

#[test]
fn each_grant_allows_its_own_call_only() {
    let calls = |grants: &Grants| {
        [
            grants.payments(),
            grants.notify("7"),
            grants.user("7", Some("x")),
            grants.role("admin", Some("x")),
            grants.clients(),
            grants.room("lobby"),
            grants.namespace("/x"),
            grants.socket(),
            grants.everyone(),
            grants.emit("x"),
            grants.ask("x"),
            grants.history("x"),
            grants.presence("x"),
            grants.http(&url("https://api.example.com/")),
            grants.find(),
            grants.disconnect(),
            grants.moves(),
            grants.handshake(),
            grants.header("x-a"),
            grants.claim("tenant"),
            grants.revoke(),
            grants.inspect(),
            grants.operate(),
        ]
    };
    let texts = [
        "payments",
        "notify",
        "user:7",
        "role:admin",
        "clients",
        "room:lobby",
        "namespace:/x",
        "socket",
        "everyone",
        "emit",
        "ask",
        "history:x",
        "presence:x",
        "http:https://api.example.com",
        "find",
        "disconnect",
        "move",
        "handshake",
        "header:x-a",
        "claim:tenant",
        "revoke",
        "inspect",
        "operate",
    ];
    for (index, text) in texts.into_iter().enumerate() {
        let allowed: Vec<_> = calls(&grants(&[text]))
            .into_iter()
            .enumerate()
            .filter(|(_, yes)| *yes)
            .collect();
        assert_eq!(allowed, [(index, true)], "{text}");
    }
    assert_eq!(calls(&grants(&texts)), [true; 23]);
    assert_eq!(calls(&Grants::all()), [true; 23]);
}

#[test]
fn an_admin_may_inspect_and_operate_and_neither_makes_an_admin() {
    for (text, expected) in [
        ("admin", [true, true, true]),
        ("inspect", [true, false, false]),
        ("operate", [false, true, false]),
    ] {
        let its = grants(&[text]);
        let may = [its.inspect(), its.operate(), its.admin()];
        assert_eq!(may, expected, "{text}");
    }
}

#[test]
fn a_parameter_narrows_a_grant() {
    let narrow = grants(&["notify:7", "notify:eu-*", "emit:chat:*", "room:booking:*"]);
    assert!(narrow.notify("7") && narrow.notify("eu-1") && narrow.any_notify());
    assert!(!narrow.notify("77") && !narrow.notify("us-1"));
    assert!(narrow.emit("chat:message") && narrow.any_emit());
    assert!(!narrow.emit("chat"));
    assert!(narrow.room("booking:7") && narrow.any_room());
    assert!(!narrow.room("booking"));
}

#[test]
fn an_http_grant_covers_its_urls_and_is_told_from_one_for_the_internet() {
    let crm = url("https://crm.example.com/v1/users");
    let some = grants(&["http:https://*.example.com/v1/*"]);
    assert!(some.http(&crm) && some.http_by_name(&crm) && some.any_http());
    assert!(!some.http(&url("https://crm.example.com/v2")));
    let all = grants(&["http"]);
    assert!(all.http(&crm) && !all.http_by_name(&crm) && all.any_http());
}

#[test]
fn a_role_grant_may_name_its_events() {
    let any = grants(&["role:admin"]);
    assert!(
        any.role("admin", Some("new_booking")) && any.role("admin", Some("a:b")) && any.any_role()
    );
    assert!(!any.role("administrator", Some("new_booking")));

    let one = grants(&["role:admin:chat:new"]);
    assert!(
        one.role("admin", Some("chat:new")),
        "the event is all that follows the role"
    );
    assert!(!one.role("admin", Some("chat")) && !one.role("admin", Some("new")));

    let globs = grants(&["role:*:new_*"]);
    assert!(globs.role("admin", Some("new_booking")) && globs.role("a:b", Some("new_")));
    assert!(!globs.role("admin", Some("old_booking")));

    let pairs = grants(&["role:a:x", "role:b:y"]);
    assert!(pairs.role("a", Some("x")) && pairs.role("b", Some("y")));
    assert!(
        !pairs.role("a", Some("y")),
        "role and event belong together"
    );
}

#[test]
fn a_user_grant_covers_what_is_no_event_if_it_names_none() {
    let any = grants(&["user:7", "role:admin:*"]);
    assert!(any.user("7", Some("a:b")) && any.user("7", None) && any.role("admin", None));
    assert!(!any.user("77", Some("x")) && !any.user("77", None));

    let one = grants(&["user:*:chat:new", "role:*:x*"]);
    assert!(one.user("7", Some("chat:new")) && one.user("a:b", Some("chat:new")));
    assert!(!one.user("7", Some("chat")) && !one.user("7", None) && !one.role("admin", None));
}

#[test]
fn a_namespace_grant_covers_patterns_that_are_no_wider() {
    let rooms = grants(&["namespace:/room-*"]);
    for (path, expected) in [
        ("/room-7", true),
        ("/room-*", true),
        ("/room-eu-*", true),
        ("/room-*-eu", true),
        ("/room", false),
        ("/*", false),
        ("/r*", false),
    ] {
        assert_eq!(rooms.namespace(path), expected, "{path}");
    }
    assert!(!grants(&["namespace:/room-7"]).namespace("/room-*"));
}

#[test]
fn rooms_of_the_host_are_never_granted_by_room() {
    for grants in [
        grants(&["room:*"]),
        grants(&["room:us*"]),
        grants(&["room:*:7"]),
        grants(&["room:p*"]),
        Grants::all(),
    ] {
        assert!(!grants.room("user:7") && !grants.room("role:7") && !grants.room("user:"));
        assert!(!grants.room("payments"));
        assert!(!grants.presence("user:7") && !grants.presence("payments"));
    }
    assert!(!grants(&["presence:*"]).presence("role:admin"));
    assert!(grants(&["room:p*"]).room("payments:eu") && grants(&["room:*"]).room("Payments"));
    assert!(grants(&["room:*"]).room("users") && grants(&["room:*"]).room("a:user:7"));
}

#[test]
fn headers_that_say_who_a_client_is_are_granted_by_their_whole_names_only() {
    let credentials = ["authorization", "cookie", "proxy-authorization"];
    for wide in [
        grants(&["header:*"]),
        grants(&["header:*o*", "header:cookie*"]),
        Grants::all(),
    ] {
        assert!(credentials.iter().all(|name| !wide.header(name)));
    }
    assert!(grants(&["header:*"]).header("user-agent"));
    let named = grants(&["header:Authorization", "header:x-*"]);
    assert!(named.header("authorization") && named.header("x-tenant"));
    assert!(!named.header("cookie") && !named.header("user-agent"));
}

#[test]
fn a_wrong_grant_is_refused_with_what_was_meant() {
    for (text, message) in [
        ("notfy", r#"unknown grant "notfy" (did you mean "notify"?)"#),
        (
            "rooms:lobby",
            r#"unknown grant "rooms:lobby" (did you mean "room:lobby"?)"#,
        ),
        (
            " notify",
            r#"unknown grant " notify" (did you mean "notify"?)"#,
        ),
        (
            "Payments",
            r#"unknown grant "Payments" (did you mean "payments"?)"#,
        ),
        (
            "filesystem",
            r#"unknown grant "filesystem"; known: "payments", "notify", "user", "role", "clients", "room", "namespace", "socket", "everyone", "emit", "ask", "store", "timers", "filter", "history", "presence", "webhook", "http", "find", "disconnect", "move", "handshake", "header", "claim", "revoke", "inspect", "operate", "admin""#,
        ),
        (
            "",
            r#"unknown grant ""; known: "payments", "notify", "user", "role", "clients", "room", "namespace", "socket", "everyone", "emit", "ask", "store", "timers", "filter", "history", "presence", "webhook", "http", "find", "disconnect", "move", "handshake", "header", "claim", "revoke", "inspect", "operate", "admin""#,
        ),
        (
            "filter",
            r#"invalid grant "filter": say which events, like "filter:booking:*""#,
        ),
        (
            "webhook:all",
            r#"invalid grant "webhook:all": expected webhook:unverified"#,
        ),
        (
            "role",
            r#"invalid grant "role": say which role, like "role:staff""#,
        ),
        (
            "room",
            r#"invalid grant "room": say which room, like "room:staff""#,
        ),
        (
            "namespace",
            r#"invalid grant "namespace": say which namespace, like "namespace:/staff""#,
        ),
        (
            "namespace:x",
            r#"invalid grant "namespace:x": say which namespace, like "namespace:/staff""#,
        ),
        (
            "header",
            r#"invalid grant "header": say which header, like "header:user-agent""#,
        ),
        (
            "header:user agent",
            r#"invalid grant "header:user agent": "user agent" is no name of a header"#,
        ),
        (
            "disconnect:all",
            r#"invalid grant "disconnect:all": disconnect takes no parameter"#,
        ),
        (
            "room:",
            r#"invalid grant "room:": nothing stands after the colon"#,
        ),
        (
            "role:",
            r#"invalid grant "role:": nothing stands after the colon"#,
        ),
        (
            "user",
            r#"invalid grant "user": say which user, like "user:staff""#,
        ),
        (
            "user:7:",
            r#"invalid grant "user:7:": expected user:ID or user:ID:EVENT"#,
        ),
        (
            "role::x",
            r#"invalid grant "role::x": expected role:ROLE or role:ROLE:EVENT"#,
        ),
        (
            "role:a:",
            r#"invalid grant "role:a:": expected role:ROLE or role:ROLE:EVENT"#,
        ),
        (
            "notify:",
            r#"invalid grant "notify:": nothing stands after the colon"#,
        ),
        (
            "payments:all",
            r#"invalid grant "payments:all": payments takes no parameter"#,
        ),
        (
            "room:user:7",
            r#"invalid grant "room:user:7": rooms that begin with "user:" are the host's; use "user:7""#,
        ),
        (
            "room:payments",
            r#"invalid grant "room:payments": the room "payments" is the host's; use "payments" to send to it"#,
        ),
        (
            "room:role:*",
            r#"invalid grant "room:role:*": rooms that begin with "role:" are the host's; use "role:*""#,
        ),
    ] {
        assert_eq!(text.parse::<Grant>().unwrap_err().to_string(), message);
    }
}

#[test]
fn a_displayed_grant_parses_to_itself() {
    for text in [
        "payments",
        "notify",
        "notify:7",
        "user:7",
        "user:*:booked",
        "role:admin",
        "role:*:new_*",
        "role:a:b:c",
        "clients",
        "room:*",
        "room:a:",
        "namespace:/room-*",
        "store",
        "store:orders",
        "store:orders-*:read",
        "everyone",
        "emit",
        "emit:x",
        "emit:a:",
        "ask",
        "ask:x",
        "history:chat:*",
        "presence:*",
        "disconnect",
        "move",
        "handshake",
        "header:x-*",
        "claim:https://example.com/*",
        "inspect",
        "operate",
        "admin",
    ] {
        let grant: Grant = text.parse().unwrap();
        assert_eq!(grant.to_string(), text);
    }
    assert_eq!("notify:*".parse::<Grant>().unwrap().to_string(), "notify");
}

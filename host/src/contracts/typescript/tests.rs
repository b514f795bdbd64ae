use serde_json::json;

use super::*;

fn sent(arguments: Value, reply: Option<Value>) -> TypedEvent {
    let handled = Handled {
        by: By::Plugin("p".to_owned()),
        notes: Vec::new(),
        arguments: Some(arguments),
        reply,
    };
    TypedEvent::sent("e", &handled, &mut Definitions::without(&TAKEN))
}

fn sender(arguments: Value, reply: Option<Value>) -> String {
    sent(arguments, reply).sender().to_string()
}

#[test]
fn who_sends_an_event_with_a_reply_asks_for_it() {
    let one = json!({ "items": { "type": "string" }, "minItems": 1, "maxItems": 1 });
    let optional = json!({ "items": { "type": "string" }, "maxItems": 1 });
    let many = json!({ "items": { "type": "string" } });
    let reply = || Some(json!({ "items": { "type": "number" }, "minItems": 1, "maxItems": 1 }));
    let ack = "(data: number | MixlabFailure) => void";
    let any = "(...more: unknown[]) => void";
    for (arguments, reply, expected) in [
        (&one, reply(), format!("(data: string, ack: {ack}) => void")),
        (&one, None, format!("(data: string, ack?: {any}) => void")),
        (
            &optional,
            reply(),
            format!("(...data: [({ack})] | [string, ({ack})]) => void"),
        ),
        (
            &optional,
            None,
            format!("(...data: [({any})?] | [string, ({any})?]) => void"),
        ),
        (
            &many,
            reply(),
            format!("(...data: [...string[], ({ack})]) => void"),
        ),
        (
            &many,
            None,
            format!("(...data: [...string[]] | [...string[], ({any})]) => void"),
        ),
        (&json!(true), None, any.to_owned()),
    ] {
        assert_eq!(sender(arguments.clone(), reply), expected, "{arguments}");
    }
}

#[test]
fn an_ack_is_a_reply_or_a_failure() {
    let ack = |reply: Value| sent(json!(true), Some(reply)).ack().to_string();
    for (reply, expected) in [
        (json!({ "maxItems": 0 }), "(data?: MixlabFailure) => void"),
        (json!(false), "(data?: MixlabFailure) => void"),
        (json!(true), "(data?: unknown, ...more: unknown[]) => void"),
        (
            json!({ "prefixItems": [{ "type": "string" }, { "type": "null" }], "items": false, "minItems": 2 }),
            "(data1: string | MixlabFailure, data2?: null) => void",
        ),
        (
            json!({ "items": { "type": "string" } }),
            "(data?: string | MixlabFailure, ...more: string[]) => void",
        ),
        (
            json!({ "oneOf": [
                { "items": { "const": 1 }, "minItems": 1, "maxItems": 1 },
                { "items": { "const": 2 }, "minItems": 2, "maxItems": 2 },
            ] }),
            "(data1: 1 | 2 | MixlabFailure, data2?: 2) => void",
        ),
    ] {
        assert_eq!(ack(reply.clone()), expected, "{reply}");
    }
}

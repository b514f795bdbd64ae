use serde_json::json;

use super::*;

/// What a plugin would say to have code of its own where its contract is shown.
const HOSTILE: &str =
    "*/ }; declare const x: 1; /* \"`';</code></script><script>alert(1)</script>\n\u{202e}\u{2028}";

fn hostile() -> Contracts {
    let schema = json!({
        "type": "array",
        "description": HOSTILE,
        "prefixItems": [{
            "title": HOSTILE,
            "properties": {
                HOSTILE: { "enum": [HOSTILE], "description": HOSTILE, "pattern": HOSTILE, "default": { HOSTILE: HOSTILE } },
                "__proto__": { "$ref": "#/$defs/a" },
            },
        }],
        "$defs": { "a": { "const": HOSTILE, "description": HOSTILE } },
    });
    let handled = Handled {
        by: By::Plugin(HOSTILE.to_owned()),
        notes: vec![format!("Who may send it: roles {HOSTILE}.")],
        arguments: Some(schema.clone()),
        reply: Some(schema.clone()),
    };
    let emitted = Emitted {
        by: By::Plugin(HOSTILE.to_owned()),
        notes: Vec::new(),
        arguments: Some(schema),
    };
    let mut namespace = Namespace::default();
    namespace.handled.insert(HOSTILE.to_owned(), handled);
    let twice = vec![emitted.clone(), emitted];
    namespace.emitted.insert(HOSTILE.to_owned(), twice);
    Contracts {
        namespaces: BTreeMap::from([(HOSTILE.to_owned(), namespace)]),
        plugins: vec![Plugin {
            name: HOSTILE.to_owned(),
            version: HOSTILE.to_owned(),
        }],
    }
}

#[test]
fn text_of_a_plugin_stays_in_its_comment_and_in_its_quotes() {
    let types = hostile().to_typescript();
    let mut rest = types.as_str();
    let mut code = String::new();
    // Without comments and strings, nothing of it is left.
    while let Some(start) = rest.find(['"', '/']) {
        code.push_str(&rest[..start]);
        let tail = &rest[start..];
        let end = if tail.starts_with("/*") {
            tail.find("*/").map(|end| end + 2)
        } else if tail.starts_with("//") {
            tail.find('\n')
        } else {
            let escaped = tail[1..].replace("\\\\", "__").replace("\\\"", "__");
            escaped.find('"').map(|end| end + 2)
        };
        rest = &tail[end.expect("a comment and a string end")..];
    }
    code.push_str(rest);
    for word in [
        "declare", "script", "alert", "`", "'", "\u{202e}", "\u{2028}",
    ] {
        assert!(!code.contains(word), "{word:?} in {code}");
    }
    assert!(!types.contains(['\u{202e}', '\u{2028}']), "{types}");
}

#[test]
fn text_of_a_plugin_is_no_element_of_the_page() {
    let page = hostile().to_page();
    assert!(!page.contains("<script"), "{page}");
    assert!(!page.contains("</code></script>"), "{page}");
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(!page.contains(['\u{202e}', '\u{2028}']), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn text_of_a_plugin_is_text_in_json() {
    let document: Value = serde_json::from_str(&hostile().to_asyncapi()).unwrap();
    let channels = document["channels"].as_object().unwrap();
    let (id, channel) = channels.iter().next().unwrap();
    assert_eq!(channel["address"], HOSTILE);
    assert!(
        id.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        "{id}"
    );
    let operations = document["operations"].as_object().unwrap();
    assert!(
        operations
            .values()
            .all(|operation| operation["title"] == HOSTILE)
    );
}

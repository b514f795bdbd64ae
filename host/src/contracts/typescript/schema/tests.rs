use serde_json::json;

use super::*;

/// The type of a schema, in one line, and the types that it names.
fn translated(schema: &Value) -> (String, Vec<String>) {
    let mut definitions = Definitions::without(&["Taken"]);
    let value = definitions.translate(schema, &["e"], |translation| {
        translation.value(schema, None)
    });
    let line = |value: &Type| {
        let text = value.to_string();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let named = definitions.all.iter();
    let named = named.map(|one| format!("{} = {}", one.name, line(&one.value)));
    (line(&value), named.collect())
}

#[test]
fn a_schema_is_the_type_of_what_fits_it() {
    let cases = [
        (json!(true), "unknown"),
        (json!({}), "unknown"),
        (json!(false), "never"),
        (json!({ "type": "string", "format": "email" }), "string"),
        (json!({ "type": "integer" }), "number"),
        (
            json!({ "type": ["number", "null", "boolean"] }),
            "number | null | boolean",
        ),
        (json!({ "type": "what" }), "unknown"),
        (json!({ "minLength": 3 }), "unknown"),
        (json!({ "not": { "type": "string" } }), "unknown"),
        // Constants.
        (json!({ "const": "a\"b" }), r#""a\"b""#),
        (json!({ "const": null }), "null"),
        (json!({ "const": -1.5 }), "-1.5"),
        (json!({ "const": 9_007_199_254_740_993_u64 }), "number"),
        (
            json!({ "const": [1, { "a": true }] }),
            r#"[1, { "a": true; }]"#,
        ),
        (json!({ "enum": ["a", 1, "a", null] }), r#""a" | 1 | null"#),
        (json!({ "enum": [] }), "never"),
        // Lists.
        (json!({ "type": "array" }), "unknown[]"),
        (
            json!({ "type": "array", "items": { "type": ["string", "null"] } }),
            "(string | null)[]",
        ),
        (
            json!({ "items": { "type": "string" }, "minItems": 1 }),
            "[string, ...string[]]",
        ),
        (
            json!({ "items": { "type": "string" }, "minItems": 1, "maxItems": 2 }),
            "[string, string?]",
        ),
        (
            json!({ "items": { "type": "string" }, "maxItems": 100 }),
            "string[]",
        ),
        (json!({ "items": false }), "[]"),
        (json!({ "maxItems": 0 }), "[]"),
        (json!({ "minItems": 3, "maxItems": 2 }), "never"),
        (
            json!({ "prefixItems": [{ "type": "string" }, {}], "minItems": 1 }),
            "[string, unknown?, ...unknown[]]",
        ),
        (
            json!({ "prefixItems": [{ "type": "string" }, { "type": "null" }], "items": false, "minItems": 2 }),
            "[string, null]",
        ),
        (
            json!({ "prefixItems": [{ "type": "string" }], "unevaluatedItems": false }),
            "[string?]",
        ),
        (
            json!({ "prefixItems": [{ "type": "string" }], "items": { "type": "number" }, "minItems": 3 }),
            "[string, number, number, ...number[]]",
        ),
        // Objects.
        (json!({ "type": "object" }), "{ [name: string]: unknown; }"),
        (
            json!({ "type": "object", "additionalProperties": { "type": "number" } }),
            "{ [name: string]: number; }",
        ),
        (
            json!({ "type": "object", "additionalProperties": false }),
            "Record<string, never>",
        ),
        (
            json!({ "properties": { "a": { "type": "string" }, "b-c": {} }, "required": ["a", "z"] }),
            r#"{ "a": string; "b-c"?: unknown; "z": unknown; }"#,
        ),
        (
            json!({ "properties": { "a": { "type": "string" } }, "additionalProperties": { "type": "number" } }),
            r#"{ "a"?: string; [name: string]: unknown; }"#,
        ),
        (
            json!({ "properties": { "_placeholder": { "const": true }, "num": { "type": "integer" } } }),
            "MixlabBinary",
        ),
        (
            json!({ "properties": { "a": { "type": "string", "description": "x */ y", "maxLength": 3 } } }),
            r#"{ /** * x *\/ y * maxLength: 3 */ "a"?: string; }"#,
        ),
        // Put together.
        (
            json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }),
            "string | null",
        ),
        (json!({ "oneOf": [{ "const": 1 }, {}] }), "unknown"),
        (
            json!({ "allOf": [{ "required": ["a"] }, { "required": ["b"] }], "description": "both" }),
            r#"{ "a": unknown; } & { "b": unknown; }"#,
        ),
        (
            json!({ "required": ["k"], "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
            r#"{ "k": unknown; } & ({ "a": unknown; } | { "b": unknown; })"#,
        ),
        // References that lead nowhere, or elsewhere.
        (json!({ "$ref": "https://example.com/a.json" }), "unknown"),
        (json!({ "$ref": "#/$defs/none" }), "unknown"),
        (json!({ "$ref": "#anchor" }), "unknown"),
        (json!({ "$ref": 7 }), "unknown"),
    ];
    for (schema, expected) in cases {
        assert_eq!(
            translated(&schema),
            (expected.to_owned(), Vec::new()),
            "{schema}"
        );
    }
}

#[test]
fn what_is_referred_to_has_a_name() {
    let (value, named) = translated(&json!({
        "type": "array",
        "items": { "$ref": "#/$defs/a~1%7E1b" },
        "$defs": {
            "a/~1b": { "type": "object", "properties": { "next": { "$ref": "#/$defs/a~1%7E1b" }, "all": { "$ref": "#" } } },
            "unused": { "type": "string" },
        },
    }));
    // A pointer is decoded once as a part of a URL, and once as a pointer.
    assert_eq!(value, "unknown[]");
    assert_eq!(named, Vec::<String>::new());

    let (value, named) = translated(&json!({
        "type": "array",
        "items": { "$ref": "#/$defs/a~1%62" },
        "$defs": {
            "a/b": { "type": "object", "properties": { "next": { "$ref": "#/$defs/a~1b" }, "all": { "$ref": "#" } } },
            "unused": { "type": "string" },
        },
    }));
    assert_eq!(value, "EA1b[]");
    assert_eq!(
        named,
        [r#"EA1b = { "all"?: E; "next"?: EA1b; }"#, "E = EA1b[]"]
    );
}

#[test]
fn what_is_nothing_but_itself_is_unknown() {
    let (value, named) = translated(&json!({
        "prefixItems": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/self" }, { "$ref": "#/$defs/tree" }],
        "items": false,
        "$defs": {
            "a": { "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/b" }] },
            "b": { "allOf": [{ "$ref": "#/$defs/a" }] },
            "self": { "$ref": "#/$defs/self" },
            "tree": { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "$ref": "#/$defs/tree" } }] },
        },
    }));
    assert_eq!(value, "[EA?, ESelf?, ETree?]");
    assert_eq!(
        named,
        [
            "ETree = string | ETree[]",
            "ESelf = unknown",
            "EA = unknown"
        ]
    );
}

#[test]
fn arguments_are_lists_whatever_the_schema_is_made_of() {
    let mut definitions = Definitions::without(&[]);
    let mut lists = |schema: Value| {
        let lists = definitions.lists(&schema, &["e"]);
        Type::Function(lists).to_string()
    };
    for (schema, expected) in [
        (json!(true), "(...more: unknown[]) => void"),
        (json!(false), "(data: never) => void"),
        (json!({ "type": "string" }), "(...more: unknown[]) => void"),
        (
            json!({ "anyOf": [{ "$ref": "#/$defs/one" }, { "maxItems": 0 }], "$defs": { "one": { "prefixItems": [{ "type": "string" }], "minItems": 1, "maxItems": 1 } } }),
            "(...data: [string] | []) => void",
        ),
        (json!({ "$ref": "#" }), "(...more: unknown[]) => void"),
        (
            json!({ "items": { "type": "string" }, "minItems": 1 }),
            "(data: string, ...more: string[]) => void",
        ),
        (
            json!({ "items": { "type": "string" }, "minItems": 1, "maxItems": 2 }),
            "(data1: string, data2?: string) => void",
        ),
    ] {
        assert_eq!(lists(schema.clone()), expected, "{schema}");
    }
}

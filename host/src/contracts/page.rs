//! The contracts as a page of HTML: one file, without scripts, so that nothing in it can ever run.

use std::fmt::{self, Write};

use serde_json::Value;

use super::{
    Contracts,
    text::html,
    typescript::{Type, Typed, TypedEvent},
};

const STYLE: &str = include_str!("page.css");

/// Nothing is fetched, and nothing runs.
pub(crate) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

pub(super) fn page(contracts: &Contracts) -> String {
    let mut out = String::new();
    write(&mut out, contracts).expect("a text takes what is written to it");
    out
}

fn write(out: &mut String, contracts: &Contracts) -> fmt::Result {
    let typed = Typed::of(contracts);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>Events of this MixLab server</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>Events of this MixLab server</h1>\n<p>"
    )?;
    for plugin in &contracts.plugins {
        write!(
            out,
            "<b>{}</b> {} ",
            html(&plugin.name),
            html(&plugin.version)
        )?;
    }
    writeln!(
        out,
        "</p>\n<p>As files: <a href=\"events.d.ts\">TypeScript</a>, <a href=\"asyncapi.json\">AsyncAPI</a>; of the \
         HTTP API for backends <a href=\"openapi.json\">OpenAPI</a>.</p>\n</header>"
    )?;
    write_contents(out, &typed)?;
    writeln!(out, "<main>")?;
    for (place, namespace) in typed.namespaces.iter().enumerate() {
        writeln!(
            out,
            "<h2>Namespace <code>{}</code></h2>",
            html(&namespace.path)
        )?;
        let contracts = &contracts.namespaces[&namespace.path];
        writeln!(out, "<h3>Clients send</h3>")?;
        for (index, event) in namespace.sent.iter().enumerate() {
            let handled = &contracts.handled[&event.name];
            begin_event(out, &format!("s{place}-{index}"), event)?;
            write_call(out, "emit", event, &event.sender())?;
            write_schema(out, "arguments", handled.arguments.as_ref())?;
            write_schema(out, "ack", handled.reply.as_ref())?;
            writeln!(out, "</section>")?;
        }
        writeln!(out, "<h3>Clients get</h3>")?;
        for (index, event) in namespace.got.iter().enumerate() {
            begin_event(out, &format!("g{place}-{index}"), event)?;
            write_call(out, "on", event, &event.listener())?;
            for emitted in &contracts.emitted[&event.name] {
                write_schema(out, "arguments", emitted.arguments.as_ref())?;
            }
            writeln!(out, "</section>")?;
        }
    }
    if !typed.definitions.is_empty() {
        writeln!(out, "<h2>Types</h2>")?;
    }
    for definition in &typed.definitions {
        let text = format!("type {} = {};", definition.name, definition.value);
        write!(out, "<section>")?;
        for note in &definition.docs {
            write!(out, "<p>{}</p>", html(note))?;
        }
        writeln!(out, "<pre><code>{}</code></pre></section>", html(&text))?;
    }
    writeln!(out, "</main>\n</body>\n</html>")
}

fn write_contents(out: &mut String, typed: &Typed) -> fmt::Result {
    writeln!(out, "<nav>")?;
    for (place, namespace) in typed.namespaces.iter().enumerate() {
        writeln!(out, "<h2><code>{}</code></h2>\n<ul>", html(&namespace.path))?;
        for (letter, arrow, events) in [("s", "↑", &namespace.sent), ("g", "↓", &namespace.got)]
        {
            for (index, event) in events.iter().enumerate() {
                writeln!(
                    out,
                    "<li><a href=\"#{letter}{place}-{index}\">{arrow} {}</a></li>",
                    html(&event.name)
                )?;
            }
        }
        writeln!(out, "</ul>")?;
    }
    writeln!(out, "</nav>")
}

fn begin_event(out: &mut String, id: &str, event: &TypedEvent) -> fmt::Result {
    writeln!(out, "<section id=\"{id}\">\n<h4>{}</h4>", html(&event.name))?;
    for note in &event.docs {
        writeln!(out, "<p>{}</p>", html(note))?;
    }
    Ok(())
}

fn write_call(out: &mut String, verb: &str, event: &TypedEvent, function: &Type) -> fmt::Result {
    let text = format!("{verb} {}: {function}", Type::text(&event.name));
    writeln!(out, "<pre><code>{}</code></pre>", html(&text))
}

fn write_schema(out: &mut String, of: &str, schema: Option<&Value>) -> fmt::Result {
    let Some(schema) = schema else {
        return Ok(());
    };
    let text = serde_json::to_string_pretty(schema).unwrap_or_default();
    writeln!(
        out,
        "<details><summary>JSON Schema of the {of}</summary><pre><code>{}</code></pre></details>",
        html(&text)
    )
}

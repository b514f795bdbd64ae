//! The contracts as types of TypeScript, for Socket.IO's clients.

mod schema;
mod shared;
mod types;

use std::{
    collections::HashMap,
    fmt::{self, Write},
};

use serde_json::Value;

pub(super) use self::{schema::Definition, types::Type};
use self::{
    schema::{BINARY, Definitions},
    types::{Ack, Tuple, write_docs},
};
use super::{By, Contracts, Emitted, Handled, Namespace, text::quoted};
use crate::registry::ANY_EVENT;

/// What a client is told instead of a reply.
const FAILURE: &str = "MixlabFailure";

/// Names of the document's own, and those of the language that it uses.
const TAKEN: [&str; 8] = [
    "Namespaces",
    "ServerToClientEvents",
    "ClientToServerEvents",
    FAILURE,
    BINARY,
    "ArrayBuffer",
    "ArrayBufferView",
    "Record",
];

/// What the file begins with.
const HEAD: &str = r#"// The events of a MixLab server, written by `mixlab types`.
//
//   import { io, type Socket } from "socket.io-client";
//   import type { ClientToServerEvents, ServerToClientEvents } from "./mixlab-events";
//
//   const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io();
//   const chat: Socket<ServerToClientEvents<"/chat">, ClientToServerEvents<"/chat">> = io("/chat");

/** What clients of a namespace get. */
export type ServerToClientEvents<Path extends keyof Namespaces = "/"> = Namespaces[Path]["serverToClient"];

/** What clients of a namespace may send. A plugin's event with a reply takes a function for it. */
export type ClientToServerEvents<Path extends keyof Namespaces = "/"> = Namespaces[Path]["clientToServer"];

/** The bytes of an attachment. */
export type MixlabBinary = ArrayBuffer | ArrayBufferView;

/** The one argument of an ack, or of `mixlab:error`, when an event was not handled. */
export type MixlabFailure = {
  error: {
    /** A stable word for programs. */
    code: string;
    /** One sentence for people. */
    message: string;
    /** Whether the same event may succeed later. */
    temporary: boolean;
    /** How long to wait before it is worth trying again. */
    retry_after_ms?: number;
    details?: unknown;
    /** Finds the line of the server's log that tells the whole story. */
    trace_id?: string;
  };
};
"#;

/// The types of all events.
pub(super) struct Typed {
    pub namespaces: Vec<TypedNamespace>,
    pub definitions: Vec<Definition>,
}

/// The types of a namespace's events.
pub(super) struct TypedNamespace {
    pub path: String,
    /// What clients send.
    pub sent: Vec<TypedEvent>,
    /// What they get.
    pub got: Vec<TypedEvent>,
}

/// The types of an event.
pub(super) struct TypedEvent {
    pub name: String,
    /// What is to be known of it besides.
    pub docs: Vec<String>,
    pub arguments: Vec<Tuple>,
    /// Of an event that clients send; none if its contract does not say.
    pub reply: Option<Vec<Tuple>>,
    /// Whether who sends it asks for the ack.
    wants_ack: bool,
}

/// The lists that fit where no contract says which.
fn anything() -> Vec<Tuple> {
    let rest = Some(Box::new(Type::Unknown));
    vec![Tuple {
        rest,
        ..Tuple::default()
    }]
}

impl Typed {
    pub(super) fn of(contracts: &Contracts) -> Self {
        let mut definitions = Definitions::without(&TAKEN);
        let namespaces = contracts.namespaces.iter();
        let mut namespaces: Vec<_> = namespaces
            .map(|(path, namespace)| TypedNamespace::of(path, namespace, &mut definitions))
            .collect();
        let names = shared::unite(&mut definitions);
        for namespace in &mut namespaces {
            let events = namespace.sent.iter_mut().chain(&mut namespace.got);
            events.for_each(|event| event.rename(&names));
        }
        let mut definitions = definitions.all;
        definitions.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            namespaces,
            definitions,
        }
    }
}

impl TypedNamespace {
    fn of(path: &str, namespace: &Namespace, definitions: &mut Definitions) -> Self {
        let sent = namespace.handled.iter();
        let sent = sent.map(|(name, handled)| TypedEvent::sent(name, handled, definitions));
        let sent = sent.collect();
        let got = namespace.emitted.iter();
        let got = got.map(|(name, emitted)| TypedEvent::got(name, emitted, definitions));
        Self {
            path: path.to_owned(),
            sent,
            got: got.collect(),
        }
    }
}

impl TypedEvent {
    fn sent(name: &str, handled: &Handled, definitions: &mut Definitions) -> Self {
        let mut docs = vec![format!("An event {}.", handled.by.words())];
        docs.extend(handled.notes.iter().cloned());
        docs.extend(argument_docs(handled.arguments.as_ref()));
        let mut lists = |schema: &Option<Value>, what: &str| {
            let schema = schema.as_ref()?;
            Some(definitions.lists(schema, &[name, what]))
        };
        let arguments = lists(&handled.arguments, "argument").unwrap_or_else(anything);
        let reply = lists(&handled.reply, "reply");
        Self {
            name: name.to_owned(),
            docs,
            arguments,
            // What comes of the host's own is told by events, too.
            wants_ack: reply.is_some() && handled.by != By::Host,
            reply,
        }
    }

    fn got(name: &str, emitted: &[Emitted], definitions: &mut Definitions) -> Self {
        let mut event = Self {
            name: name.to_owned(),
            docs: Vec::new(),
            arguments: Vec::new(),
            reply: None,
            wants_ack: false,
        };
        for emitted in emitted {
            event.docs.push(format!("An event {}.", emitted.by.words()));
            event.docs.extend(emitted.notes.iter().cloned());
            event.docs.extend(argument_docs(emitted.arguments.as_ref()));
            let lists = match &emitted.arguments {
                Some(schema) => definitions.lists(schema, &[name, "argument"]),
                None => anything(),
            };
            event.arguments.extend(lists);
        }
        event
    }

    fn rename(&mut self, names: &HashMap<String, String>) {
        let lists = self.arguments.iter_mut();
        let lists = lists.chain(self.reply.iter_mut().flatten());
        lists.for_each(|list| list.rename(names));
    }

    /// The function that listens to it.
    pub(super) fn listener(&self) -> Type {
        Type::Function(self.arguments.clone())
    }

    /// The function that it is sent with. Who sends a plugin's event with a reply asks for it: only so can
    /// Socket.IO's `emitWithAck` tell the one from the arguments.
    pub(super) fn sender(&self) -> Type {
        let ack = |is_optional| {
            let function = Box::new(self.ack());
            Some(Ack {
                function,
                is_optional,
            })
        };
        let lists = self.arguments.iter().flat_map(Tuple::spelled_out);
        let lists = lists.flat_map(|list| {
            let is_closed = list.rest.is_none();
            // What may be left out cannot stand behind as many as there are.
            let without = (!is_closed && !self.wants_ack).then(|| list.clone());
            let takes_anything = list.rest.as_deref() == Some(&Type::Unknown);
            let with_ack = Tuple {
                ack: ack(is_closed && !self.wants_ack),
                ..list
            };
            let with_ack = (self.wants_ack || !takes_anything).then_some(with_ack);
            without.into_iter().chain(with_ack)
        });
        Type::Function(lists.collect())
    }

    /// The function that takes its ack: what is replied, or why nothing is.
    pub(super) fn ack(&self) -> Type {
        let Some(reply) = &self.reply else {
            return Type::Function(anything());
        };
        let places = reply.iter().map(|list| list.elements.len()).max();
        let has_first = |list: &Tuple| list.elements.len() > list.optional;
        let always_has_first = !reply.is_empty() && reply.iter().all(has_first);
        let at = |place: usize| {
            reply.iter().filter_map(move |list| {
                let element = list.elements.get(place);
                element.or(list.rest.as_deref()).cloned()
            })
        };
        let count = places.unwrap_or(0).max(1);
        let mut elements: Vec<_> = (0..count).map(|place| Type::union(at(place))).collect();
        let first = [elements[0].clone(), Type::Named(FAILURE.to_owned())];
        elements[0] = Type::union(first);
        let optional = match always_has_first {
            true => count - 1,
            false => count,
        };
        let rest = reply
            .iter()
            .filter_map(|list| list.rest.as_deref().cloned());
        let rest = Some(Type::union(rest)).filter(|rest| *rest != Type::Never);
        Type::Function(vec![Tuple {
            elements,
            optional,
            rest: rest.map(Box::new),
            ack: None,
        }])
    }
}

/// What is said of each argument.
fn argument_docs(schema: Option<&Value>) -> Vec<String> {
    let places = schema.and_then(|schema| schema.get("prefixItems")?.as_array());
    let places = places.into_iter().flatten().enumerate();
    let said = places.filter_map(|(index, schema)| {
        let said = schema::docs(schema);
        (!said.is_empty()).then(|| format!("Argument {}: {}", index + 1, said.join("; ")))
    });
    said.collect()
}

/// A `.d.ts` file.
pub(super) fn document(contracts: &Contracts) -> String {
    let mut out = String::new();
    write_document(&mut out, &Typed::of(contracts)).expect("a text takes what is written to it");
    out
}

fn write_document(out: &mut String, typed: &Typed) -> fmt::Result {
    out.push_str(HEAD);
    writeln!(out, "\nexport interface Namespaces {{")?;
    for namespace in &typed.namespaces {
        writeln!(out, "  {}: {{", quoted(&namespace.path))?;
        writeln!(out, "    serverToClient: {{")?;
        for event in &namespace.got {
            write_event(out, event, &event.listener())?;
        }
        writeln!(out, "    }};\n    clientToServer: {{")?;
        // The one for all names has to be one that the others fit.
        let (any, named): (Vec<_>, Vec<_>) = namespace
            .sent
            .iter()
            .partition(|event| event.name == ANY_EVENT);
        for event in named {
            write_event(out, event, &event.sender())?;
        }
        for event in any {
            write_docs(out, &event.docs, 3)?;
            writeln!(out, "      [event: string]: (...data: any[]) => void;")?;
        }
        writeln!(out, "    }};\n  }};")?;
    }
    writeln!(out, "}}")?;
    for definition in &typed.definitions {
        writeln!(out)?;
        write_docs(out, &definition.docs, 0)?;
        writeln!(
            out,
            "export type {} = {};",
            definition.name, definition.value
        )?;
    }
    Ok(())
}

fn write_event(out: &mut String, event: &TypedEvent, function: &Type) -> fmt::Result {
    write_docs(out, &event.docs, 3)?;
    writeln!(out, "      {}: {};", quoted(&event.name), function.at(3))
}

#[cfg(test)]
mod tests;

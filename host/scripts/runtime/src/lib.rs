//! The component that runs scripts. The host hands it a script's files; what a script can do is the module
//! `mixlab`, in `js/`.
//!
//! `engine` evaluates a script and calls into it, `modules` finds what it imports, `natives` is what
//! `js/` asks of the host, `values` takes what `js/` answers, `failure` says where a script failed.

mod engine;
mod failure;
mod modules;
mod natives;
mod values;

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "mixlab:script/script",
    generate_all,
    additional_derives: [serde::Serialize, serde::Deserialize],
});

use engine::{call, data_version, load, offered};
use exports::mixlab::{
    plugin::{
        connections::{self, Refusal},
        events::{self, Outcome},
        filters::{self, Verdict},
        lifecycle::{self, Description},
        migrations, timer_handler,
        offers::{self, Offer},
        webhooks::{self, Request, Response},
    },
};
use mixlab::plugin::types::{Message, Rejection};

struct Script;

export!(Script);

impl lifecycle::Guest for Script {
    fn describe(config: String) -> Result<Description, String> {
        load(&config)
    }
}

impl offers::Guest for Script {
    fn offered() -> Offer {
        offered()
    }
}

impl events::Guest for Script {
    fn handle(event: String, message: Message) -> Result<Outcome, Rejection> {
        call(
            |doors| &doors.handle,
            |ctx, handle| {
                let attachments = values::attachments(ctx, message.attachments)?;
                handle.call((event, message.arguments, attachments))
            },
            values::outcome,
        )
    }
}

impl filters::Guest for Script {
    fn filter(event: String, message: Message) -> Result<Verdict, Rejection> {
        call(
            |doors| &doors.filter,
            |ctx, filter| {
                let attachments = values::attachments(ctx, message.attachments)?;
                filter.call((event, message.arguments, attachments))
            },
            values::verdict,
        )
    }
}

impl connections::Guest for Script {
    fn on_connect(auth: String) -> Result<(), Refusal> {
        call(
            |doors| &doors.connect,
            |_, connect| connect.call((auth,)),
            values::nothing,
        )
        .map_err(values::refusal)
    }

    fn on_disconnect(reason: String) {
        let ended = call(
            |doors| &doors.disconnect,
            |_, disconnect| disconnect.call((reason,)),
            values::nothing,
        );
        if let Err(rejection) = ended {
            // There is nobody to be told.
            failure::end(&rejection.message);
        }
    }
}

impl timer_handler::Guest for Script {
    fn fire(name: String, payload: String, due_ms: u64, attempt: u32) -> Result<(), Rejection> {
        call(
            |doors| &doors.fire,
            |_, fire| fire.call((name, payload, due_ms as f64, attempt)),
            values::nothing,
        )
    }
}

impl webhooks::Guest for Script {
    fn handle(request: Request) -> Result<Response, Rejection> {
        call(
            |doors| &doors.webhook,
            |ctx, webhook| {
                let body = values::bytes(ctx, request.body)?;
                let query = values::json(&request.query)?;
                let headers = values::json(&request.headers)?;
                let Request {
                    method,
                    path,
                    delivery,
                    ..
                } = request;
                webhook.call((method, path, query, headers, body, delivery))
            },
            values::response,
        )
    }
}

impl migrations::Guest for Script {
    fn data_version() -> u32 {
        data_version()
    }

    fn migrate(stored: u32, cursor: Option<String>) -> Result<Option<String>, Rejection> {
        call(
            |doors| &doors.migrate,
            |_, migrate| migrate.call((stored, cursor)),
            values::text,
        )
    }
}

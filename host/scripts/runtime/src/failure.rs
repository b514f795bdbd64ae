//! Says where a script failed, and ends what cannot go on.

use std::cell::Cell;

use rquickjs::{CaughtError, Ctx, Persistent, Value, function::Function};
use serde::Deserialize;

use crate::mixlab::{plugin::types::Rejection, script::source};

thread_local! {
    /// Whether the script has been stopped since it has used up its time.
    static STOPPED: Cell<bool> = const { Cell::new(false) };
}

/// What the engine asks now and then while it runs the script: whether to stop it. What tells where it was
/// runs to its end.
pub fn is_to_stop() -> bool {
    if STOPPED.get() {
        return false;
    }
    let is_over = source::is_out_of_time();
    STOPPED.set(is_over);
    is_over
}

/// Whether the script has been stopped.
pub fn was_stopped() -> bool {
    STOPPED.get()
}

/// Whether the script has been stopped, or is about to be.
pub fn is_over() -> bool {
    was_stopped() || source::is_out_of_time()
}

/// What `js/` makes of an error.
#[derive(Default, Deserialize)]
struct Told {
    /// Whether the script meant it.
    code: Option<String>,
    text: String,
    #[serde(default)]
    temporary: bool,
    retry_after_ms: Option<u64>,
    details: Option<String>,
    /// Whether the engine is not to go on.
    #[serde(default)]
    is_final: bool,
}

/// What becomes of an error that a script let go: a rejection that it meant, or one that says that the script
/// failed, and where; `stuck` says it of a promise that nothing will settle. It does not return if the
/// instance is of no use any more.
pub fn rejection<'js>(
    ctx: &Ctx<'js>,
    error: CaughtError<'js>,
    tell: &Persistent<Function<'static>>,
    stuck: impl FnOnce(&Ctx<'js>) -> String,
) -> Rejection {
    let was_stopped = match &error {
        CaughtError::Error(rquickjs::Error::WouldBlock) => is_over(),
        _ => was_stopped(),
    };
    let told = match error {
        CaughtError::Error(rquickjs::Error::WouldBlock) => failed(stuck(ctx)),
        CaughtError::Error(error) => failed(error.to_string()),
        CaughtError::Exception(exception) => told(ctx, exception.into_value(), tell, was_stopped),
        CaughtError::Value(value) => told(ctx, value, tell, was_stopped),
    };
    if was_stopped || told.is_final {
        end(&told.text);
    }
    Rejection {
        code: told.code.unwrap_or_else(|| "plugin_error".to_owned()),
        message: told.text,
        temporary: told.temporary,
        retry_after_ms: told.retry_after_ms,
        details: told.details,
    }
}

fn failed(text: String) -> Told {
    Told {
        text,
        ..Told::default()
    }
}

fn told<'js>(
    ctx: &Ctx<'js>,
    error: Value<'js>,
    tell: &Persistent<Function<'static>>,
    was_stopped: bool,
) -> Told {
    let words = || -> rquickjs::Result<String> {
        tell.clone()
            .restore(ctx)?
            .call((error.clone(), was_stopped, source::is_out_of_time()))
    };
    match words() {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|_| failed(text)),
        Err(_) => {
            // Nothing is left to say it with.
            ctx.catch();
            let stack = error
                .as_object()
                .and_then(|object| object.get("stack").ok());
            failed(stack.unwrap_or_else(|| "it failed".to_owned()))
        }
    }
}

/// Ends the instance. The text is what the host says of it.
pub fn end(text: &str) -> ! {
    source::fail(text);
    unreachable!("the host has ended the instance")
}

//! Evaluates a script, once in an instance, and calls into it.

use std::cell::{OnceCell, RefCell};

use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Function, Module, Persistent, Promise, Result,
    Runtime, Value,
    promise::{PromiseHookType, PromiseState},
};
use serde::Deserialize;

use crate::{
    Description, Offer, failure,
    mixlab::{plugin::types::Rejection, script::source},
    modules::Modules,
};

/// How much of the stack calls may take; of the host's own for WebAssembly, which nobody here sees, they take
/// up to eight times as much, and that has 1 MiB.
const STACK_BYTES: usize = 112 * 1024;

/// Memory of the instance that is not the script's: the stack, the component itself, and what
/// is made of its memory while it is told that there is no more.
const OWN_BYTES: u64 = 4 << 20;

/// A script that was loaded.
struct Script {
    context: Context,
    doors: Doors,
    offer: Offer,
    data_version: u32,
}

/// Where calls go in: what `js/entry.js` exports.
pub struct Doors {
    pub handle: Door,
    pub filter: Door,
    pub connect: Door,
    pub disconnect: Door,
    pub fire: Door,
    pub webhook: Door,
    pub migrate: Door,
    /// Says what became of an error.
    tell: Door,
    /// Says what is known of a call that will never end.
    stuck: Door,
    /// Says where in the script this is.
    place: Door,
}

impl Doors {
    fn rejection<'js>(&self, ctx: &Ctx<'js>, error: CaughtError<'js>) -> Rejection {
        failure::rejection(ctx, error, &self.tell, |ctx| {
            let made = LAST_PROMISE.take();
            let stuck = self.stuck.clone().restore(ctx);
            let text =
                stuck.and_then(|stuck| stuck.call::<_, String>((made, failure::is_over())));
            text.unwrap_or_else(|error| error.to_string())
        })
    }
}

type Door = Persistent<Function<'static>>;

/// Promises that were rejected, and that nobody has asked for their result.
type Unheard = Vec<(Persistent<Value<'static>>, Persistent<Value<'static>>)>;

thread_local! {
    static SCRIPT: OnceCell<Script> = const { OnceCell::new() };
    static UNHEARD: RefCell<Unheard> = const { RefCell::new(Vec::new()) };
    /// Where the script made its last promise, while it is loaded.
    static LAST_PROMISE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What `js/` says of a script.
#[derive(Deserialize)]
struct Described {
    description: Description,
    offer: Offer,
    data_version: u32,
}

/// Evaluates the script, and says what it is.
pub fn load(config: &str) -> std::result::Result<Description, String> {
    let in_words = |error: rquickjs::Error| error.to_string();
    let runtime = Runtime::new().map_err(in_words)?;
    let memory = source::memory();
    let share = memory.saturating_sub(OWN_BYTES).max(OWN_BYTES / 4);
    runtime.set_memory_limit(usize::try_from(share).unwrap_or(usize::MAX));
    runtime.set_max_stack_size(STACK_BYTES);
    runtime.set_interrupt_handler(Some(Box::new(failure::is_to_stop)));
    runtime.set_host_promise_rejection_tracker(Some(Box::new(
        |ctx, promise, reason, is_handled| {
            let promise = Persistent::save(&ctx, promise);
            UNHEARD.with_borrow_mut(|unheard| match is_handled {
                true => unheard.retain(|(other, _)| *other != promise),
                false => unheard.push((promise, Persistent::save(&ctx, reason))),
            });
        },
    )));
    let modules = Modules::default();
    runtime.set_loader(modules.clone(), modules);
    let context = Context::full(&runtime).map_err(in_words)?;
    let doors = context.with(|ctx| doors(&ctx).catch(&ctx).map_err(|error| error.to_string()))?;
    let place = doors.place.clone();
    runtime.set_promise_hook(Some(Box::new(move |ctx, event, _, _| {
        if event == PromiseHookType::Init {
            let place = place.clone().restore(&ctx);
            if let Ok(Some(place)) = place.and_then(|place| place.call::<_, Option<String>>(())) {
                LAST_PROMISE.set(Some(place));
            }
        }
    })));
    let described = context.with(|ctx| {
        let described = describe(&ctx, config).catch(&ctx);
        described.map_err(|error| doors.rejection(&ctx, error).message)
    })?;
    runtime.set_promise_hook(None);
    LAST_PROMISE.take();
    let described: Described =
        serde_json::from_str(&described).map_err(|error| format!("its contract: {error}"))?;
    SCRIPT.with(|script| {
        let loaded = Script {
            context,
            doors,
            offer: described.offer,
            data_version: described.data_version,
        };
        if script.set(loaded).is_err() {
            return Err("it is described already".to_owned());
        }
        Ok(described.description)
    })
}

fn doors(ctx: &Ctx<'_>) -> Result<Doors> {
    finish(ctx, &Module::import(ctx, "mixlab:globals")?)?;
    let entry = finish(ctx, &Module::import(ctx, "mixlab:entry")?)?;
    let entry = entry.into_object().ok_or(rquickjs::Error::Unknown)?;
    let door = |name: &str| -> Result<Door> {
        let function: Function = entry.get(name)?;
        Ok(Persistent::save(ctx, function))
    };
    Ok(Doors {
        handle: door("handle")?,
        filter: door("filter")?,
        connect: door("connect")?,
        disconnect: door("disconnect")?,
        fire: door("fire")?,
        webhook: door("webhook")?,
        migrate: door("migrate")?,
        tell: door("tell")?,
        stuck: door("stuck")?,
        place: door("place")?,
    })
}

/// Evaluates the script's file and what it imports; returns the JSON text of what it is.
fn describe(ctx: &Ctx<'_>, config: &str) -> Result<String> {
    let main = source::main();
    let module = Module::declare(ctx.clone(), main.name, main.text)?;
    let (module, evaluated) = module.eval()?;
    finish(ctx, &evaluated)?;
    let exported: Value = module.get("default")?;
    let entry = finish(ctx, &Module::import(ctx, "mixlab:entry")?)?;
    let entry = entry.into_object().ok_or(rquickjs::Error::Unknown)?;
    let describe: Function = entry.get("describe")?;
    describe.call((exported, config, source::plugin_name()))
}

/// The script's value of a promise. All that the script has set going is done by then.
fn finish<'js>(ctx: &Ctx<'js>, promise: &Promise<'js>) -> Result<Value<'js>> {
    while ctx.execute_pending_job() {
        if failure::was_stopped() {
            return Err(rquickjs::Error::WouldBlock);
        }
    }
    let result = match promise.state() {
        PromiseState::Pending => Err(rquickjs::Error::WouldBlock),
        _ => promise.finish(),
    };
    let result = result.map_err(|error| match error {
        rquickjs::Error::Exception => unless_over(ctx),
        error => error,
    });
    let unheard = UNHEARD.take();
    let value = result?;
    match unheard.into_iter().next() {
        Some((_, reason)) => Err(ctx.throw(reason.restore(ctx)?)),
        None => Ok(value),
    }
}

/// The exception that a promise was rejected with. Without time there is no more memory, and what fails for want of
/// that for its own error, too, is rejected with null: the script is stopped a moment before the engine notices.
fn unless_over(ctx: &Ctx<'_>) -> rquickjs::Error {
    let reason = ctx.catch();
    match reason.is_null() && failure::is_over() {
        true => rquickjs::Error::WouldBlock,
        false => ctx.throw(reason),
    }
}

/// Calls the script: `invoke` one of its doors, and `read` what it answers in the end.
pub fn call<T>(
    door: impl FnOnce(&Doors) -> &Door,
    invoke: impl for<'js> FnOnce(&Ctx<'js>, Function<'js>) -> Result<Value<'js>>,
    read: impl for<'js> FnOnce(Value<'js>) -> Result<T>,
) -> std::result::Result<T, Rejection> {
    SCRIPT.with(|script| {
        let Some(script) = script.get() else {
            failure::end("it was called before it was described");
        };
        script.context.with(|ctx| {
            let run = || {
                let door = door(&script.doors).clone().restore(&ctx)?;
                let value = invoke(&ctx, door)?;
                let value = settle(&ctx, value)?;
                read(value)
            };
            let answer = run().catch(&ctx);
            answer.map_err(|error| script.doors.rejection(&ctx, error))
        })
    })
}

/// What a call gave, or what its promise did.
fn settle<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Value<'js>> {
    if let Some(promise) = value.as_promise() {
        return finish(ctx, promise);
    }
    // What a script set going without waiting for it belongs to this call.
    if ctx.execute_pending_job()
        || failure::was_stopped()
        || UNHEARD.with_borrow(|unheard| !unheard.is_empty())
    {
        let (promise, resolve, _) = ctx.promise()?;
        resolve.call::<_, ()>(())?;
        finish(ctx, &promise)?;
    }
    Ok(value)
}

/// What the script has of what is optional.
pub fn offered() -> Offer {
    SCRIPT.with(|script| match script.get() {
        Some(script) => script.offer,
        None => failure::end("it was asked before it was described"),
    })
}

/// The version of the form in which it stores.
pub fn data_version() -> u32 {
    SCRIPT.with(|script| script.get().map_or(0, |script| script.data_version))
}

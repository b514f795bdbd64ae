//! What `js/` asks of the host, and the few things that no script could do by itself: the module
//! `mixlab:natives`. Its functions take and give texts, numbers and bytes; what has more to it is JSON text.

use std::cell::RefCell;

use rquickjs::{
    Array, Coerced, Ctx, Error as JsError, Exception, Function, IntoJs, Persistent, Result,
    TypedArray, Value,
    function::{Constructor, IntoJsFunc},
    module::{Declarations, Exports, ModuleDef},
};
use serde::de::DeserializeOwned;

use crate::{
    mixlab::plugin::{
        ask, broadcast, connection, emit, history, http, log, presence, rooms, sockets, store,
        timers,
        types::{Error, Selection, Target},
    },
    values::{attachments, bytes, json, message, owned},
};

type Bytes<'js> = TypedArray<'js, u8>;
type Attachments<'js> = Option<Vec<Bytes<'js>>>;

thread_local! {
    /// What `js/` makes of an error of the host.
    static HOST_ERROR: RefCell<Option<Persistent<Constructor<'static>>>> = const { RefCell::new(None) };
}

pub struct Natives;

impl ModuleDef for Natives {
    fn declare(declarations: &Declarations<'_>) -> Result<()> {
        for name in NAMES {
            declarations.declare(*name)?;
        }
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> Result<()> {
        let it = Natives::of(ctx, exports);
        it.connection()?;
        it.events()?;
        it.sockets()?;
        it.rooms()?;
        it.store()?;
        it.rest()?;
        it.tools()
    }
}

/// Every function of the module.
const NAMES: &[&str] = &[
    "hostError",
    "id",
    "namespace",
    "address",
    "user",
    "recovered",
    "emit",
    "ask",
    "askSockets",
    "handshake",
    "find",
    "count",
    "data",
    "setData",
    "disconnect",
    "join",
    "leave",
    "joined",
    "joinSockets",
    "leaveSockets",
    "storeGet",
    "storeExists",
    "storeScan",
    "storeSet",
    "storeDelete",
    "storeAdd",
    "paymentUpdate",
    "userNotification",
    "toRole",
    "clients",
    "http",
    "since",
    "presenceEnter",
    "presenceLeave",
    "presenceMembers",
    "presenceCount",
    "timerSet",
    "timerCancel",
    "log",
    "random",
    "encode",
    "decode",
    "parseUrl",
];

/// Where the functions go.
struct Functions<'a, 'js> {
    ctx: &'a Ctx<'js>,
    exports: &'a Exports<'js>,
}

impl Natives {
    fn of<'a, 'js>(ctx: &'a Ctx<'js>, exports: &'a Exports<'js>) -> Functions<'a, 'js> {
        Functions { ctx, exports }
    }
}

impl<'js> Functions<'_, 'js> {
    fn add<P>(&self, name: &str, function: impl IntoJsFunc<'js, P> + 'js) -> Result<()> {
        let function = Function::new(self.ctx.clone(), function)?.with_name(name)?;
        self.exports.export(name, function)?;
        Ok(())
    }

    fn connection(&self) -> Result<()> {
        self.add("hostError", |ctx: Ctx<'js>, error: Constructor<'js>| {
            HOST_ERROR.set(Some(Persistent::save(&ctx, error)));
        })?;
        self.add("id", |ctx: Ctx<'js>| answered(&ctx, connection::id()))?;
        self.add("namespace", |ctx: Ctx<'js>| {
            answered(&ctx, connection::namespace())
        })?;
        self.add("address", |ctx: Ctx<'js>| {
            answered(&ctx, connection::address())
        })?;
        self.add("recovered", |ctx: Ctx<'js>| {
            answered(&ctx, connection::recovered())
        })?;
        self.add("user", |ctx: Ctx<'js>| {
            json(&answered(&ctx, connection::user())?)
        })
    }

    fn events(&self) -> Result<()> {
        self.add(
            "emit",
            |ctx: Ctx<'js>,
             selection: Option<String>,
             event: String,
             arguments: String,
             attached: Attachments<'js>,
             volatile: bool,
             keep: Option<String>| {
                let target = target(&ctx, selection)?;
                let message = message(arguments, attached);
                let options = emit::Options { volatile, keep };
                answered(&ctx, emit::emit(&target, &event, &message, &options))
            },
        )?;
        self.add(
            "ask",
            |ctx: Ctx<'js>,
             event: String,
             arguments: String,
             attached: Attachments<'js>,
             timeout: u32| {
                let message = message(arguments, attached);
                let answer = answered(&ctx, ask::ask(&event, &message, timeout))?;
                let attached = attachments(&ctx, answer.attachments)?;
                list(&ctx, (answer.arguments, attached, ()))
            },
        )?;
        self.add(
            "askSockets",
            |ctx: Ctx<'js>,
             selection: String,
             event: String,
             arguments: String,
             attached: Attachments<'js>,
             timeout: u32| {
                let selection: Selection = read(&ctx, &selection)?;
                let message = message(arguments, attached);
                let asked = ask::ask_sockets(&selection, &event, &message, timeout);
                let asked = answered(&ctx, asked)?;
                let answers = Array::new(ctx.clone())?;
                for (number, answer) in asked.answers.into_iter().enumerate() {
                    let attached = attachments(&ctx, answer.message.attachments)?;
                    let answer = list(&ctx, (answer.socket, answer.message.arguments, attached))?;
                    answers.set(number, answer)?;
                }
                list(&ctx, (answers, asked.missing, ()))
            },
        )
    }

    fn sockets(&self) -> Result<()> {
        self.add("handshake", |ctx: Ctx<'js>| {
            json(&answered(&ctx, sockets::handshake())?)
        })?;
        self.add("find", |ctx: Ctx<'js>, selection: String| {
            let found = sockets::find(&read(&ctx, &selection)?);
            json(&answered(&ctx, found)?)
        })?;
        self.add("count", |ctx: Ctx<'js>, selection: String| {
            let count = sockets::count(&read(&ctx, &selection)?);
            Ok::<_, JsError>(answered(&ctx, count)? as f64)
        })?;
        self.add("data", |ctx: Ctx<'js>| answered(&ctx, sockets::data()))?;
        self.add("setData", |ctx: Ctx<'js>, data: String| {
            answered(&ctx, sockets::set_data(&data))
        })?;
        self.add(
            "disconnect",
            |ctx: Ctx<'js>, selection: Option<String>, close: bool| {
                let target = target(&ctx, selection)?;
                answered(&ctx, sockets::disconnect(&target, close))
            },
        )
    }

    fn rooms(&self) -> Result<()> {
        self.add("join", |ctx: Ctx<'js>, room: String| {
            answered(&ctx, rooms::join(&room))
        })?;
        self.add("leave", |ctx: Ctx<'js>, room: String| {
            answered(&ctx, rooms::leave(&room))
        })?;
        self.add("joined", |ctx: Ctx<'js>| answered(&ctx, rooms::joined()))?;
        self.add(
            "joinSockets",
            |ctx: Ctx<'js>, selection: String, room: String| {
                let selection = read(&ctx, &selection)?;
                answered(&ctx, rooms::join_sockets(&selection, &room))
            },
        )?;
        self.add(
            "leaveSockets",
            |ctx: Ctx<'js>, selection: String, room: String| {
                let selection = read(&ctx, &selection)?;
                answered(&ctx, rooms::leave_sockets(&selection, &room))
            },
        )
    }

    fn store(&self) -> Result<()> {
        type Bucket = Option<String>;
        self.add(
            "storeGet",
            |ctx: Ctx<'js>, bucket: Bucket, key: String, raw: bool| {
                let value = answered(&ctx, store::get(bucket.as_deref(), &key))?;
                value.map(|value| stored(&ctx, value, raw)).transpose()
            },
        )?;
        self.add(
            "storeExists",
            |ctx: Ctx<'js>, bucket: Bucket, key: String| {
                answered(&ctx, store::exists(bucket.as_deref(), &key))
            },
        )?;
        self.add(
            "storeScan",
            |ctx: Ctx<'js>,
             bucket: Bucket,
             prefix: String,
             after: Option<String>,
             limit: u32,
             raw: bool| {
                let entries = store::scan(bucket.as_deref(), &prefix, after.as_deref(), limit);
                let list = Array::new(ctx.clone())?;
                for (number, entry) in answered(&ctx, entries)?.into_iter().enumerate() {
                    list.set(2 * number, entry.key)?;
                    list.set(2 * number + 1, stored(&ctx, entry.value, raw)?)?;
                }
                Ok::<_, JsError>(list)
            },
        )?;
        self.add(
            "storeSet",
            |ctx: Ctx<'js>, bucket: Bucket, key: String, value: Value<'js>, ttl: Option<f64>| {
                let value = match value.as_string() {
                    Some(text) => text.to_string()?.into_bytes(),
                    None => owned(&value.get::<Bytes<'js>>()?),
                };
                let ttl = ttl.map(|ms| ms as u64);
                answered(&ctx, store::set(bucket.as_deref(), &key, &value, ttl))
            },
        )?;
        self.add(
            "storeDelete",
            |ctx: Ctx<'js>, bucket: Bucket, key: String| {
                answered(&ctx, store::delete(bucket.as_deref(), &key))
            },
        )?;
        self.add(
            "storeAdd",
            |ctx: Ctx<'js>, bucket: Bucket, key: String, delta: f64| {
                answered(&ctx, store::add(bucket.as_deref(), &key, delta as i64))
            },
        )
    }

    fn rest(&self) -> Result<()> {
        self.add("paymentUpdate", |ctx: Ctx<'js>, data: String| {
            answered(&ctx, broadcast::broadcast_payment_update(&data))
        })?;
        self.add(
            "userNotification",
            |ctx: Ctx<'js>, user: String, data: String| {
                answered(&ctx, broadcast::send_user_notification(&user, &data))
            },
        )?;
        self.add(
            "toRole",
            |ctx: Ctx<'js>, role: String, event: String, data: String| {
                answered(&ctx, broadcast::broadcast_to_role(&role, &event, &data))
            },
        )?;
        self.add("clients", |ctx: Ctx<'js>| {
            Ok::<_, JsError>(answered(&ctx, broadcast::connected_clients_count())? as f64)
        })?;
        self.add(
            "http",
            |ctx: Ctx<'js>,
             method: String,
             url: String,
             headers: String,
             body: Bytes<'js>,
             timeout_ms: Option<u32>| {
                let response = http::send(&http::Request {
                    method,
                    url,
                    headers: read(&ctx, &headers)?,
                    body: owned(&body),
                    timeout_ms,
                });
                let response = answered(&ctx, response)?;
                let body = bytes(&ctx, response.body)?;
                list(&ctx, (response.status, json(&response.headers)?, body))
            },
        )?;
        self.add(
            "since",
            |ctx: Ctx<'js>, topic: String, position: Option<String>, limit: u32| {
                json(&answered(
                    &ctx,
                    history::since(&topic, position.as_deref(), limit),
                )?)
            },
        )?;
        self.add(
            "presenceEnter",
            |ctx: Ctx<'js>, room: String, data: String| {
                answered(&ctx, presence::enter(&room, &data))
            },
        )?;
        self.add("presenceLeave", |ctx: Ctx<'js>, room: String| {
            answered(&ctx, presence::leave(&room))
        })?;
        self.add("presenceMembers", |ctx: Ctx<'js>, room: String| {
            json(&answered(&ctx, presence::members(&room))?)
        })?;
        self.add("presenceCount", |ctx: Ctx<'js>, room: String| {
            Ok::<_, JsError>(answered(&ctx, presence::count(&room))? as f64)
        })?;
        self.add("timerSet", |ctx: Ctx<'js>, timer: String| {
            answered(&ctx, timers::set(&read(&ctx, &timer)?))
        })?;
        self.add("timerCancel", |ctx: Ctx<'js>, name: String| {
            answered(&ctx, timers::cancel(&name))
        })
    }

    fn tools(&self) -> Result<()> {
        self.add("log", |level: String, text: String| {
            let level = match &*level {
                "debug" => log::Level::Debug,
                "warn" => log::Level::Warn,
                "error" => log::Level::Error,
                _ => log::Level::Info,
            };
            log::write(level, &text);
        })?;
        self.add("random", |ctx: Ctx<'js>, count: usize| {
            let mut random = vec![0; count];
            let filled = getrandom::fill(&mut random);
            filled.map_err(|error| Exception::throw_message(&ctx, &error.to_string()))?;
            bytes(&ctx, random)
        })?;
        self.add("encode", |ctx: Ctx<'js>, text: Coerced<String>| {
            bytes(&ctx, text.0.into_bytes())
        })?;
        self.add(
            "decode",
            |ctx: Ctx<'js>, bytes: Bytes<'js>, is_fatal: bool| match String::from_utf8(owned(
                &bytes,
            )) {
                Ok(text) => Ok(text),
                Err(_) if is_fatal => Err(Exception::throw_type(&ctx, "the bytes are not UTF-8")),
                Err(error) => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
            },
        )?;
        self.add("parseUrl", |text: String, base: Option<String>| {
            url_parts(&text, base.as_deref())
        })
    }
}

/// The parts of a URL in its normal form, by which `js/url.js` changes them; none if it is no URL.
fn url_parts(text: &str, base: Option<&str>) -> Option<Vec<String>> {
    let base = match base {
        Some(base) => Some(url::Url::parse(base).ok()?),
        None => None,
    };
    let url = url::Url::options()
        .base_url(base.as_ref())
        .parse(text)
        .ok()?;
    Some(vec![
        url.as_str().to_owned(),
        url.scheme().to_owned(),
        url.username().to_owned(),
        url.password().unwrap_or_default().to_owned(),
        url.host_str().unwrap_or_default().to_owned(),
        url.port().map(|port| port.to_string()).unwrap_or_default(),
        url.path().to_owned(),
        url.query().unwrap_or_default().to_owned(),
        url.fragment().unwrap_or_default().to_owned(),
        url.origin().ascii_serialization(),
    ])
}

/// What is stored, as text where it is one and nobody wants the bytes.
fn stored<'js>(ctx: &Ctx<'js>, value: Vec<u8>, raw: bool) -> Result<Value<'js>> {
    if raw {
        return bytes(ctx, value)?.into_js(ctx);
    }
    match String::from_utf8(value) {
        Ok(text) => text.into_js(ctx),
        Err(error) => bytes(ctx, error.into_bytes())?.into_js(ctx),
    }
}

/// A list of three things of different kinds.
fn list<'js>(
    ctx: &Ctx<'js>,
    (first, second, third): (impl IntoJs<'js>, impl IntoJs<'js>, impl IntoJs<'js>),
) -> Result<Array<'js>> {
    let list = Array::new(ctx.clone())?;
    list.set(0, first)?;
    list.set(1, second)?;
    list.set(2, third)?;
    Ok(list)
}

fn target(ctx: &Ctx<'_>, selection: Option<String>) -> Result<Target> {
    match selection {
        None => Ok(Target::Sender),
        Some(selection) => read(ctx, &selection).map(Target::Sockets),
    }
}

/// What `js/` says as JSON text.
fn read<T: DeserializeOwned>(ctx: &Ctx<'_>, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Exception::throw_type(ctx, &error.to_string()))
}

/// What the host answered, or its error thrown.
fn answered<T>(ctx: &Ctx<'_>, answer: std::result::Result<T, Error>) -> Result<T> {
    answer.map_err(|error| {
        let (code, text) = match error {
            Error::Denied(text) => ("denied", text),
            Error::Invalid(text) => ("invalid", text),
            Error::OverBudget(text) => ("over-budget", text),
            Error::Busy(text) => ("busy", text),
            Error::Unavailable(text) => ("unavailable", text),
            Error::NoConnection => ("no-connection", "The call is for no connection".to_owned()),
            Error::TimedOut => ("timed-out", "There was no answer in time".to_owned()),
            Error::Disconnected => {
                let text = "The connection ended before the client answered";
                ("disconnected", text.to_owned())
            }
            Error::Unreachable(text) => ("unreachable", text),
        };
        let made = HOST_ERROR.with_borrow(|constructor| {
            let constructor = constructor.clone().ok_or(JsError::Unknown)?;
            let constructor = constructor.restore(ctx)?;
            constructor.construct::<_, Value>((code, text))
        });
        match made {
            Ok(error) => ctx.throw(error),
            Err(error) => error,
        }
    })
}

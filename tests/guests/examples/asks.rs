//! Asks clients, and answers with what they answered. `asks` asks its sender.
use mixlab_guests::prelude::*;
use mixlab_plugin::{AskError, Error};

mixlab_plugin::export!(plugin, connections);

/// An event that is asked, its arguments, and how long the plugin waits for the ack.
#[derive(Deserialize, JsonSchema)]
struct Question {
    event: String,
    arguments: Vec<Value>,
    wait_ms: u64,
}

/// What came of an ask.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Answered(Value),
    TimedOut,
    Disconnected,
    Denied(String),
    Invalid(String),
    OverBudget(String),
}

impl From<AskError> for Answer {
    fn from(error: AskError) -> Self {
        match error {
            AskError::TimedOut => Self::TimedOut,
            AskError::Disconnected => Self::Disconnected,
            AskError::Refused(Error::Denied(text)) => Self::Denied(text),
            AskError::Refused(Error::Invalid(text)) | AskError::Invalid(text) => {
                Self::Invalid(text)
            }
            AskError::Refused(Error::OverBudget(text)) => Self::OverBudget(text),
        }
    }
}

fn plugin(config: &Config) -> Result<Plugin, String> {
    let Settings { namespaces, when } = config.get()?;
    let plugin = guest("asks", |event| event.handle(ask_in_turn));
    let anyone = |name: &str| Event::new(name).anyone();
    let plugin = plugin
        .event(anyone("asks:binary").handle_message(ask_binary))
        .event(anyone("asks:first").handle_args(emit_then_ask))
        .event(anyone("asks:fails").handle_args(ask_then_fail))
        .on_connect(move |cx, _: Value| match when.as_deref() {
            Some("connect") => Err(refused(cx)),
            _ => Ok(()),
        })
        .on_disconnect(|cx, _| mixlab_plugin::log::info!("{}", refused(cx).message));
    Ok(namespaces
        .into_iter()
        .fold(plugin, |plugin, namespace| plugin.namespace(namespace)))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    namespaces: Vec<String>,
    /// `connect`: asks those who connect.
    when: Option<String>,
}

/// One after the other.
fn ask_in_turn(cx: &Context, questions: Vec<Question>) -> Result<Vec<Answer>, Rejection> {
    let ask = |question: Question| {
        let wait = Duration::from_millis(question.wait_ms);
        match cx.ask_args::<Value>(&question.event, &question.arguments, wait) {
            Ok(arguments) => Answer::Answered(arguments),
            Err(error) => error.into(),
        }
    };
    Ok(questions.into_iter().map(ask).collect())
}

/// The message goes to the client as it came, and the answer comes back the same way.
fn ask_binary(cx: &Context, message: Message) -> Result<Message, Rejection> {
    Ok(cx.ask_message("question", &message, Duration::from_secs(3))?)
}

/// What was emitted before the ask comes behind it.
fn emit_then_ask(cx: &Context, (): ()) -> Result<(), Rejection> {
    cx.emit("asks:emitted", &1)?;
    Ok(cx.ask("question", &2, Duration::from_secs(3))?)
}

fn ask_then_fail(cx: &Context, (): ()) -> Result<(), Rejection> {
    cx.emit("asks:emitted", &1)?;
    cx.ask::<Value>("question", &2, Duration::from_secs(3))?;
    Err(Rejection::new(
        "too_late",
        "The client was asked all the same",
    ))
}

fn refused(cx: &Context) -> Rejection {
    match cx.ask::<Value>("question", &1, Duration::from_millis(100)) {
        Err(AskError::Refused(Error::Invalid(text))) => Rejection::new("not_now", text),
        other => Rejection::new("unexpected", format!("{other:?}")),
    }
}

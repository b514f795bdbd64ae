//! A quiz in rooms. Players join; whoever starts it has the questions asked one after the other. A round ends
//! by itself, and who was right gets points. All of it is in the store, and a round's end is a timer, so that
//! a quiz goes on over reloads and restarts.
use std::collections::BTreeMap;
use std::time::Duration;

use mixlab_plugin::serde_json::json;
use mixlab_plugin::{Timer, prelude::*};

mixlab_plugin::export!(plugin, timers);

/// `config` in `mixlab.toml`.
#[data]
#[serde(deny_unknown_fields)]
struct Settings {
    /// How long a round takes.
    round_ms: u64,
    questions: Vec<Question>,
}

#[data]
#[serde(deny_unknown_fields)]
struct Question {
    text: String,
    choices: Vec<String>,
    /// The index of the right one.
    right: usize,
}

fn plugin(config: &Config) -> Result<Plugin, String> {
    let settings: &'static Settings = Box::leak(Box::new(config.get()?));
    if settings
        .questions
        .iter()
        .any(|it| it.right >= it.choices.len())
    {
        return Err("a question's right choice is none of its choices".to_owned());
    }
    // Whatever happens in a room happens one after the other, the end of a round included.
    let event = |name: &str| Event::new(name).anyone().serial_by("/0/room");
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .event(event("quiz:join").max_bytes(512).handle(join))
            .event(
                event("quiz:start")
                    .max_bytes(512)
                    .handle(move |cx: &Context, room: Room| start(cx, settings, &room.room)),
            )
            .event(
                event("quiz:answer")
                    .limit(Scope::Socket, "20/10s")
                    .handle(answer),
            )
            .on_timer(move |cx, timer| end_round(cx, settings, &timer)),
    )
}

#[data]
struct Room {
    #[schemars(length(min = 1, max = 64))]
    room: String,
}

#[data]
struct Join {
    #[schemars(length(min = 1, max = 64))]
    room: String,
    #[schemars(length(min = 1, max = 40))]
    name: String,
}

#[data]
struct Choice {
    room: String,
    choice: usize,
}

/// The state of a room, which clients see but for the answers.
#[data]
#[derive(Clone, Default)]
struct Quiz {
    /// Points by player.
    scores: BTreeMap<String, u32>,
    /// The number of the question that is asked; none before the start and after the end.
    round: Option<usize>,
    /// What players chose in this round.
    #[serde(default)]
    answers: BTreeMap<String, usize>,
}

/// How a round ended.
#[data]
struct Ended {
    round: usize,
    right: usize,
    scores: BTreeMap<String, u32>,
    is_last: bool,
}

fn key(room: &str) -> String {
    format!("quiz:{room}")
}

/// A connection plays under the name that it joined with last.
fn join(cx: &Context, join: Join) -> Result<Quiz, Rejection> {
    let key = key(&join.room);
    let mut quiz: Quiz = cx.store().get(&key)?.unwrap_or_default();
    quiz.scores.entry(join.name.clone()).or_default();
    cx.store().set(&key, &quiz)?;
    cx.set_data(&join.name)?;
    cx.join(&key)?;
    cx.to(key).emit("quiz:joined", &join.name)?;
    quiz.answers.clear();
    Ok(quiz)
}

fn start(cx: &Context, settings: &Settings, room: &str) -> Result<(), Rejection> {
    let mut quiz: Quiz = cx.store().get(&key(room))?.unwrap_or_default();
    if quiz.round.is_some() {
        return Err(Rejection::new(
            "quiz_running",
            "The quiz is running already",
        ));
    }
    quiz.scores.values_mut().for_each(|score| *score = 0);
    ask(cx, settings, room, quiz, 0)
}

/// Asks a question, and has the round end by itself.
fn ask(
    cx: &Context,
    settings: &Settings,
    room: &str,
    mut quiz: Quiz,
    round: usize,
) -> Result<(), Rejection> {
    let Some(question) = settings.questions.get(round) else {
        return Err(Rejection::new("no_questions", "There are no questions"));
    };
    quiz.round = Some(round);
    quiz.answers.clear();
    cx.store().set(&key(room), &quiz)?;
    let end = cx
        .timers()
        .after(Duration::from_millis(settings.round_ms))
        .serial(room);
    end.set(room, &round)?;
    let (text, choices) = (&question.text, &question.choices);
    let asked = json!({ "round": round, "text": text, "choices": choices, "ends_in_ms": settings.round_ms });
    Ok(cx
        .to(key(room))
        .include_sender()
        .emit("quiz:question", &asked)?)
}

/// The last choice of a player counts.
fn answer(cx: &Context, choice: Choice) -> Result<(), Rejection> {
    let name: Option<String> = cx.data()?;
    let mut quiz: Quiz = cx.store().get(&key(&choice.room))?.unwrap_or_default();
    let Some(name) = name.filter(|name| quiz.scores.contains_key(name)) else {
        return Err(Rejection::new("not_joined", "Join the quiz first"));
    };
    if quiz.round.is_none() {
        return Err(Rejection::new("no_round", "Nothing is asked right now"));
    }
    quiz.answers.insert(name, choice.choice);
    Ok(cx.store().set(&key(&choice.room), &quiz)?)
}

fn end_round(cx: &Context, settings: &Settings, timer: &Timer) -> Result<(), Rejection> {
    let (room, round) = (timer.name(), timer.payload::<usize>()?);
    let mut quiz: Quiz = cx.store().get(&key(room))?.unwrap_or_default();
    quiz.round = None;
    // The questions may be others by now.
    if let Some(question) = settings.questions.get(round) {
        for (name, choice) in std::mem::take(&mut quiz.answers) {
            let point = u32::from(choice == question.right);
            *quiz.scores.entry(name).or_default() += point;
        }
        let ended = Ended {
            round,
            right: question.right,
            scores: quiz.scores.clone(),
            is_last: round + 1 >= settings.questions.len(),
        };
        cx.to(key(room))
            .include_sender()
            .emit("quiz:ended", &ended)?;
        if !ended.is_last {
            return ask(cx, settings, room, quiz, round + 1);
        }
    }
    Ok(cx.store().set(&key(room), &quiz)?)
}

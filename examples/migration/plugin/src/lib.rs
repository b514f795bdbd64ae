//! Studios where users talk. `../node` is the same thing on Node.
use mixlab_plugin::prelude::*;

mixlab_plugin::export!(plugin, connections);

/// What begins the name of a studio's room.
const ROOM: &str = "studio:";

fn plugin(_config: &Config) -> Result<Plugin, String> {
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .event(Event::new("enter").handle(enter))
            .event(Event::new("say").handle(say))
            .event(Event::new("announce").roles(["admin"]).handle(announce))
            .on_disconnect(left),
    )
}

/// 1 to 500 characters.
#[data]
struct Text(#[schemars(length(min = 1, max = 500))] String);

#[data]
struct Message {
    studio: Text,
    text: Text,
}

#[data]
struct User {
    id: String,
    name: Option<String>,
}

/// Someone who entered or left a studio.
#[data]
struct Visit<'a> {
    user: User,
    studio: &'a str,
}

#[data]
struct Said {
    user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    studio: Option<Text>,
    text: Text,
}

#[data]
struct Entered {
    studio: String,
}

fn enter(cx: &Context, Text(studio): Text) -> Result<Entered, Rejection> {
    let room = room(&studio);
    cx.join(&room)?;
    let user = user(cx)?;
    let studio = Entered { studio };
    cx.to(room).emit(
        "entered",
        &Visit {
            user,
            studio: &studio.studio,
        },
    )?;
    Ok(studio)
}

fn say(cx: &Context, Message { studio, text }: Message) -> Result<(), Rejection> {
    let room = room(&studio.0);
    if !cx.joined()?.contains(&room) {
        return Err(Rejection::new("not_inside", "Enter the studio first"));
    }
    let said = Said {
        user: user(cx)?,
        studio: Some(studio),
        text,
    };
    cx.to(room).include_sender().emit("said", &said)?;
    Ok(())
}

fn announce(cx: &Context, text: Text) -> Result<(), Rejection> {
    let announced = Said {
        user: user(cx)?,
        studio: None,
        text,
    };
    cx.broadcast()
        .include_sender()
        .emit("announced", &announced)?;
    Ok(())
}

fn left(cx: &Context, _reason: &str) {
    let told = || -> Result<(), Rejection> {
        for room in cx.joined()? {
            let studio = room.strip_prefix(ROOM).unwrap_or(&room);
            cx.to(room.as_str()).emit(
                "left",
                &Visit {
                    user: user(cx)?,
                    studio,
                },
            )?;
        }
        Ok(())
    };
    if let Err(rejection) = told() {
        mixlab_plugin::log::warn!("nobody was told: {}", rejection.message);
    }
}

fn room(studio: &str) -> String {
    format!("{ROOM}{studio}")
}

fn user(cx: &Context) -> Result<User, Rejection> {
    let user = cx.user()?;
    Ok(User {
        id: user.id.clone(),
        name: user.username.clone(),
    })
}

//! Asks everyone in a room but the sender, and answers with what they answered and who did not.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

#[derive(Serialize, JsonSchema)]
struct Vote {
    given: Vec<(String, Value)>,
    missing: Vec<String>,
}

fn plugin(_: &Config) -> Result<Plugin, String> {
    let join = Event::new("votes:join").anyone();
    let join = join.handle(|cx: &Context, room: String| Ok(cx.join(&room)?));
    Ok(guest("votes", |event| event.handle_args(vote)).event(join))
}

fn vote(cx: &Context, (room, wait_ms): (String, u64)) -> Result<Vote, Rejection> {
    let wait = Duration::from_millis(wait_ms);
    let votes = cx.to(room).ask("question", &"vote", wait)?;
    Ok(Vote {
        given: votes.given,
        missing: votes.missing,
    })
}

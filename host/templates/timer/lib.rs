//! Reminds users of something, later.
use std::time::Duration;

use mixlab_plugin::{Timer, prelude::*};

mixlab_plugin::export!(plugin, timers);

fn plugin(_config: &Config) -> Result<Plugin, String> {
    let remind = Event::new("{{name}}:remind")
        .authenticated()
        .limit(Scope::User, "10/1m")
        .handle(remind);
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .event(remind)
            .emits::<Reminder>("{{name}}:reminder")
            .on_timer(on_timer),
    )
}

#[data]
struct Wanted {
    #[schemars(length(min = 1, max = 200))]
    text: String,
    #[schemars(range(min = 1, max = 86400))]
    seconds: u64,
}

#[data]
struct Reminder {
    text: String,
}

fn remind(cx: &Context, Wanted { text, seconds }: Wanted) -> Result<(), Rejection> {
    let user = &cx.user()?.id;
    let later = cx.timers().after(Duration::from_secs(seconds));
    Ok(later.set(&format!("user:{user}"), &(user, text))?)
}

fn on_timer(cx: &Context, timer: Timer) -> Result<(), Rejection> {
    let (user, text): (String, String) = timer.payload()?;
    Ok(cx.to_user(user).emit("{{name}}:reminder", &Reminder { text })?)
}

#[cfg(test)]
mod tests {
    use mixlab_plugin::serde_json::json;
    use mixlab_plugin::test::Host;

    use super::*;

    #[test]
    fn the_user_is_reminded_when_the_time_has_come() {
        let mut host = Host::load(plugin, json!({})).unwrap();
        host.log_in("1", &[]);
        let wanted = json!([{ "text": "tea", "seconds": 180 }]);
        host.send("{{name}}:remind", wanted).unwrap();
        assert!(host.take_emitted().is_empty());
        host.fire("user:1").unwrap();
        assert_eq!(host.take_emitted()[0].arguments, json!([{ "text": "tea" }]));
    }
}

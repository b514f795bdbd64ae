//! Which handler answers which event.
use crate::event::Handler;
use crate::filter::{Filter, matches};
use crate::webhook::OnWebhook;
use crate::{Context, Message, Outcome, Refusal, Rejection, Timer, Verdict};

type OnConnect = Box<dyn Fn(&Context, &str) -> Result<(), Refusal>>;
type OnDisconnect = Box<dyn Fn(&Context, &str)>;
type Migrate = Box<dyn Fn(&Context, u32, Option<String>) -> Result<Option<String>, Rejection>>;
type OnTimer = Box<dyn Fn(&Context, Timer) -> Result<(), Rejection>>;

/// The code of a plugin, as it is called for every event.
#[derive(Default)]
pub(crate) struct Handlers {
    /// Sorted by event name: a handful of names is found faster so than by hashing.
    events: Vec<(String, Handler)>,
    /// With the patterns of their events, in the order in which they were declared.
    pub filters: Vec<(String, Filter)>,
    pub on_connect: Option<OnConnect>,
    pub on_disconnect: Option<OnDisconnect>,
    pub on_timer: Option<OnTimer>,
    pub on_webhook: Option<OnWebhook>,
    /// With the version of what it makes.
    pub migration: Option<(u32, Migrate)>,
}

impl Handlers {
    pub fn insert(&mut self, event: String, handler: Handler) -> Result<(), String> {
        match self.find(&event) {
            Ok(_) => Err(format!("event {event}: has two handlers")),
            Err(place) => {
                self.events.insert(place, (event, handler));
                Ok(())
            }
        }
    }

    pub fn has_hooks(&self) -> bool {
        self.on_connect.is_some() || self.on_disconnect.is_some()
    }

    /// Filters an event of another plugin by the first filter that was declared for it.
    pub fn filter(&self, event: String, message: Message) -> Result<Verdict, Rejection> {
        let mut filters = self.filters.iter();
        match filters.find(|(pattern, _)| matches(pattern, &event)) {
            Some((_, filter)) => filter(&Context::new(event, Vec::new()), message),
            None => Ok(Verdict::Pass),
        }
    }

    /// Answers an event, by its own handler or else by that of `*`.
    pub fn handle(&self, event: String, message: Message) -> Result<Outcome, Rejection> {
        match self.find(&event).or_else(|_| self.find("*")) {
            Ok(found) => (self.events[found].1)(event, message),
            Err(_) => Err(Rejection::new(
                "unknown_event",
                "The plugin does not handle this event",
            )),
        }
    }

    fn find(&self, event: &str) -> Result<usize, usize> {
        self.events
            .binary_search_by(|(name, _)| name.as_str().cmp(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    fn answer(handlers: &Handlers, event: &str) -> String {
        let message = Message {
            arguments: "[7]".to_owned(),
            attachments: Vec::new(),
        };
        match handlers.handle(event.to_owned(), message) {
            Ok(Outcome::Reply(message)) => message.arguments,
            Ok(Outcome::Done) => "done".to_owned(),
            Ok(Outcome::NoAck) => "no ack".to_owned(),
            Err(rejection) => rejection.code,
        }
    }

    fn plugin() -> Plugin {
        Plugin::new("test", "1.0.0")
            .event(Event::new("twice").handle(|_: &Context, n: u8| Ok(n * 2)))
            .event(
                Event::new("all")
                    .handle_args(|_: &Context, (n, m): (u8, Option<u8>)| Ok([Some(n), m])),
            )
            .event(Event::new("whole").handle_message(|_: &Context, message: Message| Ok(message)))
            .event(Event::new("done").handle(|_: &Context, _: Value| Ok(())))
            .event(Event::new("silent").handle(|_: &Context, _: Value| Ok(NoAck)))
            .event(Event::new("text").handle(|_: &Context, _: String| Ok(())))
    }

    #[test]
    fn an_event_is_answered_by_its_handler() {
        let (description, handlers) = plugin().into_parts().unwrap();
        assert_eq!(description.events.len(), 6);
        for (event, expected) in [
            ("twice", "[14]"),
            ("all", "[[7,null]]"),
            ("whole", "[7]"),
            ("done", "done"),
            ("silent", "no ack"),
            ("text", "invalid_payload"),
            ("other", "unknown_event"),
        ] {
            assert_eq!(answer(&handlers, event), expected, "{event}");
        }
    }

    #[test]
    fn a_star_takes_what_is_left() {
        let star = Event::new("*").handle(|cx: &Context, _: Value| Ok(cx.event().to_owned()));
        let (_, handlers) = plugin().event(star).into_parts().unwrap();
        assert_eq!(answer(&handlers, "other"), "[\"other\"]");
        assert_eq!(answer(&handlers, "twice"), "[14]");
    }

    #[test]
    fn what_is_wrong_with_an_event_refuses_the_plugin() {
        let limited = Event::new("late")
            .limit(Scope::User, "often")
            .handle(|_: &Context, _: Value| Ok(()));
        let error = plugin().event(limited).into_parts().err().unwrap();
        assert!(error.starts_with("event late: rate \"often\": "), "{error}");

        let again = Event::new("done").handle(|_: &Context, _: Value| Ok(()));
        assert_eq!(
            plugin().event(again).into_parts().err().unwrap(),
            "event done: has two handlers"
        );
    }
}

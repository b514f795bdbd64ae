//! Filters of other plugins' events.
use serde::Serialize;

pub use crate::bindings::filters::exports::mixlab::plugin::filters::Verdict;
use crate::{Context, Error, Message, Rejection};

pub(crate) type Filter = Box<dyn Fn(&Context, Message) -> Result<Verdict, Rejection>>;

impl Verdict {
    /// The event goes on with this for its one argument.
    pub fn replace(argument: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Message::of(argument).map(Self::Replace)
    }

    /// The event is done, and this is the one argument of its ack.
    pub fn reply(argument: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Message::of(argument).map(Self::Reply)
    }
}

/// Whether an event is one of a pattern, in which `*` stands for any run of characters.
pub(crate) fn matches(pattern: &str, event: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == event;
    };
    let Some(mut left) = event.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    // The last part ends the name, and those before it may stand anywhere, in their order.
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else {
            return false;
        };
        left = &left[at + part.len()..];
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, event, expected) in [
            ("booking:created", "booking:created", true),
            ("booking:created", "booking:created:", false),
            ("booking:*", "booking:", true),
            ("booking:*", "booking", false),
            ("*", "", true),
            ("*:created", "a:created", true),
            ("*:created", "created", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*ab*", "xaab", true),
            ("*ab", "abab", true),
        ] {
            assert_eq!(matches(pattern, event), expected, "{pattern} {event}");
        }
    }
}

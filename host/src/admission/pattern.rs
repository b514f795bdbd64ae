//! What matching a pattern may cost.
//!
//! The engine takes linear time in the text, and at each of its bytes goes through the states of the
//! pattern that are possible there: at worst through all of them.

use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};

use crate::shorten::shortened;

/// Longer patterns are refused: to translate one takes longer than linear time.
const MAX_BYTES: usize = 1024;

/// Patterns of more states are refused.
pub(super) const MAX_STATES: usize = 8192;

/// The memory that so many states take at most while they are counted, in bytes.
const MAX_COUNTING_BYTES: usize = 64 * MAX_STATES;

/// How much of a pattern is shown.
const MAX_SHOWN_CHARS: usize = 100;

/// How many states a pattern has; an error says why it is not taken.
pub(super) fn states(pattern: &str) -> Result<usize, String> {
    let size = pattern.len();
    if size > MAX_BYTES {
        return Err(format!(
            "a pattern has {size} bytes; {MAX_BYTES} are allowed"
        ));
    }
    let refused = |reason: &dyn std::fmt::Display| {
        let shown = shortened(pattern, MAX_SHOWN_CHARS);
        format!("the pattern {shown:?} is not taken: {reason}")
    };
    let translated = jsonschema_regex::to_rust_regex(pattern)
        .map_err(|()| refused(&"it is no regular expression"))?;
    let syntax = regex_syntax::parse(&translated).map_err(|error| match error {
        regex_syntax::Error::Parse(error) => refused(error.kind()),
        regex_syntax::Error::Translate(error) => refused(error.kind()),
        _ => refused(&"it is no regular expression"),
    })?;
    let counting = thompson::Config::new()
        .nfa_size_limit(Some(MAX_COUNTING_BYTES))
        .which_captures(WhichCaptures::None)
        .shrink(false);
    let counted = NFA::compiler().configure(counting).build_from_hir(&syntax);
    match counted.map(|nfa| nfa.states().len()) {
        Ok(states) if states <= MAX_STATES => Ok(states),
        _ => Err(refused(&format_args!(
            "it is too large, with its repetitions written out it has more than {MAX_STATES} states"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_written_out() {
        for (pattern, expected) in [
            ("^a$", 1..20),
            ("^[0-9a-f]{8}-[0-9a-f]{4}$", 10..60),
            ("^(?:a?){1000}b", 2000..2100),
            (r"^\p{L}{1,8}$", 1000..MAX_STATES),
        ] {
            let states = states(pattern).unwrap();
            assert!(expected.contains(&states), "{pattern}: {states}");
        }
    }

    #[test]
    fn a_pattern_that_costs_too_much_is_refused_with_the_reason() {
        for (pattern, reason) in [
            ("^(?:a?){20000}b", "too large"),
            ("((a{1000}){1000}){1000}", "too large"),
            (r"\p{L}{300}", "too large"),
            (r"(?<=a)b", "look-around"),
            (r"(?=a)b", "look-around"),
            (r"(a)\1", "backreferences are not supported"),
            ("(", "no regular expression"),
            (
                &"a".repeat(MAX_BYTES + 1),
                "a pattern has 1025 bytes; 1024 are allowed",
            ),
        ] {
            let error = states(pattern).unwrap_err();
            assert!(error.contains(reason), "{pattern}: {error}");
        }
    }
}

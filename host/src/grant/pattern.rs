//! Names with `*` in them.

use std::fmt;

/// A name in which every `*` stands for any run of characters, also none. There is no escape: a
/// name that holds a `*` is covered by a pattern, never meant alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// A pattern from its text; one that is empty matches the empty name only.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The pattern `*`, which matches every name.
    pub fn any() -> Self {
        Self::new("*")
    }

    /// Whether it matches every name.
    pub fn is_any(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|byte| byte == b'*')
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What every matching name begins with.
    pub fn literal_prefix(&self) -> &str {
        self.0.split('*').next().unwrap_or_default()
    }

    /// Whether `name` is covered, without allocating. Takes at most the product of both lengths:
    /// a star that matched too little is widened, and only the last star needs to be.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut read) = (0, 0);
        // Where to go on when the literal text after the last star did not match: the place
        // after that star, and how far the star has reached.
        let mut retry = None;
        while read < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    at += 1;
                    retry = Some((at, read));
                }
                Some(byte) if *byte == name[read] => {
                    at += 1;
                    read += 1;
                }
                _ => {
                    let Some((after_star, reached)) = retry else {
                        return false;
                    };
                    retry = Some((after_star, reached + 1));
                    (at, read) = (after_star, reached + 1);
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, name, expected) in [
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("lobby", "lobb", false),
            ("lobby", "", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything: at all", true),
            ("**", "", true),
            ("a*", "a", true),
            ("a*", "ab", true),
            ("a*", "ba", false),
            ("*a", "a", true),
            ("*a", "ab", false),
            ("*a", "aaab a", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "acb", false),
            ("*ab", "aab", true),
            ("a*a", "a", false),
            ("booking:*", "booking:", true),
            ("booking:*", "booking", false),
            ("booking:*", "booking:7:x", true),
            ("*:x", "é:x", true),
            ("é*", "è", false),
            ("a*", "a*", true),
            ("a*b", "a*", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(name),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn a_hostile_name_costs_no_more_than_both_lengths_multiplied() {
        // Exponential matchers do not come back from this.
        let pattern = Pattern::new(&"a*".repeat(200));
        assert!(!Pattern::new(&format!("{pattern}b")).matches(&"a".repeat(20_000)));
    }

    #[test]
    fn the_literal_prefix_ends_at_the_first_star() {
        for (pattern, prefix) in [("user:7", "user:7"), ("us*er:", "us"), ("*", ""), ("", "")] {
            assert_eq!(Pattern::new(pattern).literal_prefix(), prefix);
        }
    }
}

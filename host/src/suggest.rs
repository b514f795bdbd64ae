//! Answers to a misspelt word: the known word that was most likely meant.

/// Returns ` (did you mean "listen"?)` if a known word is near, else `; known: "a", "b"`, ready
/// to follow the word in a message. Empty if nothing is known.
pub(crate) fn hint(word: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(word, known) {
        return format!(" (did you mean {near:?}?)");
    }
    if known.is_empty() {
        return String::new();
    }
    let known: Vec<_> = known.iter().map(|word| format!("{word:?}")).collect();
    format!("; known: {}", known.join(", "))
}

/// Returns the known word with the fewest typing errors between it and `word`, if they are few
/// enough for one to be meant as the other.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&word.to_lowercase(), candidate),
                *candidate,
            )
        })
        // Every third letter may be wrong: `lisen`, `jsno`, `pingInterval` are found, and `foo`
        // is no `cpu`.
        .filter(|(errors, candidate)| errors * 3 <= candidate.chars().count().max(3))
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_the_one_that_was_meant() {
        let known = [
            "listen",
            "log",
            "socket",
            "ping_interval",
            "text",
            "json",
            "cpu",
        ];
        for (word, meant) in [
            ("lisen", Some("listen")),
            ("Listen", Some("listen")),
            ("jsno", Some("json")),
            ("pingInterval", Some("ping_interval")),
            ("ping-interval", Some("ping_interval")),
            ("frobnicate", None),
            ("foo", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
    }

    #[test]
    fn a_word_near_to_none_lists_those_that_are_known() {
        assert_eq!(hint("lisen", &["listen"]), r#" (did you mean "listen"?)"#);
        assert_eq!(
            hint("frob", &["level", "format"]),
            r#"; known: "level", "format""#
        );
        assert_eq!(hint("frob", &[]), "");
    }
}

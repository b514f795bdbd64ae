//! Text of plugins, in the places that others read.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

use crate::harmless::{acts, in_lines, in_one_line};

/// A text as a literal of TypeScript.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if acts(character) => {
                let _ = write!(quoted, "\\u{{{:x}}}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// The lines of a text as those of a comment that none of them ends.
pub(super) fn comment_lines(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .map(|line| in_one_line(line).replace("*/", "*\\/"))
}

/// A text in HTML, also between the quotes of an attribute.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in in_lines(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Names that are all different.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// The last number that was put behind a name.
    numbers: HashMap<String, usize>,
}

impl Names {
    /// Names, some of which are taken.
    pub(super) fn without(taken: &[&str]) -> Self {
        Self {
            taken: taken.iter().map(|name| (*name).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// A name of the words in these texts, like `ChatSayRoom`, with a number where it is taken already.
    pub(super) fn make(&mut self, parts: &[&str]) -> String {
        let mut wanted = String::new();
        for word in parts.iter().flat_map(|part| words(part)) {
            let (first, rest) = word.split_at(1);
            wanted.push_str(&first.to_ascii_uppercase());
            wanted.push_str(rest);
        }
        if !wanted.starts_with(|first: char| first.is_ascii_alphabetic()) {
            wanted.insert(0, 'T');
        }
        if self.taken.insert(wanted.clone()) {
            return wanted;
        }
        // No word has a `_`, so none is the same as one with a number.
        let number = self.numbers.entry(wanted.clone()).or_insert(1);
        *number += 1;
        format!("{wanted}_{number}")
    }
}

/// Runs of ASCII letters and digits.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_ends_no_string_no_comment_and_no_element() {
        assert_eq!(
            quoted("a\"; \\\n\u{202e}\u{2028}\u{61c}\u{ad}\u{e0041}"),
            r#""a\"; \\\u{a}\u{202e}\u{2028}\u{61c}\u{ad}\u{e0041}""#
        );
        let lines: Vec<_> = comment_lines("one */ x\r\ntwo\u{2028}*/").collect();
        assert_eq!(lines, ["one *\\/ x", "two\\u2028*\\/"]);
        assert_eq!(
            html("<a href='\"&\u{0}'>"),
            "&lt;a href=&#39;&quot;&amp;\\u0000&#39;&gt;"
        );
    }

    #[test]
    fn names_are_identifiers_and_differ() {
        let mut names = Names::without(&["Taken"]);
        let made = [
            names.make(&["chat", "chat:say", "Room"]),
            names.make(&["chat-chat", "say", "room"]),
            names.make(&["chat", "chat_say.", "Room"]),
            names.make(&["taken"]),
            names.make(&["1", "é"]),
            names.make(&["*"]),
        ];
        let expected = [
            "ChatChatSayRoom",
            "ChatChatSayRoom_2",
            "ChatChatSayRoom_3",
            "Taken_2",
            "T1",
            "T",
        ];
        // Of the second, every word begins with a capital, too.
        assert_eq!(made, expected);
    }
}

//! Text of others, where people read it: plugins, clients and files have their say on terminals, in logs and on pages,
//! and nothing that they say may pass for what the host says.

use std::{borrow::Cow, fmt::Write};

/// Whether a character does more than stand there: it ends a line, moves the cursor, turns the direction of what is
/// read, or is not seen at all.
pub(crate) fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A name, or what else is one line: whatever acts in it is shown instead, line ends as well.
pub(crate) fn in_one_line(text: &str) -> Cow<'_, str> {
    shown(text, acts)
}

/// A text whose lines are lines: whatever else acts in it is shown instead. JSON in it stays the same JSON.
pub(crate) fn in_lines(text: &str) -> Cow<'_, str> {
    shown(text, |character| {
        acts(character) && !matches!(character, '\n' | '\t')
    })
}

/// The same, where all lines but the first begin with `indent`, so that none of them passes for one of the host's.
pub(crate) fn indented(text: &str, indent: &str) -> String {
    in_lines(text).replace('\n', &format!("\n{indent}"))
}

/// Names, each in one line, as a list.
pub(crate) fn listed(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut list = String::new();
    for (number, name) in names.into_iter().enumerate() {
        if number > 0 {
            list += ", ";
        }
        list += &in_one_line(name.as_ref());
    }
    list
}

/// A text of which the characters that `is_shown` tells do nothing and are seen.
pub(crate) fn shown(text: &str, is_shown: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_shown) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_shown(character) {
            true => escape(character, &mut shown),
            false => shown.push(character),
        }
    }
    shown.into()
}

/// Writes a character as JSON and JavaScript do.
fn escape(character: char, text: &mut String) {
    match character {
        '\n' => *text += "\\n",
        '\r' => *text += "\\r",
        '\t' => *text += "\\t",
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a text does not fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_shown_and_what_does_not_stays() {
        for (text, line, lines) in [
            ("plain, ü 漢 🎉", "plain, ü 漢 🎉", "plain, ü 漢 🎉"),
            ("a\nb\tc\r", "a\\nb\\tc\\r", "a\nb\tc\\r"),
            (
                "\u{1b}[2J\u{9b}2J\u{7f}",
                "\\u001b[2J\\u009b2J\\u007f",
                "\\u001b[2J\\u009b2J\\u007f",
            ),
            (
                "\u{202e}\u{2066}\u{2028}",
                "\\u202e\\u2066\\u2028",
                "\\u202e\\u2066\\u2028",
            ),
            ("\u{e0041}", "\\udb40\\udc41", "\\udb40\\udc41"),
        ] {
            assert_eq!(in_one_line(text), line);
            assert_eq!(in_lines(text), lines);
        }
        assert_eq!(indented("a\nb\u{7}", "  "), "a\n  b\\u0007");
        assert_eq!(listed(["a\nb", "c"]), "a\\nb, c");
    }

    #[test]
    fn json_stays_the_same_json() {
        let all = ('\0'..='\u{2fff}').chain('\u{e0000}'..='\u{e00ff}');
        let texts = [all.collect::<String>()];
        let json = serde_json::to_string_pretty(&texts).unwrap();
        let shown = in_lines(&json);
        assert_ne!(shown, json);
        let read: Vec<String> = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, texts);
    }
}

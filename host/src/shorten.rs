//! The beginning of what somebody else has written, for messages and the log.

use std::fmt::{self, Write};

/// At most so many characters of what is shown, and `…` where there are more. No more than that is
/// ever formatted, however large the value is.
pub(crate) fn shortened(shown: &(impl fmt::Display + ?Sized), max_chars: usize) -> String {
    let mut start = Start {
        text: String::new(),
        left: max_chars,
    };
    match write!(start, "{shown}") {
        Ok(()) => start.text,
        Err(fmt::Error) => start.text + "…",
    }
}

/// Takes so many characters, then refuses.
struct Start {
    text: String,
    left: usize,
}

impl Write for Start {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match text.char_indices().nth(self.left) {
            Some((end, _)) => {
                self.text.push_str(&text[..end]);
                self.left = 0;
                Err(fmt::Error)
            }
            None => {
                self.text.push_str(text);
                self.left -= text.chars().count();
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_beginning_is_shown() {
        for (text, max_chars, shown) in [
            ("exact", 5, "exact"),
            ("longer", 5, "longe…"),
            ("üüü", 2, "üü…"),
            ("", 0, ""),
        ] {
            assert_eq!(shortened(text, max_chars), shown);
        }
        assert_eq!(shortened(&format_args!("{}{}", "ab", "cd"), 3), "abc…");
    }
}

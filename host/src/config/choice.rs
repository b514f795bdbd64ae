//! Values that are one word of a few.

use crate::suggest;

/// The value that the text stands for, of those that it may; an unknown one is called by its `kind`.
pub(super) fn choice<T: Copy>(kind: &str, text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
    Err(format!(
        "unknown {kind} {text:?}{}",
        suggest::hint(text, &words)
    ))
}

//! Random ids, in the shape that Socket.IO gives them.

/// How many characters an id has; with 6 bits each, nobody guesses one.
const LENGTH: usize = 20;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 120 random bits as base64url.
pub(crate) fn random() -> String {
    let bits = rand::random::<u128>();
    let letter = |place: usize| char::from(ALPHABET[(bits >> (6 * place)) as usize & 63]);
    (0..LENGTH).map(letter).collect()
}

/// Whether a text could be an id.
pub(crate) fn is_one(text: &str) -> bool {
    text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_twenty_url_safe_characters_and_never_the_same() {
        let (first, second) = (super::random(), super::random());
        assert_ne!(first, second);
        for id in [first, second] {
            let url_safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            assert!(id.len() == 20 && id.chars().all(url_safe), "{id}");
        }
    }
}

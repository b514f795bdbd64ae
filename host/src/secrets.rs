//! What looks like a secret, in what others have named.

/// Fields whose names are one of these, or end with one after `_` or `-`, hold secrets, in whatever JSON they are.
const SECRET_NAMES: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "jwt",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "apikey",
    "api_key",
    "api-key",
    "private_key",
    "secret_key",
    "secret_access_key",
];

/// Whether what has this name is a secret, as far as names tell.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = with_underscores(name);
    let ends = |secret: &&str| {
        let before = name.strip_suffix(*secret);
        before.is_some_and(|before| before.is_empty() || before.ends_with(['_', '-']))
    };
    // In one word.
    let in_one_word = ["accesstoken", "refreshtoken", "idtoken", "clientsecret"];
    SECRET_NAMES.iter().any(ends) || in_one_word.contains(&&*name)
}

/// In lower case, with `_` before what begins with a capital: `newPassword` is `new_password`.
fn with_underscores(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    let mut may_end = false;
    for character in name.chars() {
        if may_end && character.is_ascii_uppercase() {
            text.push('_');
        }
        may_end = character.is_ascii_lowercase() || character.is_ascii_digit();
        text.push(character.to_ascii_lowercase());
    }
    text
}

/// Three parts in base64, of which the first is of JSON.
pub(crate) fn is_json_web_token(text: &str) -> bool {
    let is_base64 = |part: &str| {
        let of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !part.is_empty() && part.bytes().all(of_alphabet)
    };
    let parts: Vec<&str> = text
        .strip_prefix("Bearer ")
        .unwrap_or(text)
        .split('.')
        .collect();
    matches!(&*parts, [head, _, _] if head.starts_with("eyJ")) && parts.into_iter().all(is_base64)
}

//! Claims that plugins are granted: kept with the user, as the token has them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use indexmap::IndexMap;
use serde_json::value::RawValue;

use super::TokenError;
use crate::user::GrantedClaims;

/// A token whose granted claims take more is refused: they are kept with each connection of the user.
const MAX_BYTES: usize = 4096;

/// Whether a claim of this name is granted to somebody.
pub(crate) type IsGranted<'a> = &'a (dyn Fn(&str) -> bool + Sync);

/// The granted claims of a token that has been checked. Each value is the JSON of the token, to the letter.
pub(super) fn granted(token: &str, is_granted: IsGranted<'_>) -> Result<GrantedClaims, TokenError> {
    let part = token.split('.').nth(1).unwrap_or_default();
    let json = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    let claims: IndexMap<String, &RawValue> = serde_json::from_slice(&json)
        .map_err(|_| TokenError::Invalid("its claims are not a JSON object".to_owned()))?;
    let granted = claims.iter().filter(|(name, _)| is_granted(name));
    let granted: GrantedClaims = granted
        .map(|(name, json)| (name.as_str().into(), json.get().into()))
        .collect();
    let size: usize = granted
        .iter()
        .map(|(name, json)| name.len() + json.len())
        .sum();
    match size <= MAX_BYTES {
        true => Ok(granted),
        false => Err(TokenError::Invalid(format!(
            "the claims that plugins are granted have more than {MAX_BYTES} bytes"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(claims: &str, names: &[&str]) -> Result<Vec<(String, String)>, String> {
        let token = format!("x.{}.x", URL_SAFE_NO_PAD.encode(claims));
        let granted = granted(&token, &|name| names.contains(&name));
        let granted = granted.map_err(|error| error.to_string())?;
        Ok(granted
            .iter()
            .map(|(name, json)| (name.to_string(), json.to_string()))
            .collect())
    }

    #[test]
    fn a_granted_claim_is_kept_as_it_was_written() {
        let claims =
            r#"{"sub":"1","tenant":"a","plan":{"b":1.10, "a":18446744073709551616},"n":null}"#;
        let kept = |pairs: &[(&str, &str)]| {
            let owned = |(name, json): &(&str, &str)| (name.to_string(), json.to_string());
            Ok(pairs.iter().map(owned).collect())
        };
        assert_eq!(of(claims, &[]), kept(&[]));
        assert_eq!(of(claims, &["Tenant", "x"]), kept(&[]));
        assert_eq!(
            of(claims, &["plan", "tenant", "n"]),
            kept(&[
                ("tenant", r#""a""#),
                ("plan", r#"{"b":1.10, "a":18446744073709551616}"#),
                ("n", "null"),
            ])
        );
    }

    #[test]
    fn a_token_with_more_than_is_kept_is_refused() {
        // A name of one byte, and two quotes.
        let claims = |length: usize| {
            format!(
                r#"{{"a":"{}","b":"{}"}}"#,
                "x".repeat(length),
                "x".repeat(9000)
            )
        };
        assert!(of(&claims(MAX_BYTES - 3), &["a"]).is_ok());
        let refused = of(&claims(MAX_BYTES - 2), &["a"]);
        assert!(refused.unwrap_err().contains("more than 4096 bytes"));
    }
}

//! Who may do something: subscribe to payments, send an event.

use std::collections::BTreeSet;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::suggest;

/// Who may do something. In `mixlab.toml`: `"anyone"`, `"authenticated"` or a list of roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every connection, anonymous ones too.
    Anyone,
    /// Every user with a valid token.
    Authenticated,
    /// Users with at least one of these roles. Nobody if empty.
    Roles(BTreeSet<String>),
}

impl Access {
    /// Whether a connection is admitted, from what its token says. An anonymous connection has
    /// no roles, whatever `roles` holds.
    pub fn admits(&self, authenticated: bool, roles: &[String]) -> bool {
        match self {
            Access::Anyone => true,
            Access::Authenticated => authenticated,
            Access::Roles(wanted) => {
                authenticated && roles.iter().any(|role| wanted.contains(role))
            }
        }
    }
}

const EXPECTED: &str = r#""anyone", "authenticated" or a list of roles like ["admin"]"#;

impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AccessVisitor)
    }
}

struct AccessVisitor;

impl<'de> Visitor<'de> for AccessVisitor {
    type Value = Access;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Access, E> {
        match word {
            "anyone" => Ok(Access::Anyone),
            "authenticated" => Ok(Access::Authenticated),
            _ => Err(E::custom(
                match suggest::nearest(word, &["anyone", "authenticated"]) {
                    Some(near) => format!("unknown access {word:?} (did you mean {near:?}?)"),
                    None => format!("unknown access {word:?}: expected {EXPECTED}"),
                },
            )),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Access, A::Error> {
        let mut roles = BTreeSet::new();
        while let Some(role) = seq.next_element()? {
            roles.insert(role);
        }
        // Read as "no restriction" by some and as "nobody" by others, so it is neither.
        if roles.is_empty() {
            return Err(A::Error::custom("a list of roles needs at least one role"));
        }
        Ok(Access::Roles(roles))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_admits_those_it_names() {
        let none: &[String] = &[];
        let (staff, admin) = (
            &["staff".to_owned()][..],
            &["user".to_owned(), "admin".to_owned()][..],
        );
        let roles = Access::Roles(["admin".into(), "owner".into()].into());
        for (access, authenticated, has, admitted) in [
            (&Access::Anyone, false, none, true),
            (&Access::Authenticated, false, none, false),
            (&Access::Authenticated, true, none, true),
            (&roles, true, none, false),
            (&roles, true, staff, false),
            (&roles, true, admin, true),
            (&roles, false, admin, false),
            (&Access::Roles([].into()), true, admin, false),
        ] {
            assert_eq!(
                access.admits(authenticated, has),
                admitted,
                "{access:?} {has:?}"
            );
        }
    }

    #[test]
    fn access_is_written_as_a_word_or_a_list() {
        let read = |json: &str| serde_json::from_str::<Access>(json).map_err(|e| e.to_string());
        assert_eq!(read(r#""anyone""#), Ok(Access::Anyone));
        assert_eq!(read(r#""authenticated""#), Ok(Access::Authenticated));
        assert_eq!(read(r#"["a"]"#), Ok(Access::Roles(["a".into()].into())));
        for (json, message) in [
            (
                r#""anyon""#,
                r#"unknown access "anyon" (did you mean "anyone"?)"#,
            ),
            (
                r#""admin""#,
                r#"unknown access "admin": expected "anyone", "authenticated" or a list"#,
            ),
            ("[]", "a list of roles needs at least one role"),
            ("true", "expected \"anyone\", \"authenticated\" or a list"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(message), "{json}: {error}");
        }
    }
}

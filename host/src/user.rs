//! Who a connection belongs to.

use serde::Serialize;

/// A user's id. Tokens and calls may write it as a number or as a string; `42` and `"42"` are the
/// same user.
#[derive(Debug, Clone)]
pub struct UserId {
    text: String,
    /// Only for the way it is written.
    numeric: bool,
}

/// Longer ids are refused: they end up in room names and logs.
const MAX_ID_BYTES: usize = 128;

/// More roles of one user are refused. Each is a room, and plugins are told all of them with every
/// event.
pub const MAX_ROLES: usize = 256;

/// Longer roles are refused, of users and of contracts.
pub const MAX_ROLE_BYTES: usize = 256;

/// Whether a role may be called so: 1 to [`MAX_ROLE_BYTES`] bytes without control characters.
pub(crate) fn is_role(text: &str) -> bool {
    is_name(text, MAX_ROLE_BYTES)
}

/// The room of all who have a role, `role:ROLE`.
pub(crate) fn role_room(role: &str) -> String {
    format!("role:{role}")
}

fn is_name(text: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&text.len()) && !text.chars().any(char::is_control)
}

impl UserId {
    /// From a JSON string or integer; nothing else is an id.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::String(text) => Self::from_text(text),
            serde_json::Value::Number(number) if number.is_i64() || number.is_u64() => Some(Self {
                text: number.to_string(),
                numeric: true,
            }),
            _ => None,
        }
    }

    /// From text: 1 to 128 bytes without control characters.
    pub fn from_text(text: &str) -> Option<Self> {
        is_name(text, MAX_ID_BYTES).then(|| Self {
            text: text.to_owned(),
            numeric: false,
        })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose room this is.
    pub(crate) fn of_room(room: &str) -> Option<Self> {
        Self::from_text(room.strip_prefix("user:")?)
    }

    /// The user's room, `user:ID`.
    pub fn room(&self) -> String {
        format!("user:{}", self.text)
    }
}

impl PartialEq for UserId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for UserId {}

impl Serialize for UserId {
    /// As the token wrote it: a number stays a number.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = self
            .numeric
            .then(|| self.text.parse::<serde_json::Number>().ok())
            .flatten();
        match number {
            Some(number) => number.serialize(serializer),
            None => self.text.serialize(serializer),
        }
    }
}

/// An authenticated user, as its token says. Serialises as the `user` of `authenticated`:
/// `{ id, username, role, roles }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Names room `user:ID`.
    pub id: UserId,
    /// For people.
    pub username: Option<String>,
    /// Each names a room `role:ROLE`; the first is the primary role.
    pub roles: Vec<String>,
    /// What is known of the token.
    pub token: TokenClaims,
}

/// What a token says of itself. Times are in seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenClaims {
    /// When it is good no more (`exp`). None: never.
    pub expires: Option<u64>,
    /// When it was made (`iat`); none if it does not say.
    pub issued: Option<u64>,
    /// What it is called (`jti`), if it has a name that can be revoked.
    pub id: Option<Box<str>>,
    /// The session at its issuer (`sid`), if it names one that can be revoked.
    pub session: Option<Box<str>>,
    /// Those that plugins are granted.
    pub granted: GrantedClaims,
}

/// Claims that plugins are granted, each with its JSON.
pub type GrantedClaims = Box<[(Box<str>, Box<str>)]>;

impl User {
    /// Whether the host keeps some user's sockets in this room.
    pub fn is_own_room(room: &str) -> bool {
        room.starts_with("user:") || room.starts_with("role:")
    }

    /// The rooms that the host keeps the user's sockets in.
    pub fn rooms(&self) -> Vec<String> {
        let roles = self.roles.iter().map(|role| role_room(role));
        std::iter::once(self.id.room()).chain(roles).collect()
    }
}

impl Serialize for User {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            id: &'a UserId,
            username: Option<&'a str>,
            role: Option<&'a str>,
            roles: &'a [String],
        }
        Wire {
            id: &self.id,
            username: self.username.as_deref(),
            role: self.roles.first().map(String::as_str),
            roles: &self.roles,
        }
        .serialize(serializer)
    }
}

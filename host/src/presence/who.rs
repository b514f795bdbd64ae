//! Who is present: a user, or a connection that belongs to nobody.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Who is present.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Named", into = "Named")]
pub enum Who {
    /// The user with this id.
    User(Arc<str>),
    /// The anonymous connection with this public id.
    Anonymous(Arc<str>),
}

impl Who {
    /// The id of the user or of the connection.
    pub fn id(&self) -> &str {
        match self {
            Self::User(id) | Self::Anonymous(id) => id,
        }
    }

    /// Whether it is a connection that belongs to nobody.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous(_))
    }
}

/// The same, between servers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Named {
    User(String),
    Anonymous(String),
}

impl From<Named> for Who {
    fn from(named: Named) -> Self {
        match named {
            Named::User(id) => Self::User(id.into()),
            Named::Anonymous(id) => Self::Anonymous(id.into()),
        }
    }
}

impl From<Who> for Named {
    fn from(who: Who) -> Self {
        match who {
            Who::User(id) => Self::User(id.to_string()),
            Who::Anonymous(id) => Self::Anonymous(id.to_string()),
        }
    }
}

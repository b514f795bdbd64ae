//! Over which transports clients may come.

use serde::Deserialize;

use crate::suggest;

/// `socket.allowed_transports`: `polling`, `websocket` or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct AllowedTransports {
    /// Whether clients may poll.
    pub polling: bool,
    /// Whether they may have a websocket.
    pub websocket: bool,
}

impl Default for AllowedTransports {
    fn default() -> Self {
        Self {
            polling: true,
            websocket: true,
        }
    }
}

impl AllowedTransports {
    /// Whether clients may come over the transport of this name.
    pub(crate) fn allow(self, name: Option<&str>) -> bool {
        match name {
            Some("polling") => self.polling,
            Some("websocket") => self.websocket,
            _ => false,
        }
    }
}

impl TryFrom<Vec<String>> for AllowedTransports {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Self, String> {
        let mut allowed = Self {
            polling: false,
            websocket: false,
        };
        for name in names {
            match &*name {
                "polling" => allowed.polling = true,
                "websocket" => allowed.websocket = true,
                _ => {
                    let hint = suggest::hint(&name, &["polling", "websocket"]);
                    return Err(format!("unknown transport {name:?}{hint}"));
                }
            }
        }
        match allowed.polling || allowed.websocket {
            true => Ok(allowed),
            false => {
                Err("nobody could connect: allow \"polling\", \"websocket\" or both".to_owned())
            }
        }
    }
}

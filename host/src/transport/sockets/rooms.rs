//! How many rooms plugins may put a connection into.

use crate::reserved::is_reserved;

/// A connection is in as many rooms as it may be.
#[derive(Debug, thiserror::Error)]
#[error("socket.max_rooms = {most}")]
pub(crate) struct TooManyRooms {
    most: usize,
}

/// How many rooms a connection may be in. Those that the host keeps do not count: their number is known
/// from the user's roles, and no plugin has a say in them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxRooms(pub usize);

impl MaxRooms {
    /// Whether a connection that is in `rooms` may be in this one as well.
    pub(crate) fn admit<'a>(
        self,
        rooms: impl IntoIterator<Item = &'a str>,
        room: &str,
    ) -> Result<(), TooManyRooms> {
        let mut count = 0;
        for other in rooms {
            if other == room {
                return Ok(());
            }
            count += usize::from(!is_reserved(other));
        }
        if count < self.0 {
            Ok(())
        } else {
            Err(TooManyRooms { most: self.0 })
        }
    }
}

//! Rooms that the host keeps itself: those of users and roles, and that of the clients which may have payment
//! updates.

/// The room of clients that subscribed to payment updates.
pub(crate) const PAYMENTS_ROOM: &str = "payments";

/// Beginnings of such rooms. They are reached by the grants of the same names only; if `room` could name
/// them, it would allow what those do not.
pub(crate) const PREFIXES: [&str; 2] = ["user:", "role:"];

/// Whether the host keeps a room itself.
pub(crate) fn is_reserved(room: &str) -> bool {
    let begins = |reserved: &&str| room.starts_with(reserved);
    room == PAYMENTS_ROOM || PREFIXES.iter().any(begins)
}

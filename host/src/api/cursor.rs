//! Cursors: where the next page of a list begins.
//!
//! A cursor is opaque to backends, and good for the list that it came from, on any server of a cluster and for as long
//! as somebody likes: it names a key, and nothing is kept for it. It is no secret, and gives no right: each page is
//! asked for with a key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::whom::invalid;
use crate::error::WireError;

/// Bytes of the sum with which a cursor begins.
const SUM_BYTES: usize = 8;

/// A cursor behind this key of a list. Whatever the list is made of is in `list`.
pub(super) fn write(list: &str, key: &str) -> String {
    let mut bytes = sum(list, key.as_bytes()).to_vec();
    bytes.extend(key.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key that a cursor of this list is behind.
pub(super) fn read(list: &str, cursor: &str) -> Result<String, WireError> {
    let foreign = || invalid("cursor: it is none of this list");
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| foreign())?;
    let (written, key) = bytes.split_at_checked(SUM_BYTES).ok_or_else(foreign)?;
    if *written != sum(list, key) {
        return Err(foreign());
    }
    String::from_utf8(key.to_vec()).map_err(|_| foreign())
}

/// What tells cursors of one list from those of others, and from what is none.
fn sum(list: &str, key: &[u8]) -> [u8; SUM_BYTES] {
    let mut hash = Sha256::new();
    hash.update((list.len() as u64).to_le_bytes());
    hash.update(list);
    hash.update(key);
    let hash = hash.finalize();
    std::array::from_fn(|index| hash[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_own_list_only() {
        for key in ["", "a", "hall:ü"] {
            let cursor = write("sockets", key);
            assert_eq!(read("sockets", &cursor).unwrap(), key);
            for other in [
                read("rooms", &cursor),
                read("sockets", &cursor[1..]),
                read("sockets", &format!("{cursor}AAAA")),
                read("sockets", "AAAA"),
                read("sockets", "?"),
                read("sockets", ""),
            ] {
                assert_eq!(other.unwrap_err().code, "invalid_payload");
            }
        }
        let key = [0xff];
        let mut bytes = sum("sockets", &key).to_vec();
        bytes.extend(key);
        let cursor = URL_SAFE_NO_PAD.encode(bytes);
        assert!(read("sockets", &cursor).is_err(), "no text");
    }
}

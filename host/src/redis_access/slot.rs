//! Which of the slots of a Redis Cluster a key is in.

/// So many slots there are.
const SLOTS: u16 = 16_384;

/// The slot of a key.
pub(super) fn of(key: &str) -> u16 {
    checksum(tag(key).unwrap_or(key).as_bytes()) % SLOTS
}

/// The part of a key that says which slot it is in, if only a part does: between the first braces, unless
/// nothing is there.
pub(super) fn tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    let (tag, _) = rest.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// CRC-16/XMODEM.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| {
            let shifted = sum << 1;
            if sum & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_redis_has_them() {
        // As `CLUSTER KEYSLOT` answers.
        for (key, slot) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}:bar", 12_182),
            ("a{foo}{bar}", 12_182),
            ("{}foo", of("{}foo")),
        ] {
            assert_eq!(of(key), slot, "{key}");
        }
        assert_eq!(tag("{}foo{bar}"), None);
        assert_eq!(tag("{{a}}"), Some("{a"));
        assert_eq!(of("socket.io"), of("{socket.io}:mixlab:life"));
    }
}

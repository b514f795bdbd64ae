//! The ids of entries in a stream.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// When Redis took an entry, in milliseconds since 1970, and its number among those of that millisecond.
/// Their order is that of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct EntryId(u64);

/// So many bits are of the number. Redis takes some 100 entries in a millisecond.
const NUMBER_BITS: u32 = 20;

impl EntryId {
    /// Reads `MILLISECONDS-NUMBER`, in the one way to write it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (milliseconds, number) = text.split_once('-')?;
        let milliseconds = decimal(milliseconds)?;
        let number = decimal(number)?;
        let fits = milliseconds >> (u64::BITS - NUMBER_BITS) == 0 && number >> NUMBER_BITS == 0;
        fits.then_some(Self(milliseconds << NUMBER_BITS | number))
    }

    /// When Redis took it, since 1970.
    pub(crate) fn milliseconds(self) -> u64 {
        self.0 >> NUMBER_BITS
    }

    /// The same as a time.
    pub(crate) fn time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.milliseconds())
    }

    /// As one number.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// Of this number.
    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0 & ((1 << NUMBER_BITS) - 1);
        write!(f, "{}-{number}", self.0 >> NUMBER_BITS)
    }
}

fn decimal(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leads_with_zero = text.len() > 1 && text.starts_with('0');
    (is_plain && !leads_with_zero).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_redis_writes_it_and_in_no_other_way() {
        for text in ["0-0", "1700000000000-0", "1700000000000-1048575"] {
            let id = EntryId::parse(text).unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(EntryId::from_number(id.number()), id);
        }
        assert!(EntryId::parse("9-9") < EntryId::parse("10-0"));
        for text in [
            "",
            "1",
            "-",
            "1-",
            "-1",
            "+1-0",
            "01-0",
            "1-00",
            "1-0-0",
            "1-1048576",
            "99999999999999999-0",
        ] {
            assert_eq!(EntryId::parse(text), None, "{text}");
        }
    }
}

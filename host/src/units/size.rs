//! Sizes in bytes such as `"64MiB"` or `"1MB"`.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::UnitError;

/// A number of bytes. Written `"64MiB"` (powers of 1024), `"1MB"` (powers of 1000) or as a bare
/// number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// Larger ones are refused: nothing here is meant to take so much, and what is added to them could
/// overflow.
const LARGEST: u64 = bytesize::TIB;

impl Size {
    /// A size of that many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of that many KiB (1024 bytes).
    pub const fn kib(kib: u64) -> Self {
        Self(kib * bytesize::KIB)
    }

    /// A size of that many MiB (1024 KiB).
    pub const fn mib(mib: u64) -> Self {
        Self(mib * bytesize::MIB)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes, for comparing with lengths; the largest `usize` where it does not fit.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

fn checked(text: impl fmt::Debug, bytes: u64) -> Result<Size, UnitError> {
    if bytes > LARGEST {
        return Err(UnitError::new("size", text, "larger than 1TiB"));
    }
    Ok(Size(bytes))
}

fn invalid(text: impl fmt::Debug) -> UnitError {
    UnitError::new(
        "size",
        text,
        r#"expected a number of bytes or one with a unit, like "64MiB""#,
    )
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let size: ByteSize = text.parse().map_err(|_| invalid(text))?;
        checked(text, size.0)
    }
}

/// The shortest exact form, which reads back.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (unit, factor) = [
            ("GiB", bytesize::GIB),
            ("GB", bytesize::GB),
            ("MiB", bytesize::MIB),
            ("MB", bytesize::MB),
            ("KiB", bytesize::KIB),
            ("kB", bytesize::KB),
        ]
        .into_iter()
        .find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor))
        .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(r#"a size like "64MiB""#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
        checked(bytes, bytes).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
        let size = u64::try_from(bytes).map_err(|_| invalid(bytes));
        size.and_then(|size| checked(bytes, size))
            .map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, bytes: f64) -> Result<Size, E> {
        Err(E::custom(invalid(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_of_bytes_or_has_a_unit() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("1MB", 1_000_000),
            ("64 KiB", 64 << 10),
            ("1.5kB", 1_500),
            ("0", 0),
            ("512", 512),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "1.2.3MB", "64 elephants"] {
            let message = format!(
                r#"invalid size {text:?}: expected a number of bytes or one with a unit, like "64MiB""#
            );
            assert_eq!(text.parse::<Size>().unwrap_err().to_string(), message);
        }
        for text in ["99999999EB", "1025GiB", "1099511627777"] {
            let too_large = text.parse::<Size>().unwrap_err().to_string();
            assert_eq!(
                too_large,
                format!(r#"invalid size {text:?}: larger than 1TiB"#)
            );
        }
    }

    #[test]
    fn a_displayed_size_reads_back() {
        for text in ["64MiB", "1MB", "16KiB", "1537B", "0B", "2GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bare_integer_is_bytes() {
        let read = |json| serde_json::from_str::<Size>(json).map_err(|e| e.to_string());
        assert_eq!(read("1024"), Ok(Size::kib(1)));
        assert_eq!(read(r#""1KiB""#), Ok(Size::kib(1)));
        for (json, message) in [
            ("-1", "invalid size -1"),
            ("1.5", "invalid size 1.5"),
            ("1099511627777", "larger than 1TiB"),
            ("18446744073709551615", "larger than 1TiB"),
            ("[]", "expected a size like"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}

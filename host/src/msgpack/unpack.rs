//! From msgpack to JSON.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use rmp::Marker;
use serde::Serialize;

use super::{Malformed, NUMBER, PLACEHOLDER, Unpacked};

/// Milliseconds and nanoseconds since 1970, as msgpack's own extension.
const TIMESTAMP: i8 = -1;

/// What `notepack.io` has for values of JavaScript that msgpack has not: `undefined` in one byte, a date in eight, views of
/// buffers in the forms of any length.
const OF_JAVASCRIPT: i8 = 0;

/// What a vector takes, it takes.
const WRITTEN: &str = "a vector takes everything";

/// The inverse of [`super::pack`], if there are `most` attachments in it at most. However deep it is nested: what is too
/// deep for a message is refused as that of one that came as JSON.
pub(crate) fn unpack(packed: &[u8], most: usize) -> Result<Unpacked, Malformed> {
    let mut unpacking = Unpacking {
        packed,
        most,
        json: Vec::with_capacity(packed.len()),
        attachments: Vec::new(),
        open: Vec::new(),
    };
    unpacking.all()?;
    if !unpacking.packed.is_empty() {
        return Err(Malformed::Rest);
    }
    Ok(Unpacked {
        json: String::from_utf8(unpacking.json).expect("it was written as UTF-8"),
        attachments: unpacking.attachments,
    })
}

struct Unpacking<'a> {
    /// What is still to be read.
    packed: &'a [u8],
    most: usize,
    json: Vec<u8>,
    attachments: Vec<Bytes>,
    /// The lists and maps that the next value is in.
    open: Vec<Open>,
}

/// A list or a map of which so many values are still to come.
struct Open {
    rest: u32,
    is_map: bool,
}

impl<'a> Unpacking<'a> {
    /// One value with all that is in it.
    fn all(&mut self) -> Result<(), Malformed> {
        self.value()?;
        while let Some(inner) = self.open.last_mut() {
            let is_map = inner.is_map;
            if inner.rest == 0 {
                self.open.pop();
                self.push(if is_map { "}" } else { "]" });
                continue;
            }
            inner.rest -= 1;
            if !matches!(self.json.last(), Some(b'[' | b'{')) {
                self.push(",");
            }
            if is_map {
                self.key()?;
            }
            self.value()?;
        }
        Ok(())
    }

    /// One value; of a list or a map only its beginning.
    fn value(&mut self) -> Result<(), Malformed> {
        let marker = Marker::from_u8(self.number::<1>()? as u8);
        match marker {
            Marker::Null => self.push("null"),
            Marker::True => self.push("true"),
            Marker::False => self.push("false"),
            Marker::FixPos(number) => self.write(&number),
            Marker::FixNeg(number) => self.write(&number),
            Marker::U8 => self.unsigned::<1>()?,
            Marker::U16 => self.unsigned::<2>()?,
            Marker::U32 => self.unsigned::<4>()?,
            Marker::U64 => self.unsigned::<8>()?,
            Marker::I8 => self.signed::<1>()?,
            Marker::I16 => self.signed::<2>()?,
            Marker::I32 => self.signed::<4>()?,
            Marker::I64 => self.signed::<8>()?,
            // What is no number of JSON is written as null.
            Marker::F32 => {
                let number = f32::from_bits(self.number::<4>()? as u32);
                self.write(&f64::from(number));
            }
            Marker::F64 => {
                let number = f64::from_bits(self.number::<8>()?);
                self.write(&number);
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                self.begin(marker, false)?;
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                self.begin(marker, true)?;
            }
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let count = self.count(marker)?;
                self.text(count)?;
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let count = self.count(marker)?;
                let bytes = self.take(count)?;
                self.attach(bytes)?;
            }
            Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16 => {
                let count = self.count(marker)?;
                self.extension(count, true)?;
            }
            Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => {
                let count = self.count(marker)?;
                self.extension(count, false)?;
            }
            Marker::Reserved => return Err(Malformed::Reserved),
        }
        Ok(())
    }

    /// How many items or bytes follow.
    fn count(&mut self, marker: Marker) -> Result<usize, Malformed> {
        let count = match marker {
            Marker::FixArray(count) | Marker::FixMap(count) | Marker::FixStr(count) => count.into(),
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            Marker::Str8 | Marker::Bin8 | Marker::Ext8 => self.number::<1>()?,
            Marker::Array16 | Marker::Map16 | Marker::Str16 | Marker::Bin16 | Marker::Ext16 => {
                self.number::<2>()?
            }
            _ => self.number::<4>()?,
        };
        Ok(count as usize)
    }

    fn begin(&mut self, marker: Marker, is_map: bool) -> Result<(), Malformed> {
        let rest = self.count(marker)?;
        let rest = u32::try_from(rest).map_err(|_| Malformed::End)?;
        self.open.push(Open { rest, is_map });
        self.push(if is_map { "{" } else { "[" });
        Ok(())
    }

    fn key(&mut self) -> Result<(), Malformed> {
        let marker = Marker::from_u8(self.number::<1>()? as u8);
        match marker {
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let count = self.count(marker)?;
                self.text(count)?;
            }
            _ => return Err(Malformed::Key),
        }
        self.push(":");
        Ok(())
    }

    fn text(&mut self, count: usize) -> Result<(), Malformed> {
        let bytes = self.take(count)?;
        self.write(&String::from_utf8_lossy(bytes));
        Ok(())
    }

    fn attach(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let number = self.attachments.len();
        if number == self.most {
            return Err(Malformed::Attachments(self.most));
        }
        self.attachments.push(Bytes::copy_from_slice(bytes));
        let placeholder = format!("{{\"{PLACEHOLDER}\":true,\"{NUMBER}\":{number}}}");
        self.push(&placeholder);
        Ok(())
    }

    fn extension(&mut self, count: usize, is_fixed: bool) -> Result<(), Malformed> {
        let kind = self.number::<1>()? as i8;
        let bytes = self.take(count)?;
        match (kind, is_fixed) {
            (TIMESTAMP, _) => self.date(timestamp(bytes)),
            (OF_JAVASCRIPT, true) => self.date(date(bytes)),
            (OF_JAVASCRIPT, false) => self.attach(bytes)?,
            // What JavaScript has no value for.
            _ => self.push("null"),
        }
        Ok(())
    }

    /// A date as JSON has it, if it is one, by the time since 1970.
    fn date(&mut self, since: Option<Duration>) {
        // As late as it can be written.
        const LAST: Duration = Duration::from_secs(253_402_300_799);
        match since.filter(|since| *since <= LAST) {
            Some(since) => {
                let date = humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string();
                self.write(&date);
            }
            None => self.push("null"),
        }
    }

    fn unsigned<const N: usize>(&mut self) -> Result<(), Malformed> {
        let number = self.number::<N>()?;
        self.write(&number);
        Ok(())
    }

    fn signed<const N: usize>(&mut self) -> Result<(), Malformed> {
        // The sign is that of its first bit.
        let unused = 64 - 8 * N as u32;
        let number = (self.number::<N>()? << unused) as i64 >> unused;
        self.write(&number);
        Ok(())
    }

    /// The next so many bytes as a number.
    fn number<const N: usize>(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(N)?.iter();
        Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.packed.split_at_checked(count).ok_or(Malformed::End)?;
        self.packed = rest;
        Ok(taken)
    }

    fn push(&mut self, json: &str) {
        self.json.extend_from_slice(json.as_bytes());
    }

    fn write(&mut self, value: &(impl Serialize + ?Sized)) {
        serde_json::to_writer(&mut self.json, value).expect(WRITTEN);
    }
}

/// msgpack's own, if it is behind 1970.
fn timestamp(bytes: &[u8]) -> Option<Duration> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |it, byte| it << 8 | u64::from(*byte));
    let (seconds, nanoseconds) = match bytes.len() {
        4 => (number(bytes), 0),
        8 => (number(bytes) & 0x3_ffff_ffff, number(bytes) >> 34),
        12 => (number(&bytes[4..]), number(&bytes[..4])),
        _ => return None,
    };
    let is_behind = i64::try_from(seconds).is_ok();
    is_behind
        .then(|| Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds)))
}

/// That of `notepack.io`, in milliseconds, if it is behind 1970.
fn date(bytes: &[u8]) -> Option<Duration> {
    let milliseconds = i64::from_be_bytes(bytes.try_into().ok()?);
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(packed: &[u8]) -> Result<String, Malformed> {
        unpack(packed, 1).map(|unpacked| unpacked.json)
    }

    #[test]
    fn what_is_no_msgpack_is_refused() {
        for (bytes, expected) in [
            (&b""[..], Malformed::End),
            (b"\x81\x01\x01", Malformed::Key),
            (b"\x01\x01", Malformed::Rest),
            (b"\xdd\xff\xff\xff\xff", Malformed::End),
            (b"\xc6\xff\xff\xff\xffx", Malformed::End),
            (b"\xc1", Malformed::Reserved),
            (b"\x92\xc4\x00\xc4\x00", Malformed::Attachments(1)),
        ] {
            assert_eq!(json(bytes), Err(expected), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_nested_deep_takes_no_stack() {
        let packed = [&vec![0x91; 1_000_000][..], &[0xc0]].concat();
        let (begin, end) = ("[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(json(&packed).unwrap(), format!("{begin}null{end}"));
        let packed = [&b"\x81\xa1a".repeat(3)[..], b"\x92\x80\x90"].concat();
        assert_eq!(json(&packed).unwrap(), r#"{"a":{"a":{"a":[{},[]]}}}"#);
    }

    #[test]
    fn a_date_is_what_json_makes_of_it() {
        for (packed, expected) in [
            (
                &[0xd6, 0xff, 0, 0, 0, 1][..],
                "\"1970-01-01T00:00:01.000Z\"",
            ),
            (
                &[0xd7, 0xff, 0, 0, 0, 0, 0, 0, 0, 1],
                "\"1970-01-01T00:00:01.000Z\"",
            ),
            (
                &[0xd7, 0, 0, 0, 0, 0, 0, 0, 7, 0xd0],
                "\"1970-01-01T00:00:02.000Z\"",
            ),
            (&[0xd7, 0, 0xff, 0, 0, 0, 0, 0, 0, 0], "null"),
            (&[0xd7, 0, 0x7f, 0xff, 0, 0, 0, 0, 0, 0], "null"),
            (
                &[0xc7, 12, 0xff, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0],
                "null",
            ),
        ] {
            assert_eq!(json(packed).unwrap(), expected, "{packed:?}");
        }
    }

    #[test]
    fn values_of_javascript_are_what_they_are_there() {
        let buffer = unpack(&[0xc7, 2, 0, 7, 8], 1).unwrap();
        assert_eq!(buffer.attachments, [Bytes::from_static(&[7, 8])]);
        for (packed, expected) in [
            (&[0xd4, 0, 0][..], "null"),
            (&[0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], "null"),
            (
                &[0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe],
                "-2",
            ),
            (&[0xd1, 0x80, 0], "-32768"),
            (&[0xa2, 0xff, b'"'], "\"\u{fffd}\\\"\""),
        ] {
            assert_eq!(json(packed).unwrap(), expected, "{packed:?}");
        }
    }
}

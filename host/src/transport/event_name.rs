//! Event names with quotes, backslashes or control characters.
//!
//! socketioxide reads an event's name without copying, which JSON's escapes do not allow: it would
//! close the whole connection. So an event with such a name gets a plain one in front, and loses
//! it again where the host reads it.

use std::borrow::Cow;

use bytes::Bytes;

/// The plain name. A client that sends an event of this name gets it put in front as well.
const STAND_IN: &str = "mixlab:escaped";

/// What separates the packets of a polling payload.
pub const SEPARATOR: u8 = 0x1e;

/// What is to be done about the name in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Nothing: it is plain, or there is none.
    Plain,
    /// The stand-in must be inserted at this offset.
    Escaped(usize),
    /// It is no event: the client asks for a namespace.
    Connect,
    /// The packet ends before the name does.
    Cut,
}

impl Name {
    /// Looks at the start of an engine.io packet. It reads up to the end of the name.
    pub fn of(packet: impl Iterator<Item = u8>) -> Self {
        Scan { packet, read: 0 }.name().unwrap_or(Self::Cut)
    }
}

struct Scan<I> {
    packet: I,
    /// How many bytes have been read.
    read: usize,
}

impl<I: Iterator<Item = u8>> Scan<I> {
    fn next(&mut self) -> Option<u8> {
        self.read += 1;
        self.packet.next()
    }

    /// The next byte, or the first behind a run of digits if it is one.
    fn skip_digits(&mut self, mut byte: u8) -> Option<u8> {
        while byte.is_ascii_digit() {
            byte = self.next()?;
        }
        Some(byte)
    }

    fn skip_space(&mut self, mut byte: u8) -> Option<u8> {
        while matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            byte = self.next()?;
        }
        Some(byte)
    }

    /// A message (`4`) with an event (`2`) or a binary one (`5` and the number of attachments),
    /// then perhaps a namespace and an ack's id, then the array that begins with the name.
    fn name(&mut self) -> Option<Name> {
        if self.next()? != b'4' {
            return Some(Name::Plain);
        }
        let mut byte = match self.next()? {
            b'2' => self.next()?,
            b'5' => {
                let count = self.next()?;
                if self.skip_digits(count)? != b'-' {
                    return Some(Name::Plain);
                }
                self.next()?
            }
            b'0' if self.next()? == b'/' => return Some(Name::Connect),
            _ => return Some(Name::Plain),
        };
        if byte == b'/' {
            while byte != b',' {
                byte = self.next()?;
            }
            byte = self.next()?;
        }
        byte = self.skip_digits(byte)?;
        if self.skip_space(byte)? != b'[' {
            return Some(Name::Plain);
        }
        let inside = self.read;
        byte = self.next()?;
        if self.skip_space(byte)? != b'"' {
            return Some(Name::Plain);
        }
        let mut stand_in = STAND_IN.bytes();
        let mut is_stand_in = true;
        loop {
            match self.next()? {
                b'\\' => return Some(Name::Escaped(inside)),
                b'"' if is_stand_in && stand_in.next().is_none() => {
                    return Some(Name::Escaped(inside));
                }
                b'"' => return Some(Name::Plain),
                byte => is_stand_in = is_stand_in && stand_in.next() == Some(byte),
            }
        }
    }
}

/// What follows the type of a CONNECT packet for another namespace than `/`: the path first.
pub fn connect(packet: &[u8]) -> Option<&[u8]> {
    packet
        .strip_prefix(b"40")
        .filter(|rest| rest.starts_with(b"/"))
}

/// Puts the stand-in into a packet, given as the bytes before and behind its place.
pub fn insert_stand_in(out: &mut Vec<u8>, before: &[u8], behind: &[u8]) {
    out.extend_from_slice(before);
    out.push(b'"');
    out.extend_from_slice(STAND_IN.as_bytes());
    out.extend_from_slice(b"\",");
    out.extend_from_slice(behind);
}

/// A polling payload with the stand-in wherever it is needed; mostly the same bytes.
pub fn escape_payload(payload: Bytes) -> Bytes {
    let plain = |packet: &&[u8]| !matches!(Name::of(packet.iter().copied()), Name::Escaped(_));
    if payload.split(is_separator).all(|packet| plain(&packet)) {
        return payload;
    }
    let mut out = Vec::with_capacity(payload.len() + STAND_IN.len() + 3);
    for (index, packet) in payload.split(is_separator).enumerate() {
        if index > 0 {
            out.push(SEPARATOR);
        }
        match Name::of(packet.iter().copied()) {
            Name::Escaped(place) => insert_stand_in(&mut out, &packet[..place], &packet[place..]),
            Name::Plain | Name::Connect | Name::Cut => out.extend_from_slice(packet),
        }
    }
    out.into()
}

/// Whether it is [`SEPARATOR`].
pub fn is_separator(byte: &u8) -> bool {
    *byte == SEPARATOR
}

/// The array of an EVENT packet as the client wrote it.
pub fn without_stand_in(array: &str) -> Cow<'_, str> {
    let behind = array
        .strip_prefix("[\"")
        .and_then(|rest| rest.strip_prefix(STAND_IN))
        .and_then(|rest| rest.strip_prefix("\","));
    match behind {
        Some(behind) => format!("[{behind}").into(),
        None => array.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escape(packet: &str) -> String {
        let payload = escape_payload(Bytes::copy_from_slice(packet.as_bytes()));
        String::from_utf8(payload.into()).unwrap()
    }

    #[test]
    fn plain_names_and_other_packets_are_left_alone() {
        for packet in [
            "",
            "2",
            "40",
            "40/admin,{\"token\":\"a\\\"b\"}",
            "42[\"a\",\"\\\"\"]",
            "42/ns,17[\"😀\",\"\\n\"]",
            "431[\"\\\"\"]",
            "451-[\"file\",{\"_placeholder\":true,\"num\":0}]",
            "42{\"a\":\"\\\"\"}",
            "42[1,\"\\\"\"]",
            "45x-[\"\\\"\"]",
            "bAQID",
        ] {
            assert_eq!(escape(packet), packet);
        }
    }

    #[test]
    fn escaped_names_get_a_plain_one_in_front_and_lose_it_again() {
        for (before, array) in [
            ("42", r#"["a\"b",1]"#),
            ("4212", r#"["\\"]"#),
            ("42/ns,", r#"[ "\u0001",{"a":[2]}]"#),
            ("42/ns,3", r#"["\n"]"#),
            ("4512-/ns,3", r#"["\t",{"_placeholder":true,"num":0}]"#),
            ("42", r#"["mixlab:escaped",1]"#),
            ("42", r#"[ "mixlab:escaped" ,1]"#),
            ("42", r#"["mixlab:escaped","mixlab:escaped"]"#),
        ] {
            let escaped = escape(&format!("{before}{array}"));
            let inner = escaped.strip_prefix(before).unwrap();
            assert_ne!(inner, array);
            assert_eq!(without_stand_in(inner), array);
            assert_eq!(without_stand_in(r#"["a",1]"#), r#"["a",1]"#);
        }
    }

    #[test]
    fn names_like_the_stand_in_are_plain() {
        for packet in [
            r#"42["mixlab:escape"]"#,
            r#"42["mixlab:escaped2"]"#,
            r#"42["mixlab:error"]"#,
        ] {
            assert_eq!(escape(packet), packet);
        }
    }

    #[test]
    fn the_packets_of_a_payload_are_looked_at_one_by_one() {
        assert_eq!(
            escape("42[\"a\"]\u{1e}42[\"\\n\"]\u{1e}2\u{1e}42[\"\\\\\"]"),
            "42[\"a\"]\u{1e}42[\"mixlab:escaped\",\"\\n\"]\u{1e}2\u{1e}\
             42[\"mixlab:escaped\",\"\\\\\"]"
        );
    }

    #[test]
    fn a_packet_that_is_cut_in_its_name_is_not_judged() {
        let packet = r#"42/ns,7["na\"me"]"#;
        let known = packet.find('\\').unwrap() + 1;
        for cut in 0..packet.len() {
            let name = Name::of(packet.bytes().take(cut));
            assert_eq!(name == Name::Cut, cut < known, "{cut}");
        }
    }
}

//! Who is believed of what comes over Redis: with a secret, only servers that know it.

use std::borrow::Cow;

use redis::streams::StreamId;

use super::seal::Seal;
use crate::{
    config::{self, Unsigned},
    rarely::Rarely,
};

/// The field of an entry, and the key of a map, with what is signed of the rest.
pub(crate) const FIELD: &str = "mac";

/// What entries of the stream are signed for.
const ENTRY: &str = "entry";

/// What events to one connection alone are signed for.
const EVENT: &str = "event";

/// The byte before the code of such an event. They begin with the time, as a number of 64 bits in which the first is
/// another one.
const SIGNED_EVENT: u8 = 0xff;

/// The fields of an entry that are signed, in this order; those that an entry has not are empty.
const SIGNED: [&str; 6] = ["uid", "nsp", "type", "data", "seq", "of"];

/// The first byte of a map of msgpack with no pairs; with so many more for each of up to 15.
const MAP: u8 = 0x80;

/// The last byte of those.
const LARGEST_MAP: u8 = 0x8f;

/// What stands before a code as the last pair of a map: the key, and that 43 bytes of text follow.
const BEFORE_CODE: &[u8] = b"\xa3mac\xd9\x2b";

/// How long a code is.
const CODE_BYTES: usize = 43;

/// Signs, and says what is signed.
pub(crate) struct Signing {
    seal: Option<Seal>,
    takes_unsigned: bool,
    complaints: Rarely,
}

impl Signing {
    /// As configured.
    pub(crate) fn new(config: &config::Cluster) -> Self {
        Self {
            seal: config.secret.as_ref().map(Seal::new),
            takes_unsigned: config.unsigned == Unsigned::Accept,
            complaints: Rarely::default(),
        }
    }

    /// What an entry with these values of its fields has in the field [`FIELD`]; none without a secret.
    pub(crate) fn entry(&self, values: [&str; SIGNED.len()]) -> Option<String> {
        let seal = self.seal.as_ref()?;
        Some(seal.sign(ENTRY, &values.map(str::as_bytes)))
    }

    /// Whether an entry is believed.
    pub(crate) fn takes_entry(&self, entry: &StreamId) -> bool {
        let Some(seal) = &self.seal else {
            return true;
        };
        let values = SIGNED.map(|name| entry.get::<String>(name).unwrap_or_default());
        let is_taken = match entry.get::<String>(FIELD) {
            Some(code) => seal.verifies(ENTRY, &values.each_ref().map(|it| it.as_bytes()), &code),
            None => self.takes_unsigned,
        };
        if !is_taken {
            self.complain(&values[0]);
        }
        is_taken
    }

    /// Signs a map of msgpack for a purpose: with one pair more, which whoever does not know it ignores.
    pub(crate) fn sign(&self, purpose: &str, mut packed: Vec<u8>) -> Vec<u8> {
        let Some(seal) = &self.seal else {
            return packed;
        };
        let code = seal.sign(purpose, &[&packed]);
        debug_assert!((MAP..LARGEST_MAP).contains(&packed[0]), "a small map");
        packed[0] += 1;
        packed.extend_from_slice(BEFORE_CODE);
        packed.extend_from_slice(code.as_bytes());
        packed
    }

    /// The map, if it is believed.
    pub(crate) fn open<'a>(&self, purpose: &str, packed: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let Some(seal) = &self.seal else {
            return Some(packed.into());
        };
        let Some((rest, code)) = split(packed) else {
            if !self.takes_unsigned {
                self.complain(purpose);
            }
            return self.takes_unsigned.then(|| packed.into());
        };
        let is_good = seal.verifies(purpose, &[&rest], code);
        if !is_good {
            self.complain(purpose);
        }
        is_good.then_some(rest.into())
    }

    /// Signs bytes of a connection with this private id.
    pub(crate) fn sign_event(&self, pid: &str, bytes: Vec<u8>) -> Vec<u8> {
        let Some(seal) = &self.seal else {
            return bytes;
        };
        let code = seal.sign(EVENT, &[pid.as_bytes(), &bytes]);
        [&[SIGNED_EVENT], code.as_bytes(), &bytes].concat()
    }

    /// The bytes, if they are believed.
    pub(crate) fn open_event<'a>(&self, pid: &str, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let signed = bytes.strip_prefix(&[SIGNED_EVENT]);
        let (Some(seal), Some(signed)) = (&self.seal, signed) else {
            // What is signed cannot be read by who knows no secret.
            let is_plain = signed.is_none() && (self.seal.is_none() || self.takes_unsigned);
            return is_plain.then_some(bytes);
        };
        let (code, bytes) = signed.split_at_checked(CODE_BYTES)?;
        let code = std::str::from_utf8(code).ok()?;
        let is_good = seal.verifies(EVENT, &[pid.as_bytes(), bytes], code);
        is_good.then_some(bytes)
    }

    fn complain(&self, what: &str) {
        self.complaints.say(|| {
            tracing::error!(
                what,
                "what is not signed with the cluster's secret came over Redis, and is passed over; Node's servers \
                 sign nothing: `cluster.unsigned`"
            );
        });
    }
}

/// A signed map without its last pair, and the code in that.
fn split(packed: &[u8]) -> Option<(Vec<u8>, &str)> {
    let at = packed.len().checked_sub(CODE_BYTES)?;
    let (rest, code) = packed.split_at(at);
    let rest = rest.strip_suffix(BEFORE_CODE)?;
    let mut rest = rest.to_vec();
    let first = rest
        .first_mut()
        .filter(|it| (MAP + 1..=LARGEST_MAP).contains(*it))?;
    *first -= 1;
    Some((rest, std::str::from_utf8(code).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::msgpack;

    fn signing(secret: Option<&str>, unsigned: Unsigned) -> Signing {
        Signing::new(&config::Cluster {
            secret: secret.map(Secret::new),
            unsigned,
            ..Default::default()
        })
    }

    #[test]
    fn a_map_is_believed_that_is_signed_and_can_be_read_by_whoever_signs_nothing() {
        let json = r#"{"type":3,"data":{"a":[1,2.5]}}"#;
        let packed = msgpack::pack(json, &[]);
        let ours = signing(Some("secret"), Unsigned::Refuse);
        let lenient = signing(Some("secret"), Unsigned::Accept);
        let other = signing(Some("another"), Unsigned::Accept);
        let none = signing(None, Unsigned::Refuse);
        let signed = ours.sign("a", packed.clone());
        assert_eq!(signed.len(), packed.len() + BEFORE_CODE.len() + CODE_BYTES);
        assert_eq!(ours.open("a", &signed).as_deref(), Some(&packed[..]));
        assert_eq!(ours.open("b", &signed), None);
        assert_eq!(other.open("a", &signed), None);
        assert_eq!(ours.open("a", &packed), None);
        assert_eq!(lenient.open("a", &packed).as_deref(), Some(&packed[..]));
        assert_eq!(none.sign("a", packed.clone()), packed);
        let read = msgpack::unpack(&none.open("a", &signed).unwrap(), 0).unwrap();
        assert!(read.json.contains(r#""mac""#) && read.json.contains("2.5"));
        for end in 0..signed.len() {
            assert_eq!(ours.open("a", &signed[..end]), None);
        }
        let event = ours.sign_event("pid", b"event".to_vec());
        assert_eq!(ours.open_event("pid", &event), Some(&b"event"[..]));
        assert_eq!(ours.open_event("other", &event), None);
        assert_eq!(ours.open_event("pid", b"event"), None);
        assert_eq!(lenient.open_event("pid", b"event"), Some(&b"event"[..]));
        assert_eq!(none.open_event("pid", b"event"), Some(&b"event"[..]));
        for end in 1..event.len() {
            assert_eq!(ours.open_event("pid", &event[..end]), None);
            assert_eq!(none.open_event("pid", &event[..end]), None);
        }

        let mut changed = signed;
        for index in 0..changed.len() {
            changed[index] ^= 1;
            assert_eq!(ours.open("a", &changed), None, "{index}");
            changed[index] ^= 1;
        }
    }
}

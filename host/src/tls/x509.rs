//! What a certificate says of itself (RFC 5280), as far as a server has to know it.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use der::{
    Decode, Error, ErrorKind, Reader, Result, SliceReader, Tag, TagNumber, Tagged,
    asn1::{AnyRef, GeneralizedTime, UtcTime},
};

/// The type of the extension with the hosts that a certificate is for: 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// What a certificate says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Details {
    /// The names that it is for, in lower case, those with a `*` for their first part, too.
    pub names: Vec<String>,
    /// The addresses that it is for.
    pub addresses: Vec<IpAddr>,
    /// From when on it is good.
    pub not_before: SystemTime,
    /// Until when it is.
    pub not_after: SystemTime,
}

impl Details {
    /// Reads a certificate in DER. Nothing of it is checked.
    pub(super) fn of(certificate: &[u8]) -> Result<Self> {
        let certificate = parts(AnyRef::from_der(certificate)?)?;
        let mut fields = parts(*certificate.first().ok_or_else(incomplete)?)?.into_iter();
        // All but the first version say which they are.
        let mut field = fields.next();
        if field.is_some_and(|field| is_context(field, TagNumber::N0)) {
            field = fields.next();
        }
        let _serial_number = field;
        let [_signature, _issuer, validity] = take(&mut fields)?;
        let [not_before, not_after] = take(&mut parts(validity)?.into_iter())?;
        let mut details = Self {
            names: Vec::new(),
            addresses: Vec::new(),
            not_before: time(not_before)?,
            not_after: time(not_after)?,
        };
        if let Some(extensions) = fields.find(|field| is_context(*field, TagNumber::N3)) {
            details.read_hosts(extensions)?;
        }
        Ok(details)
    }

    fn read_hosts(&mut self, extensions: AnyRef<'_>) -> Result<()> {
        for extension in parts(AnyRef::from_der(extensions.value())?)? {
            let extension = parts(extension)?;
            let (Some(kind), Some(content)) = (extension.first(), extension.last()) else {
                return Err(incomplete());
            };
            if kind.value() != SUBJECT_ALT_NAME {
                continue;
            }
            for host in parts(AnyRef::from_der(content.value())?)? {
                if is_context(host, TagNumber::N2) {
                    let name = String::from_utf8_lossy(host.value());
                    self.names.push(name.to_ascii_lowercase());
                } else if is_context(host, TagNumber::N7) {
                    self.addresses.extend(address(host.value()));
                }
            }
        }
        Ok(())
    }
}

/// What a value is made of.
fn parts(whole: AnyRef<'_>) -> Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(whole.value())?;
    let mut parts = Vec::new();
    while !reader.is_finished() {
        parts.push(reader.decode()?);
    }
    Ok(parts)
}

fn take<'a, const COUNT: usize>(
    fields: &mut impl Iterator<Item = AnyRef<'a>>,
) -> Result<[AnyRef<'a>; COUNT]> {
    let taken: Vec<_> = fields.take(COUNT).collect();
    taken.try_into().map_err(|_| incomplete())
}

fn incomplete() -> Error {
    ErrorKind::Failed.into()
}

fn is_context(value: AnyRef<'_>, wanted: TagNumber) -> bool {
    matches!(value.tag(), Tag::ContextSpecific { number, .. } if number == wanted)
}

fn time(value: AnyRef<'_>) -> Result<SystemTime> {
    let since_epoch: Duration = match value.tag() {
        Tag::UtcTime => value.decode_as::<UtcTime>()?.to_unix_duration(),
        _ => value.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(SystemTime::UNIX_EPOCH + since_epoch)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of nobody: with a version, for `a.example` and 127.0.0.1, from 1970 to 2050.
    fn certificate() -> Vec<u8> {
        let time = |tag, text: &str| value(tag, &[text.as_bytes()]);
        let validity = value(
            0x30,
            &[&time(0x17, "700101000000Z"), &time(0x18, "20500101000000Z")],
        );
        let hosts = value(
            0x30,
            &[
                &value(0x82, &[b"A.example"]),
                &value(0x87, &[&[127, 0, 0, 1]]),
            ],
        );
        let extension = value(
            0x30,
            &[&value(6, &[SUBJECT_ALT_NAME]), &value(4, &[&hosts])],
        );
        let extensions = value(0xa3, &[&value(0x30, &[&extension])]);
        let empty = value(0x30, &[]);
        let version = value(0xa0, &[&value(2, &[&[2]])]);
        let serial = value(2, &[&[1]]);
        let fields: [&[u8]; 8] = [
            &version,
            &serial,
            &empty,
            &empty,
            &validity,
            &empty,
            &empty,
            &extensions,
        ];
        let own = value(0x30, &fields);
        value(0x30, &[&own, &empty, &value(3, &[&[0]])])
    }

    fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = content.len() as u8;
        let head = match length {
            0..0x80 => vec![tag, length],
            0x80.. => vec![tag, 0x81, length],
        };
        [head, content].concat()
    }

    #[test]
    fn a_certificate_says_for_whom_it_is_and_how_long() {
        let details = Details::of(&certificate()).unwrap();
        let until = Duration::from_secs(2_524_608_000);
        let expected = Details {
            names: vec!["a.example".to_owned()],
            addresses: vec![IpAddr::from([127, 0, 0, 1])],
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH + until,
        };
        assert_eq!(details, expected);
    }

    proptest! {
        #[test]
        fn whatever_is_no_certificate_is_refused(at in any::<prop::sample::Index>(), byte: u8, end in any::<prop::sample::Index>()) {
            let mut bytes = certificate();
            let end = end.index(bytes.len());
            prop_assert!(Details::of(&bytes[..end]).is_err());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // It may still be one.
            Details::of(&bytes).ok();
        }
    }
}

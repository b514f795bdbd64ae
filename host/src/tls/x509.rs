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

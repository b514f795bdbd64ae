//! Answers to polls in fewer bytes: gzip or deflate, whichever the client likes better.

use std::io::{self, Write};

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

/// A coding of a body, in the order in which they are liked best by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport::engine) enum Coding {
    Gzip,
    /// The format of zlib (RFC 9110, section 8.4.1.2).
    Deflate,
}

/// How well a client likes a coding: its weight, whether it says so by name, and how far in front. More is better.
type Liking = (u16, bool, usize);

impl Coding {
    const ALL: [Self; 2] = [Self::Gzip, Self::Deflate];

    /// The one that a client likes best, as its `Accept-Encoding` says; none if it does not speak of any.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get_all(header::ACCEPT_ENCODING).iter();
        let accepted: Vec<_> = accepted
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(weighed)
            .collect();
        let liked = Self::ALL.into_iter().rev();
        let liked = liked.filter_map(|coding| Some((liking(coding.name(), &accepted)?, coding)));
        liked
            .max_by_key(|(liking, _)| *liking)
            .map(|(_, coding)| coding)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// As the header `Content-Encoding` has it.
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// Encodes a body.
    pub(super) fn encode(self, body: &[u8]) -> Bytes {
        // The fastest: what takes longer saves little more of packets in JSON.
        let level = Compression::fast();
        let out = Vec::with_capacity(body.len() / 2);
        let encoded = match self {
            Self::Gzip => written(GzEncoder::new(out, level), body, GzEncoder::finish),
            Self::Deflate => written(ZlibEncoder::new(out, level), body, ZlibEncoder::finish),
        };
        encoded.expect("a vector takes everything").into()
    }
}

fn written<E: Write>(
    mut encoder: E,
    body: &[u8],
    finish: impl FnOnce(E) -> io::Result<Vec<u8>>,
) -> io::Result<Vec<u8>> {
    encoder.write_all(body)?;
    finish(encoder)
}

/// A coding and its weight in thousandths: `gzip;q=0.5`. None if that cannot be read.
fn weighed(element: &str) -> Option<(&str, u16)> {
    let (name, parameter) = match element.split_once(';') {
        Some((name, parameter)) => (name, Some(parameter)),
        None => (element, None),
    };
    let weight = match parameter {
        Some(parameter) => weight(parameter.trim())?,
        None => 1000,
    };
    Some((name.trim(), weight))
}

fn weight(parameter: &str) -> Option<u16> {
    let (name, weight) = parameter.split_once('=')?;
    let is_weight = |weight: &f32| (0.0..=1.0).contains(weight);
    let weight = weight.trim().parse().ok().filter(is_weight)?;
    let is_named = name.trim().eq_ignore_ascii_case("q");
    is_named.then(|| (weight * 1000.0).round() as u16)
}

/// How well a coding is liked; none if it is not taken. What is said of it by name counts before what is said of all.
fn liking(name: &str, accepted: &[(&str, u16)]) -> Option<Liking> {
    let find = |name: &str| {
        let is_it = |(it, _): &(&str, u16)| it.eq_ignore_ascii_case(name);
        accepted.iter().position(is_it)
    };
    let (place, is_named) = match find(name) {
        Some(place) => (place, true),
        None => (find("*")?, false),
    };
    let weight = accepted[place].1;
    (weight > 0).then_some((weight, is_named, usize::MAX - place))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::{GzDecoder, ZlibDecoder};

    use super::*;

    #[test]
    fn the_coding_is_the_one_that_the_client_likes_best() {
        const GZIP: Option<Coding> = Some(Coding::Gzip);
        const DEFLATE: Option<Coding> = Some(Coding::Deflate);
        for (accepted, coding) in [
            (&[][..], None),
            (&[""], None),
            (&["identity"], None),
            (&["br, zstd"], None),
            (&["gzip, deflate, br, zstd"], GZIP),
            (&["deflate, gzip"], DEFLATE),
            (&["GZip"], GZIP),
            (&["deflate", "gzip"], DEFLATE),
            (&["deflate;q=0.5, gzip;q=0.6"], GZIP),
            (&["gzip ; q=0.3 , deflate;Q=1.0"], DEFLATE),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000, deflate;q=0.001"], DEFLATE),
            (&["*"], GZIP),
            (&["*;q=0"], None),
            (&["*, gzip;q=0"], DEFLATE),
            (&["*;q=0, deflate"], DEFLATE),
            (&["*, deflate"], DEFLATE),
            (&["xgzip, gzipx"], None),
            (&["gzip;q=2"], None),
            (&["gzip;q=x, deflate"], DEFLATE),
            (&["gzip;level=1"], None),
            (&["gzip;q=NaN"], None),
        ] {
            let mut headers = HeaderMap::new();
            for accepted in accepted {
                let accepted = HeaderValue::from_static(accepted);
                headers.append(header::ACCEPT_ENCODING, accepted);
            }
            assert_eq!(Coding::of(&headers), coding, "{accepted:?}");
        }
    }

    #[test]
    fn what_is_encoded_is_read_again() {
        let body = "42[\"a\",\"packet\"]".repeat(1000);
        for coding in Coding::ALL {
            let encoded = coding.encode(body.as_bytes());
            assert!(encoded.len() < body.len() / 10);
            let mut read = String::new();
            match coding {
                Coding::Gzip => GzDecoder::new(&*encoded).read_to_string(&mut read),
                Coding::Deflate => ZlibDecoder::new(&*encoded).read_to_string(&mut read),
            }
            .unwrap();
            assert_eq!(read, body);
        }
    }
}

//! Which extensions of the websocket protocol a client offers, and what it is answered: permessage-deflate (RFC 7692),
//! without a context that would be kept between messages.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::transport::engine::refusal::Refusal;

const DEFLATE: &str = "permessage-deflate";

/// The answer to one who does not name the size of the server's window.
const ACCEPTED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The only size of the server's window that there is: 32 KiB.
const WINDOW_BITS: &str = "15";

/// What is answered to a client that offers to deflate messages; none if it does not, or not as it can be here.
pub(super) fn deflate(headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
    for offered in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        let offered = offered.to_str().map_err(|_| Refusal::BadRequest)?;
        // An element that is empty is refused, as by `ws`, which Node's servers are made with.
        let offers: Result<Vec<_>, _> = offered.split(',').map(Offer::parse).collect();
        let mut offers = offers?.into_iter();
        if let Some(answer) = offers.find_map(|offer| offer.accepted()) {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// An extension, with its parameters in their order.
struct Offer<'a> {
    extension: &'a str,
    parameters: Vec<(&'a str, Option<String>)>,
}

impl<'a> Offer<'a> {
    /// Reads `NAME; PARAMETER; PARAMETER=VALUE; PARAMETER="VALUE"`. A comma or a semicolon is in no value, as what
    /// stands in quotes has to be a token, too (RFC 6455, section 9.1).
    fn parse(text: &'a str) -> Result<Self, Refusal> {
        let mut parts = text.split(';').map(str::trim);
        let extension = parts.next().filter(|name| is_token(name));
        let parameters = parts.map(|part| {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name, Some(value_of(value)?)),
                None => (part, None),
            };
            is_token(name).then_some((name, value))
        });
        let parameters: Option<_> = parameters.collect();
        match (extension, parameters) {
            (Some(extension), Some(parameters)) => Ok(Self {
                extension,
                parameters,
            }),
            _ => Err(Refusal::BadRequest),
        }
    }

    /// The answer, if it can be taken. One with a parameter that is unknown, wrong or twice there is declined
    /// (RFC 7692, section 7.1).
    fn accepted(&self) -> Option<HeaderValue> {
        if self.extension != DEFLATE {
            return None;
        }
        let mut names = self.parameters.iter().map(|(name, _)| name).enumerate();
        let is_twice = |(index, name)| self.parameters[..index].iter().any(|(it, _)| it == name);
        if names.any(is_twice) {
            return None;
        }
        let mut accepted = ACCEPTED.to_owned();
        for (name, value) in &self.parameters {
            match (*name, value.as_deref()) {
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                // Whatever window the client has, messages are read.
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(bits)) if is_window(bits) => {}
                ("server_max_window_bits", Some(WINDOW_BITS)) => {
                    accepted.push_str("; server_max_window_bits=15");
                }
                _ => return None,
            }
        }
        HeaderValue::try_from(accepted).ok()
    }
}

fn is_window(bits: &str) -> bool {
    let size: Option<u8> = bits.parse().ok().filter(|_| !bits.starts_with(['0', '+']));
    size.is_some_and(|bits| (8..=15).contains(&bits))
}

fn value_of(text: &str) -> Option<String> {
    let value = match text.strip_prefix('"') {
        Some(quoted) => unescaped(quoted.strip_suffix('"')?)?,
        None => text.to_owned(),
    };
    is_token(&value).then_some(value)
}

fn unescaped(quoted: &str) -> Option<String> {
    let mut chars = quoted.chars();
    let mut text = String::new();
    while let Some(char) = chars.next() {
        text.push(match char {
            '\\' => chars.next()?,
            char => char,
        });
    }
    Some(text)
}

fn is_token(text: &str) -> bool {
    // The characters are those of a header's name.
    HeaderName::from_bytes(text.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(offered: &[&str]) -> Result<Option<String>, Refusal> {
        let mut headers = HeaderMap::new();
        for offered in offered {
            headers.append(
                header::SEC_WEBSOCKET_EXTENSIONS,
                HeaderValue::from_bytes(offered.as_bytes()).unwrap(),
            );
        }
        let answer = deflate(&headers)?;
        Ok(answer.map(|answer| answer.to_str().unwrap().to_owned()))
    }

    #[test]
    fn what_is_offered_is_answered_as_rfc_7692_has_it() {
        let with_window = format!("{ACCEPTED}; server_max_window_bits=15");
        for (offered, accepted) in [
            (&[][..], None),
            (&["permessage-deflate"], Some(ACCEPTED)),
            // As browsers do.
            (
                &["permessage-deflate; client_max_window_bits"],
                Some(ACCEPTED),
            ),
            (
                &["permessage-deflate;client_max_window_bits=8"],
                Some(ACCEPTED),
            ),
            (
                &["permessage-deflate; client_no_context_takeover; server_no_context_takeover"],
                Some(ACCEPTED),
            ),
            (
                &["permessage-deflate; server_max_window_bits=15"],
                Some(&*with_window),
            ),
            (
                &["permessage-deflate; server_max_window_bits=\"1\\5\""],
                Some(&*with_window),
            ),
            (
                &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
                Some(ACCEPTED),
            ),
            (&["x-other; a=1", "permessage-deflate"], Some(ACCEPTED)),
            (&["x-other"], None),
            (&["Permessage-Deflate"], None),
            (&["permessage-deflate; server_max_window_bits=10"], None),
            (&["permessage-deflate; server_max_window_bits"], None),
            (&["permessage-deflate; client_max_window_bits=7"], None),
            (&["permessage-deflate; client_max_window_bits=16"], None),
            (&["permessage-deflate; client_max_window_bits=08"], None),
            (&["permessage-deflate; client_max_window_bits=+8"], None),
            (
                &["permessage-deflate; client_max_window_bits; client_max_window_bits"],
                None,
            ),
            (&["permessage-deflate; server_no_context_takeover=1"], None),
            (&["permessage-deflate; unknown"], None),
        ] {
            assert_eq!(
                answer(offered),
                Ok(accepted.map(str::to_owned)),
                "{offered:?}"
            );
        }
        for malformed in [
            "",
            ",",
            ";",
            "permessage-deflate;",
            "permessage-deflate; a=",
            "permessage-deflate; a=\"",
            "permessage-deflate; a=\"\"",
            "permessage-deflate; a=\"b c\"",
            "permessage-deflate; a=\"b\\\"",
            "permessage deflate",
            "permessage-deflate\u{e9}",
        ] {
            assert_eq!(
                answer(&[malformed]),
                Err(Refusal::BadRequest),
                "{malformed:?}"
            );
        }
    }
}

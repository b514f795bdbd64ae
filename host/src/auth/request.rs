//! Tokens in the request by which a session begins: in a header or a cookie, where that is configured.

use http::{HeaderMap, HeaderValue, header};

use crate::config::{self, CookieName, Secret, TokenHeader};

/// Where tokens are looked for in requests.
pub(crate) struct RequestTokens {
    header: Option<TokenHeader>,
    cookie: Option<CookieName>,
}

/// A token that a request has. Nobody has checked it.
#[derive(Debug, PartialEq, Eq)]
pub enum RequestToken {
    /// This one.
    One(Secret),
    /// Several stand in one place, or what stands there is no text: it is never taken for none, nor one of them
    /// for the right one, since a page of a sibling domain can add a cookie to those of its neighbour.
    Unclear,
}

impl RequestToken {
    /// What it takes in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::One(token) => token.expose().len(),
            Self::Unclear => 0,
        }
    }
}

impl RequestTokens {
    /// As configured; none if requests have no tokens to look at.
    pub(crate) fn new(auth: &config::Auth) -> Option<Self> {
        let looks = auth.enabled && auth.reads_requests();
        looks.then(|| Self {
            header: auth.header.clone(),
            cookie: auth.cookie.clone(),
        })
    }

    /// The token of a request. That of the header goes first: a program has put it there, while a browser sends
    /// cookies by itself.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Option<RequestToken> {
        let header = self.header.as_ref();
        let cookie = self.cookie.as_ref();
        header
            .and_then(|header| in_header(header, headers))
            .or_else(|| in_cookies(cookie?, headers))
    }
}

/// What stands in the header: behind `Bearer` in `authorization`, where credentials of another kind are none of
/// ours, and in any other header by itself.
fn in_header(header: &TokenHeader, headers: &HeaderMap) -> Option<RequestToken> {
    let is_authorization = header.name() == header::AUTHORIZATION;
    let values = headers.get_all(header.name()).iter();
    let tokens = values.filter_map(|value| match is_authorization {
        true => bearer(value.as_bytes()),
        false => Some(value.as_bytes()),
    });
    one(tokens)
}

fn bearer(credentials: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credentials.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

fn in_cookies(name: &CookieName, headers: &HeaderMap) -> Option<RequestToken> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let pairs = cookies
        .map(HeaderValue::as_bytes)
        .flat_map(|pairs| pairs.split(|byte| *byte == b';'));
    let values = pairs.filter_map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let is_it = parts.next()?.trim_ascii() == name.as_str().as_bytes();
        let value = parts.next()?.trim_ascii();
        is_it.then(|| unquoted(value))
    });
    one(values)
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    let inner = inner.and_then(|value| value.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// An empty value is none: it is what sites leave of a cookie when a user logs out.
fn one<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<RequestToken> {
    let mut values = values.filter(|value| !value.is_empty());
    let value = values.next()?;
    let text = str::from_utf8(value)
        .ok()
        .filter(|_| values.next().is_none());
    Some(match text {
        Some(text) => RequestToken::One(Secret::new(text)),
        None => RequestToken::Unclear,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(header: Option<&str>, cookie: Option<&str>, sent: &[(&str, &str)]) -> String {
        let auth = config::Auth {
            header: header.map(|name| name.to_owned().try_into().unwrap()),
            cookie: cookie.map(|name| name.to_owned().try_into().unwrap()),
            ..Default::default()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            let name = http::HeaderName::try_from(*name).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let found = RequestTokens::new(&auth).and_then(|tokens| tokens.of(&headers));
        match found {
            None => "none".to_owned(),
            Some(RequestToken::Unclear) => "unclear".to_owned(),
            Some(RequestToken::One(token)) => token.expose().to_owned(),
        }
    }

    #[test]
    fn a_token_is_found_where_it_is_configured_and_nowhere_else() {
        let (authorization, other, cookie) =
            (Some("Authorization"), Some("x-token"), Some("session"));
        for (header, name, sent, token) in [
            (
                None,
                None,
                &[("authorization", "Bearer a"), ("cookie", "session=b")][..],
                "none",
            ),
            (
                authorization,
                None,
                &[("authorization", "Bearer a"), ("cookie", "session=b")],
                "a",
            ),
            (
                None,
                cookie,
                &[("authorization", "Bearer a"), ("cookie", "session=b")],
                "b",
            ),
            (
                authorization,
                cookie,
                &[("authorization", "Bearer a"), ("cookie", "session=b")],
                "a",
            ),
            (
                authorization,
                cookie,
                &[("authorization", "Basic a"), ("cookie", "session=b")],
                "b",
            ),
            (authorization, None, &[("authorization", "bearer  a ")], "a"),
            (authorization, None, &[("authorization", "Bearera")], "none"),
            (authorization, None, &[("authorization", "Bearer ")], "none"),
            (authorization, None, &[("authorization", "Bearer")], "none"),
            (
                authorization,
                None,
                &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
                "unclear",
            ),
            (
                authorization,
                None,
                &[("authorization", "Basic a"), ("authorization", "Bearer b")],
                "b",
            ),
            (other, None, &[("X-Token", "a.b.c")], "a.b.c"),
            (other, None, &[("x-token", "é")], "é"),
            (None, cookie, &[("cookie", "a=1; session=b; c=2")], "b"),
            (None, cookie, &[("cookie", " session = b ")], "b"),
            (None, cookie, &[("cookie", "session=\"b\"")], "b"),
            (None, cookie, &[("cookie", "session=a=b")], "a=b"),
            (None, cookie, &[("cookie", "session=")], "none"),
            (None, cookie, &[("cookie", "session")], "none"),
            (
                None,
                cookie,
                &[("cookie", "Session=b; xsession=c; sessionx=d")],
                "none",
            ),
            (
                None,
                cookie,
                &[("cookie", "session=a; session=b")],
                "unclear",
            ),
            (
                None,
                cookie,
                &[("cookie", "session=a; session=a")],
                "unclear",
            ),
            (None, cookie, &[("cookie", "session=; session=b")], "b"),
            (
                None,
                cookie,
                &[("cookie", "session=a"), ("cookie", "session=b")],
                "unclear",
            ),
        ] {
            assert_eq!(
                found(header, name, sent),
                token,
                "{header:?} {name:?} {sent:?}"
            );
        }
    }

    #[test]
    fn what_is_no_text_is_not_taken_for_nothing() {
        let auth = config::Auth {
            cookie: Some("session".to_owned().try_into().unwrap()),
            ..Default::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            header::COOKIE,
            HeaderValue::from_bytes(b"session=\xff").unwrap(),
        );
        let tokens = RequestTokens::new(&auth).unwrap();
        assert_eq!(tokens.of(&headers), Some(RequestToken::Unclear));
    }

    #[test]
    fn no_token_is_shown_by_debug() {
        let token = RequestToken::One(Secret::new("s3cret"));
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}

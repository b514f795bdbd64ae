//! What a client says in the request that begins its session, as far as plugins may read it.

use axum::{extract::Request, http::HeaderName};

use super::{refusal::Refusal, sessions::Sessions};
use crate::{auth::RequestToken, telemetry::SpanContext};

/// Parameters of the protocol, which mean nothing to others.
const PROTOCOL: [&str; 5] = ["EIO", "transport", "sid", "t", "b64"];

/// So much of a request may be kept, in bytes: what Node takes of a request's head.
const MAX_SIZE: usize = 16 * 1024;

/// What is kept of a request for as long as the session lives.
#[derive(Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The URL's parameters, decoded.
    pub query: Box<[(String, String)]>,
    /// Names in lower case.
    pub headers: Box<[(String, String)]>,
    /// The token, if one is looked for. It is kept as long as its client may ask for more namespaces, and no plugin
    /// reads it here.
    pub(crate) token: Option<RequestToken>,
    /// The span that the client was in, if events are traced.
    pub(crate) span: Option<SpanContext>,
}

/// What may be kept of a client's handshake and of its token, or not.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// The parameters of the URL.
    Query,
    /// The header of this name, in lower case.
    Header(&'a str),
    /// The claim of this name, of the user's token.
    Claim(&'a str),
}

impl Handshake {
    /// Copies from a request what somebody may read; none if that is nothing.
    pub fn of(request: &Request, sessions: &Sessions) -> Result<Option<Box<Self>>, Refusal> {
        let token = sessions.token(request.headers());
        let is_read = sessions.keeps(Part::Query);
        let span = sessions.span(request.headers());
        if !is_read && token.is_none() && span.is_none() {
            return Ok(None);
        }
        let query = request.uri().query().filter(|_| is_read);
        let query = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .filter(|(name, _)| !PROTOCOL.contains(&&**name))
            .map(|(name, value)| (name.into_owned(), value.into_owned()));
        let is_kept = |name: &HeaderName| sessions.keeps(Part::Header(name.as_str()));
        let headers = request.headers().iter();
        let headers = headers
            .filter(|(name, _)| is_kept(name))
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.as_str().to_owned(), value.into_owned())
            });
        let kept = Self {
            query: query.collect(),
            headers: headers.collect(),
            token,
            span,
        };
        match kept.size() {
            0 if kept.token.is_none() && kept.span.is_none() => Ok(None),
            0..=MAX_SIZE => Ok(Some(Box::new(kept))),
            _ => Err(Refusal::HeadTooLarge),
        }
    }

    fn size(&self) -> usize {
        let all = self.query.iter().chain(&self.headers);
        let token = self.token.as_ref().map_or(0, RequestToken::size);
        token
            + all
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
    }
}

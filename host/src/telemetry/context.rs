//! How a span is named to others: W3C Trace Context, level 1.

use std::{fmt, num::NonZeroU64};

use http::HeaderMap;

use crate::error::TraceId;

/// The header that names a span.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// How long its value is in the version that is known.
const BYTES: usize = 55;

/// What one span is known by within its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    pub(super) fn random() -> Self {
        Self(NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A span, here or in another program. Displays as the value of `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace that it is of.
    pub trace: TraceId,
    /// Which of its spans it is.
    pub span: SpanId,
    /// Whether the trace is sent to a collector.
    pub is_sampled: bool,
}

impl SpanContext {
    /// What a request's header says; none where it is missing, there more than once or malformed.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then(|| Self::parse(value))?
    }

    /// Reads `00-TRACE-SPAN-FLAGS`. What a later version has behind that is passed over.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let is_known = match text.get(..2)? {
            "ff" => false,
            "00" => bytes.len() == BYTES,
            _ => bytes.len() == BYTES || bytes.get(BYTES) == Some(&b'-'),
        };
        if !is_known {
            return None;
        }
        let mut parts = text.get(..BYTES)?.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            part.bytes().all(is_hex).then_some(part)
        };
        let (_version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let span = NonZeroU64::new(u64::from_str_radix(span, 16).ok()?)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self {
            trace: TraceId::parse(trace)?,
            span: SpanId(span),
            is_sampled: flags & 1 == 1,
        })
    }
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            span,
            is_sampled,
        } = self;
        write!(f, "00-{trace}-{span}-{:02x}", u8::from(*is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_traceparent_is_read_as_the_standard_has_it() {
        for (text, is_sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-ff"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), true),
        ] {
            let context = SpanContext::parse(&text).expect(&text);
            assert_eq!(context.is_sampled, is_sampled, "{text}");
            let flags = u8::from(is_sampled);
            assert_eq!(
                context.to_string(),
                format!("00-{TRACE}-{SPAN}-{flags:02x}")
            );
        }
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            "00".to_owned(),
            "é".repeat(40),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01x"),
            format!("cc-{TRACE}-{SPAN}-01.what"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-+1"),
            format!("00_{TRACE}_{SPAN}_01"),
        ] {
            assert_eq!(SpanContext::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn two_headers_name_no_span() {
        let value = format!("00-{TRACE}-{SPAN}-01");
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, value.parse().unwrap());
        assert!(SpanContext::of_headers(&headers).is_some());
        headers.append(TRACEPARENT, value.parse().unwrap());
        assert_eq!(SpanContext::of_headers(&headers), None);
    }
}

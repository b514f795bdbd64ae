//! OTLP's JSON (OTLP 1.x, "JSON Protobuf Encoding"): ids are hexadecimal, numbers of 64 bits are texts.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};

use super::{
    SpanContext,
    span::{Open, Value},
};

/// The version of the semantic conventions that names are from.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

/// Who has made what is sent.
const SCOPE: Scope = Scope {
    name: "mixlab",
    version: env!("CARGO_PKG_VERSION"),
};

/// `Status.code` of what has failed.
const ERROR: u8 = 2;

/// A number of 64 bits.
#[derive(Clone, Copy)]
pub(super) struct Long<T>(pub T);

impl<T: std::fmt::Display> Serialize for Long<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A time in nanoseconds since 1970.
pub(super) fn nanos(time: SystemTime) -> Long<u128> {
    Long(
        time.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos(),
    )
}

#[derive(Serialize)]
pub(super) struct Attribute<'a> {
    key: &'a str,
    value: AnyValue<'a>,
}

#[derive(Serialize)]
enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    #[serde(rename = "intValue")]
    Int(Long<i64>),
    #[serde(rename = "doubleValue")]
    Double(f64),
}

impl<'a> Attribute<'a> {
    pub(super) fn text(key: &'a str, text: &'a str) -> Self {
        let value = AnyValue::Text(text);
        Self { key, value }
    }

    fn of((key, value): &'a (&'static str, Value)) -> Self {
        let value = match value {
            Value::Text(text) => AnyValue::Text(text),
            Value::Int(number) => AnyValue::Int(Long(*number)),
            Value::Double(number) => AnyValue::Double(*number),
        };
        Self { key, value }
    }
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Vec<Attribute<'a>>,
}

impl<'a> Resource<'a> {
    fn of(attributes: &'a BTreeMap<String, String>) -> Self {
        let attributes = attributes.iter();
        Self {
            attributes: attributes
                .map(|(key, it)| Attribute::text(key, it))
                .collect(),
        }
    }
}

/// The body of `/v1/traces`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Traces<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
    schema_url: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Span<'a>>,
    schema_url: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: Cow<'static, str>,
    kind: u8,
    start_time_unix_nano: Long<u128>,
    end_time_unix_nano: Long<u128>,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    trace_id: String,
    span_id: String,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

impl<'a> Traces<'a> {
    /// Spans that have ended, of a server of which this is said.
    pub(super) fn new(resource: &'a BTreeMap<String, String>, ended: &'a mut [Box<Open>]) -> Self {
        let scope_spans = ScopeSpans {
            scope: SCOPE,
            spans: ended.iter_mut().map(|open| Span::of(open)).collect(),
            schema_url: SCHEMA,
        };
        Self {
            resource_spans: [ResourceSpans {
                resource: Resource::of(resource),
                scope_spans: [scope_spans],
                schema_url: SCHEMA,
            }],
        }
    }
}

impl<'a> Span<'a> {
    fn of(open: &'a mut Open) -> Self {
        let name = open.take_name();
        let SpanContext { trace, span, .. } = open.context;
        let end = nanos(open.start).0 + open.took.as_nanos();
        let said = open.said.get_mut();
        let link = said.link.map(|link| Link {
            trace_id: link.trace.to_string(),
            span_id: link.span.to_string(),
        });
        Self {
            trace_id: trace.to_string(),
            span_id: span.to_string(),
            parent_span_id: open.parent.map(|parent| parent.to_string()),
            name,
            kind: open.kind as u8,
            start_time_unix_nano: nanos(open.start),
            end_time_unix_nano: Long(end),
            attributes: said.attributes.iter().map(Attribute::of).collect(),
            links: link.into_iter().collect(),
            status: said.has_failed.then_some(Status { code: ERROR }),
        }
    }
}

/// The body of `/v1/metrics`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metrics<'a, M> {
    resource_metrics: [ResourceMetrics<'a, M>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a, M> {
    resource: Resource<'a>,
    scope_metrics: [ScopeMetrics<M>; 1],
    schema_url: &'static str,
}

#[derive(Serialize)]
struct ScopeMetrics<M> {
    scope: Scope,
    metrics: Vec<M>,
}

impl<'a, M> Metrics<'a, M> {
    /// Of a server of which this is said.
    pub(super) fn new(resource: &'a BTreeMap<String, String>, metrics: Vec<M>) -> Self {
        Self {
            resource_metrics: [ResourceMetrics {
                resource: Resource::of(resource),
                scope_metrics: [ScopeMetrics {
                    scope: SCOPE,
                    metrics,
                }],
                schema_url: SCHEMA,
            }],
        }
    }
}

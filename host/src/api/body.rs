//! JSON bodies, checked and passed on as they were written.

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRef, FromRequest, Request},
    http::{HeaderMap, header::CONTENT_ENCODING},
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{Api, Body, audited::Audited};
use crate::{
    error::WireError,
    message::{AROUND_PUSHED, check_inside},
};

/// Any one JSON value within the size limit, whatever the Content-Type says.
pub(super) struct JsonBody(pub Body);

impl<S: Send + Sync> FromRequest<S> for JsonBody
where
    Api: FromRef<S>,
{
    type Rejection = WireError;

    async fn from_request(request: Request, state: &S) -> Result<Self, WireError> {
        parse(&read(request, state).await?).map(Self)
    }
}

/// What a call may be told in its body: a JSON object, or nothing for the defaults.
pub(super) struct Options<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for Options<T>
where
    Api: FromRef<S>,
{
    type Rejection = WireError;

    async fn from_request(request: Request, state: &S) -> Result<Self, WireError> {
        let bytes = read(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        object(&parse(&bytes)?).map(Self)
    }
}

/// Reads a JSON object.
pub(super) fn object<T: DeserializeOwned>(body: &RawValue) -> Result<T, WireError> {
    // serde alone would also take a list for an object, its elements for the fields in order.
    if !body.get().starts_with('{') {
        return Err(WireError::new(
            "invalid_payload",
            "the body is not a JSON object",
        ));
    }
    serde_json::from_str(body.get()).map_err(|error| {
        let message = format!("the body is not understood: {error}");
        WireError::new("invalid_payload", message)
    })
}

async fn read<S>(request: Request, state: &S) -> Result<Bytes, WireError>
where
    Api: FromRef<S>,
{
    check_encoding(request.headers())?;
    let max = Api::from_ref(state).settings.load().max_body;
    let audited = request.extensions().get::<Audited>().cloned();
    let body = whole(request.into_body(), max).await?;
    if let Some(audited) = audited {
        audited.has(body.clone());
    }
    Ok(body)
}

/// Refuses a body that is compressed: nothing here unpacks it.
fn check_encoding(headers: &HeaderMap) -> Result<(), WireError> {
    let mut named = headers.get_all(CONTENT_ENCODING).iter();
    match named.all(|name| name.as_bytes().eq_ignore_ascii_case(b"identity")) {
        true => Ok(()),
        false => Err(WireError::new(
            "unsupported_encoding",
            "the body is taken as it is: send it without Content-Encoding",
        )),
    }
}

/// The whole body of a request, which has at most so many bytes.
pub(crate) async fn whole(body: axum::body::Body, max: usize) -> Result<Bytes, WireError> {
    to_bytes(body, max).await.map_err(|error| {
        if is_too_large(&error) {
            let message = format!("the body has more than {max} bytes");
            WireError::new("payload_too_large", message)
        } else {
            WireError::new("invalid_payload", "the body did not arrive whole")
        }
    })
}

fn parse(bytes: &[u8]) -> Result<Body, WireError> {
    let body = serde_json::from_slice::<Body>(bytes).map_err(|error| {
        WireError::new("invalid_payload", format!("the body is not JSON: {error}"))
    })?;
    check_inside(body.get(), AROUND_PUSHED)
        .map_err(|error| WireError::new("invalid_payload", format!("the body is {error}")))?;
    Ok(body)
}

fn is_too_large(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

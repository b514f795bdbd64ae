//! JSON bodies, checked and passed on as they were written.

use axum::{
    body::to_bytes,
    extract::{FromRef, FromRequest, Request},
};
use serde_json::value::RawValue;

use super::{Api, Body};
use crate::{error::WireError, message::check_nesting};

/// Any one JSON value within the size limit, whatever the Content-Type says.
pub struct JsonBody(pub Body);

impl<S: Send + Sync> FromRequest<S> for JsonBody
where
    Api: FromRef<S>,
{
    type Rejection = WireError;

    async fn from_request(request: Request, state: &S) -> Result<Self, WireError> {
        let max = Api::from_ref(state).settings.load().max_body;
        let bytes = to_bytes(request.into_body(), max).await.map_err(|error| {
            if is_too_large(&error) {
                WireError::new(
                    "payload_too_large",
                    format!("the body has more than {max} bytes"),
                )
            } else {
                WireError::new("invalid_payload", "the body did not arrive whole")
            }
        })?;
        let body = serde_json::from_slice::<Box<RawValue>>(&bytes).map_err(|error| {
            WireError::new("invalid_payload", format!("the body is not JSON: {error}"))
        })?;
        check_nesting(body.get())
            .map_err(|error| WireError::new("invalid_payload", format!("the body is {error}")))?;
        Ok(Self(body))
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

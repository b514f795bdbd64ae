//! Building a [`Refusal`], the "no" to a client that wants to connect.
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Error, Refusal, Rejection};

impl Refusal {
    /// Clients see the message as `err.message` of their `connect_error`, and tell refusals apart
    /// by it.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            data: None,
        }
    }

    /// What clients see as `err.data`. What cannot be JSON is left out.
    #[must_use]
    pub fn data(mut self, data: &(impl Serialize + ?Sized)) -> Self {
        self.data = serde_json::to_string(data).ok();
        self
    }
}

/// The code is the message, and the whole of it the data, as of the host's own refusals.
impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        #[derive(Serialize)]
        struct Wire<'a> {
            code: &'a str,
            message: &'a str,
            temporary: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after_ms: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            details: Option<&'a RawValue>,
        }
        let details = rejection.details.as_deref();
        Self::new(&rejection.code).data(&Wire {
            code: &rejection.code,
            message: &rejection.message,
            temporary: rejection.temporary,
            retry_after_ms: rejection.retry_after_ms,
            details: details.and_then(|details| serde_json::from_str(details).ok()),
        })
    }
}

/// What the host refused is the plugin's or the admin's mistake and not the client's.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Rejection::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rejection_refuses_in_the_shape_of_errors() {
        let rejection = Rejection::new("full", "Come back later")
            .retry_after(Duration::from_secs(1))
            .details(&[7]);
        let refusal = Refusal::from(rejection);
        assert_eq!(refusal.message, "full");
        let data = concat!(
            r#"{"code":"full","message":"Come back later","temporary":true,"#,
            r#""retry_after_ms":1000,"details":[7]}"#
        );
        assert_eq!(refusal.data.as_deref(), Some(data));
        assert_eq!(Refusal::new("No").data, None);
    }
}

//! Requests of other services.
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::webhooks::exports::mixlab::plugin::webhooks::{Request, Response};
use crate::rejection::not_json;
use crate::{Context, Error, Rejection};

pub(crate) type OnWebhook = Box<dyn Fn(&Context, Request) -> Result<Response, Rejection>>;

impl Request {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Rejection::invalid_payload(format!("body: {error}")))
    }

    /// The first value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(found, _)| found == name)?;
        Some(value)
    }
}

impl Response {
    /// An answer without a body. From 400 on, nothing of the call happens.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same with a body of JSON.
    pub fn json(self, body: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(not_json)?;
        let response = self.header("content-type", "application/json");
        Ok(Self { body, ..response })
    }
}

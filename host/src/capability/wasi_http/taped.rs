//! Requests by `wasi:http`, noted for a record or told again.
//!
//! The guest goes on while a request is under way. So each has its place among the answers of the call from where
//! the guest sent it, and what came of it is noted there when it comes. What came after its call, the guest never saw.
//! Bodies of answers are there as a whole before the guest sees any of them: how it reads them is its own doing.

use std::{future::pending, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi_http::{
    Error as WasiError, WasiBody,
    p2::{bindings::http::types::ErrorCode, types::HostOutgoingRequest},
};

use super::{Answered, Code, Failure, answer, collect, name, url};
use crate::{
    capability::{byte_budget::ByteBudget, http::Responded},
    record::{self, Place, Played, Tape},
};

/// What stands in the record for such a request.
const ASK: &str = "wasi:http";

/// What was sent, and what the guest was told.
#[derive(Serialize, Deserialize)]
pub(super) struct Exchanged {
    /// None: the guest did not finish it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<record::Bytes>,
    came: Came,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Came {
    /// It was not sent, which is told at once.
    Refused(Code),
    Answered(Responded),
    Failed(Code),
}

/// The place of a request in a record.
pub(super) struct Noting {
    tape: Arc<Tape>,
    place: Place,
}

impl Noting {
    /// A request is sent now.
    pub(super) fn begin(tape: &Arc<Tape>, request: &HostOutgoingRequest) -> Self {
        Self {
            place: tape.reserve(ASK, asked(request)),
            tape: tape.clone(),
        }
    }

    /// It may not be sent.
    pub(super) fn refused(self, code: &Code) {
        let came = Came::Refused(code.clone());
        self.keep(Exchanged { body: None, came });
    }

    /// What was sent, and what came. False if its call has ended, and nobody is to hear of it.
    #[must_use]
    pub(super) fn came(self, body: Option<Bytes>, came: Result<&Response<Bytes>, &Code>) -> bool {
        let came = match came {
            Ok(response) => Came::Answered(Responded::of(response)),
            Err(code) => Came::Failed(code.clone()),
        };
        let body = body.map(|body| record::Bytes(body.into()));
        self.keep(Exchanged { body, came })
    }

    fn keep(self, exchanged: Exchanged) -> bool {
        self.tape.fill(&self.place, &exchanged)
    }
}

/// A request that is told again.
pub(super) struct Telling {
    tape: Arc<Tape>,
    asked: Value,
    /// None: nothing came while its call ran.
    exchanged: Option<Exchanged>,
}

impl Telling {
    /// What is recorded of a request, or why the guest is told at once that it was not sent.
    pub(super) fn begin(
        tape: &Arc<Tape>,
        request: &HostOutgoingRequest,
    ) -> Result<Self, ErrorCode> {
        let asked = asked(request);
        let told = match tape.played(ASK, || asked.clone()) {
            Played::Told(told) => serde_json::from_value(told).ok(),
            Played::Unrecorded | Played::Ask => None,
        };
        match told {
            None => Err(ErrorCode::InternalError(None)),
            Some(Some(Exchanged {
                came: Came::Refused(code),
                ..
            })) => Err(code.into()),
            Some(exchanged) => Ok(Self {
                tape: tape.clone(),
                asked,
                exchanged,
            }),
        }
    }

    /// What came of it, once the guest has written what it sends, until its call has ended.
    pub(super) async fn answered_until(
        self,
        ended: CancellationToken,
        body: Option<WasiBody>,
        boundary: Arc<ByteBudget>,
    ) -> Answered {
        let answered = ended.run_until_cancelled(self.answered(body, &boundary));
        match answered.await {
            None => Err(WasiError::ConnectionTerminated),
            Some(Ok(response)) => Ok(answer(response)),
            Some(Err(code)) => Err(ErrorCode::from(code).into()),
        }
    }

    async fn answered(
        self,
        body: Option<WasiBody>,
        boundary: &ByteBudget,
    ) -> Result<Response<Bytes>, Code> {
        if let Some(Exchanged {
            body: None,
            came: Came::Failed(Code::HttpResponseTimeout),
        }) = self.exchanged
        {
            // The guest need not go on writing what nobody waited for.
            return Err(Code::HttpResponseTimeout);
        }
        let sent = match body {
            Some(body) => collect(body, boundary).await,
            None => Ok(Bytes::new()),
        };
        let Some(Exchanged { body, came }) = self.exchanged else {
            return pending().await;
        };
        if let (Ok(sent), Some(recorded)) = (&sent, &body)
            && !self
                .tape
                .is_recorded(&record::Bytes(sent.to_vec()), recorded)
        {
            self.tape
                .unrecorded(format!("{ASK} {} with this body", self.asked));
            return Err(Code::InternalError(None));
        }
        match came {
            Came::Answered(responded) => {
                sent.map_err(|Failure { code, .. }| code)?;
                Ok(responded.into_response())
            }
            Came::Failed(code) | Came::Refused(code) => Err(code),
        }
    }
}

/// What a request is known by until its body has been written.
fn asked(request: &HostOutgoingRequest) -> Value {
    // One without a server has no URL.
    let url = url(request).unwrap_or_default();
    json!([name(&request.method), url])
}

impl Responded {
    fn of(response: &Response<Bytes>) -> Self {
        let headers = response.headers().iter();
        // Bytes beyond ASCII have no encoding that all agree on; so none is lost.
        let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
        Self {
            status: response.status().as_u16(),
            headers: headers
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
            body: record::Bytes(response.body().to_vec()),
        }
    }

    /// As it was. What no response has was put into the record by others, and is left out.
    fn into_response(self) -> Response<Bytes> {
        let pair = |(name, value): (String, String)| {
            let value: Result<Vec<u8>, _> = value.chars().map(u8::try_from).collect();
            let value = HeaderValue::from_bytes(&value.ok()?).ok()?;
            Some((HeaderName::try_from(name).ok()?, value))
        };
        let headers: HeaderMap = self.headers.into_iter().filter_map(pair).collect();
        let mut response = Response::new(self.body.0.into());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or_default();
        *response.headers_mut() = headers;
        response
    }
}

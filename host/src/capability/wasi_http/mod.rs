//! `wasi:http/outgoing-handler`: what `http.send` does, for guests whose libraries speak WASI's own
//! interface. A request is held against the same grants, and sent in the same way. Its parts
//! (`wasi:http/types`) are those of wasmtime.

mod taped;

use std::{
    borrow::Cow,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{FutureExt as _, MaybeDone, maybe_done};
use http::{HeaderMap, HeaderName, Response, header};
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi_http::{
    Error as WasiError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttp as Types,
    WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::{
        bindings::{
            LinkOptions,
            http::types::{self, ErrorCode, Method, Scheme},
        },
        types::{HostFutureIncomingResponse, HostOutgoingRequest},
    },
};

use self::taped::{Noting, Telling};
use super::{
    State,
    byte_budget::ByteBudget,
    http::{HttpAccess, Permitted, check_number, checked_method, with_own_name},
};
use crate::{
    guest::{
        Error,
        log::{Host as _, Level},
    },
    http_client::{Answer, is_of_host},
};

/// How many things of the host an instance may hold that has requests and their headers among them, which
/// take more than others.
const MAX_HANDLES: usize = 128;

/// How large the headers may be that a guest makes, about.
const MAX_FIELD_BYTES: usize = 16 * 1024;

/// In pieces of at most so many bytes a guest writes the body of a request.
const BODY_PIECE_BYTES: usize = 16 * 1024;

/// The interface whose one function is the host's own.
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// Links both interfaces.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let options = LinkOptions::default();
    types::add_to_linker::<_, Types>(linker, &options.into(), State::http)?;
    let mut handler = linker.instance(HANDLER)?;
    handler.func_wrap(
        "handle",
        |mut store: StoreContextMut<State>, (request, options)| {
            Ok((store.data_mut().handle(request, options)?,))
        },
    )
}

/// What an instance has of `wasi:http`.
pub(super) struct WasiHttp {
    context: WasiHttpCtx,
    hooks: Hooks,
    /// None until the call that is under way sends its first request.
    under_way: Option<UnderWay>,
    /// Bodies of answers that the guest has not let go of, by whatever call it got them.
    kept: Arc<ByteBudget>,
}

/// The requests of a call, which end with it.
struct UnderWay {
    ended: CancellationToken,
    _end: DropGuard,
    /// They are sent one after the other, those with a body when the guest has written it: a call waits for one
    /// server at a time.
    line: Arc<Mutex<()>>,
}

impl WasiHttp {
    /// For an instance whose calls may have answers of so many bytes.
    pub(super) fn new(boundary_bytes: usize) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_FIELD_BYTES);
        Self {
            context,
            hooks: Hooks,
            under_way: None,
            kept: Arc::new(ByteBudget::new("boundary", boundary_bytes)),
        }
    }

    /// Ends the requests that are under way.
    pub(super) fn end_call(&mut self) {
        self.under_way = None;
    }

    fn under_way(&mut self) -> &UnderWay {
        self.under_way.get_or_insert_with(|| {
            let ended = CancellationToken::new();
            UnderWay {
                _end: ended.clone().drop_guard(),
                ended,
                line: Arc::default(),
            }
        })
    }
}

impl State {
    /// The instance may hold parts of `wasi:http`.
    pub(crate) fn let_use_wasi_http(&mut self) {
        self.table.set_max_capacity(MAX_HANDLES);
    }

    /// `outgoing-handler.handle`.
    fn handle(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
        let request = self.table.delete(request)?;
        let options = options.map(|options| self.table.delete(options));
        let timeout = options.transpose()?.and_then(|it| it.first_byte_timeout);
        self.meter.host_call(head_bytes(&request))?;
        let tape = self.tape().cloned();
        if let Some(tape) = tape.as_ref().filter(|tape| tape.plays()) {
            let telling = match Telling::begin(tape, &request) {
                Ok(telling) => telling,
                Err(code) => return Ok(Err(code)),
            };
            let boundary = self.meter.shared_boundary().clone();
            let ended = self.wasi_http.under_way().ended.clone();
            let told = telling.answered_until(ended, request.body, boundary);
            let told = HostFutureIncomingResponse::Pending(wasmtime_wasi::runtime::spawn(told));
            return Ok(Ok(self.table.push(told)?));
        }
        let noting = tape.map(|tape| Noting::begin(&tape, &request));
        let exchange = match self.permitted_exchange(request, timeout) {
            Ok(exchange) => exchange,
            Err(Failure { code, error }) => {
                if let Some(noting) = noting {
                    noting.refused(&code);
                }
                self.http.count(Err(&error));
                // The code has no room for the reason: it stands where the guest's own words do.
                let line = format!("wasi:http: {}", in_words(&error));
                self.write(Level::Warn, line)?;
                return Ok(Err(code.into()));
            }
        };
        let ended = self.wasi_http.under_way().ended.clone();
        let sending = exchange.answered_until(ended, self.plugin.clone(), noting);
        let sending = HostFutureIncomingResponse::Pending(wasmtime_wasi::runtime::spawn(sending));
        Ok(Ok(self.table.push(sending)?))
    }

    /// What is to be done for a request, if it may be sent.
    fn permitted_exchange(
        &mut self,
        request: HostOutgoingRequest,
        timeout: Option<Duration>,
    ) -> Result<Exchange, Failure> {
        let deadline = self.request_deadline(timeout).map_err(Failure::internal)?;
        let url = self.granted_url(&url(&request)?);
        let url = url.map_err(Failure::or(Code::HttpRequestUriInvalid))?;
        let method = checked_method(name(&request.method));
        let method = method.map_err(Failure::or(Code::HttpRequestMethodInvalid))?;
        check_number(request.headers.len())
            .map_err(Failure::or(Code::HttpRequestHeaderSectionSize))?;
        let mut headers = HeaderMap::from(request.headers);
        // It is what the body has, and the host says so.
        headers.remove(header::CONTENT_LENGTH);
        let permitted = self.permitted(&url, method, with_own_name(headers))?;
        self.meter.effect().map_err(Failure::internal)?;
        self.acted = true;
        let kept = self.wasi_http.kept.clone();
        let mut turn = Turn::after(&self.wasi_http.under_way().line);
        if request.body.is_none() {
            turn.stand_in_line();
        }
        Ok(Exchange {
            permitted,
            body: request.body,
            turn,
            deadline: deadline.into(),
            http: self.http.clone(),
            boundary: self.meter.shared_boundary().clone(),
            kept,
        })
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.wasi_http.hooks,
            table: &mut self.table,
            ctx: &mut self.wasi_http.context,
        }
    }
}

/// When a request may be sent among those of its call. It is held for as long as this is there.
struct Turn(MaybeDone<Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>>);

impl Turn {
    fn after(line: &Arc<Mutex<()>>) -> Self {
        Self(maybe_done(Box::pin(line.clone().lock_owned())))
    }

    /// Its place is behind those that stand there now, whichever of their tasks runs first.
    fn stand_in_line(&mut self) {
        let _ = self.0.poll_unpin(&mut Context::from_waker(Waker::noop()));
    }

    async fn come(&mut self) {
        (&mut self.0).await;
    }
}

/// A request on its way.
struct Exchange {
    permitted: Permitted,
    body: Option<WasiBody>,
    turn: Turn,
    deadline: Instant,
    http: Arc<HttpAccess>,
    boundary: Arc<ByteBudget>,
    kept: Arc<ByteBudget>,
}

type Answered = Result<
    (
        Response<WasiBody>,
        wasmtime_wasi::runtime::AbortOnDropJoinHandle<()>,
    ),
    WasiError,
>;

impl Exchange {
    /// What comes of it, until its call has ended.
    async fn answered_until(
        self,
        ended: CancellationToken,
        plugin: Arc<str>,
        noting: Option<Noting>,
    ) -> Answered {
        let (http, deadline) = (self.http.clone(), self.deadline);
        let mut sent = None;
        let answered = timeout_at(deadline, self.answered(&mut sent));
        let Some(answered) = ended.run_until_cancelled(answered).await else {
            return Err(WasiError::ConnectionTerminated);
        };
        let answered = answered.unwrap_or(Err(Failure::from(Error::TimedOut)));
        if let Some(noting) = noting {
            let came = answered.as_ref().map_err(|failure| &failure.code);
            if !noting.came(sent, came) {
                return Err(WasiError::ConnectionTerminated);
            }
        }
        let status = answered.as_ref().map(|response| response.status().as_u16());
        http.count(status.map_err(|failure| &failure.error));
        match answered {
            Ok(response) => Ok(answer(response)),
            Err(Failure { code, error }) => {
                let (plugin, reason) = (&*plugin, in_words(&error));
                tracing::debug!(target: "plugin", plugin, "wasi:http: {reason}");
                Err(ErrorCode::from(code).into())
            }
        }
    }

    /// The answer. What was `sent` is there when the guest has written it.
    async fn answered(self, sent: &mut Option<Bytes>) -> Result<Response<Bytes>, Failure> {
        let Self {
            permitted,
            body,
            mut turn,
            deadline,
            http,
            boundary,
            kept,
        } = self;
        // First: a guest may write the bodies of several in whatever order it likes.
        let body = match body {
            Some(body) => collect(body, &boundary).await?,
            None => Bytes::new(),
        };
        *sent = Some(body.clone());
        turn.come().await;
        let _place = http.place(deadline.into()).await?;
        let max_bytes = boundary.left().min(kept.left());
        let sending = permitted.send(body, &http, &boundary, max_bytes, deadline.into());
        let Answer {
            status,
            headers,
            body,
        } = sending.await?;
        let mut response = Response::new(keep(body, kept)?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// An answer as wasmtime has it. All of it is here: nobody has to work on.
fn answer(
    response: Response<Bytes>,
) -> (
    Response<WasiBody>,
    wasmtime_wasi::runtime::AbortOnDropJoinHandle<()>,
) {
    let response = response.map(|body| Full::from(body).map_err(WasiError::from).boxed_unsync());
    (response, wasmtime_wasi::runtime::spawn(async {}))
}

/// Takes in the body of a request while the guest writes it.
async fn collect(mut body: WasiBody, boundary: &ByteBudget) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure {
            code: Code::HttpProtocolError,
            error: Error::Invalid("body: it was not finished".into()),
        })?;
        // Trailers are left out, as those of answers are.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let taken = boundary.take(data.len());
        taken.map_err(Failure::or(Code::HttpRequestBodySize))?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}

/// The body of an answer, which counts for as long as it is there.
struct KeptBody {
    body: Vec<u8>,
    kept: Arc<ByteBudget>,
}

/// Has the body of an answer count, if there is room for it.
fn keep(body: Vec<u8>, kept: Arc<ByteBudget>) -> Result<Bytes, Error> {
    kept.take(body.len())?;
    Ok(Bytes::from_owner(KeptBody { body, kept }))
}

impl AsRef<[u8]> for KeptBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for KeptBody {
    fn drop(&mut self) {
        self.kept.give_back(self.body.len());
    }
}

/// What of wasmtime's implementation of the types is the host's own.
struct Hooks;

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_PIECE_BYTES
    }

    /// For wasmtime's own handler, which is not linked.
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _io: Box<dyn Future<Output = Result<(), WasiError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, WasiError>> + Send> {
        Box::new(async { Err(WasiError::ConfigurationError) })
    }
}

type Sent = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), WasiError>> + Send>,
);

/// Libraries say how long a body is, and wasmtime holds them to it.
fn is_forbidden(name: &HeaderName) -> bool {
    is_of_host(name) && *name != header::CONTENT_LENGTH
}

/// Those of WASI's codes that the host gives, without what it never says with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Code {
    HttpRequestDenied,
    HttpRequestUriInvalid,
    HttpRequestMethodInvalid,
    HttpRequestHeaderSectionSize,
    HttpRequestBodySize,
    HttpProtocolError,
    HttpResponseBodySize,
    HttpResponseTimeout,
    ConnectionLimitReached,
    DestinationUnavailable,
    InternalError(Option<String>),
}

impl From<Code> for ErrorCode {
    fn from(code: Code) -> Self {
        match code {
            Code::HttpRequestDenied => Self::HttpRequestDenied,
            Code::HttpRequestUriInvalid => Self::HttpRequestUriInvalid,
            Code::HttpRequestMethodInvalid => Self::HttpRequestMethodInvalid,
            Code::HttpRequestHeaderSectionSize => Self::HttpRequestHeaderSectionSize(None),
            Code::HttpRequestBodySize => Self::HttpRequestBodySize(None),
            Code::HttpProtocolError => Self::HttpProtocolError,
            Code::HttpResponseBodySize => Self::HttpResponseBodySize(None),
            Code::HttpResponseTimeout => Self::HttpResponseTimeout,
            Code::ConnectionLimitReached => Self::ConnectionLimitReached,
            Code::DestinationUnavailable => Self::DestinationUnavailable,
            Code::InternalError(reason) => Self::InternalError(reason),
        }
    }
}

/// Why there is no answer: as the guest is told, and in words.
struct Failure {
    code: Code,
    error: Error,
}

impl Failure {
    /// With this code, unless it is denied.
    fn or(code: Code) -> impl FnOnce(Error) -> Self {
        |error| match error {
            Error::Denied(_) => error.into(),
            error => Self { code, error },
        }
    }

    /// With its reason in the code.
    fn internal(error: Error) -> Self {
        let reason = in_words(&error).into_owned();
        Self {
            code: Code::InternalError(Some(reason)),
            error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Denied(_) => Code::HttpRequestDenied,
            Error::OverBudget(_) => Code::HttpResponseBodySize,
            Error::Busy(_) => Code::ConnectionLimitReached,
            Error::TimedOut => Code::HttpResponseTimeout,
            Error::Unreachable(_) => Code::DestinationUnavailable,
            error => return Self::internal(error),
        };
        Self { code, error }
    }
}

fn in_words(error: &Error) -> Cow<'_, str> {
    match error {
        Error::Denied(text)
        | Error::Invalid(text)
        | Error::OverBudget(text)
        | Error::Busy(text)
        | Error::Unavailable(text)
        | Error::Unreachable(text) => text.into(),
        Error::TimedOut => "there was no answer in time".into(),
        error => format!("{error:?}").into(),
    }
}

/// The URL that the parts of a request make. Without a scheme it is one of HTTPS.
fn url(request: &HostOutgoingRequest) -> Result<String, Failure> {
    let scheme = match &request.scheme {
        None | Some(Scheme::Https) => "https",
        Some(Scheme::Http) => "http",
        Some(Scheme::Other(name)) => name,
    };
    // Else the path's first segment would be taken for it.
    let Some(authority) = request.authority.as_deref().filter(|it| !it.is_empty()) else {
        let error = Error::Invalid("url: it names no server".into());
        return Err(Failure::or(Code::HttpRequestUriInvalid)(error));
    };
    let path = request.path_with_query.as_deref().unwrap_or_default();
    Ok(format!("{scheme}://{authority}{path}"))
}

fn name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

fn head_bytes(request: &HostOutgoingRequest) -> usize {
    let headers = request.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let url = [&request.authority, &request.path_with_query];
    let url: usize = url.into_iter().flatten().map(String::len).sum();
    name(&request.method).len() + url + headers
}

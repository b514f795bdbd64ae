//! Answers that come later: while one is waited for, nothing is kept of its request.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderName, HeaderValue, Method, Version, header},
    response::Response,
};
use futures_util::poll;
use parking_lot::Mutex;

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// An extension of requests that may be answered later.
#[derive(Clone)]
pub(crate) struct Deferral(());

impl Deferral {
    /// Whether a request may be: with a body, or as the last one of its connection, it is under way to its end.
    pub(super) fn of<B: HttpBody>(request: &axum::http::Request<B>) -> Option<Self> {
        let headers = request.headers();
        let is_plain = request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && request.body().is_end_stream()
            && !headers.contains_key(header::UPGRADE)
            && headers
                .get(header::CONNECTION)
                .is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
        is_plain.then_some(Self(()))
    }

    /// Answers at once if that can be, and later if not.
    pub(crate) async fn answer(
        request: Request,
        answer: impl Future<Output = Response> + Send + 'static,
    ) -> Response {
        let is_possible = request.extensions().get::<Self>().is_some();
        // It needs neither its head nor the buffer that held it.
        drop(request);
        let mut answer: Answer = Box::pin(answer);
        if !is_possible {
            return answer.await;
        }
        if let Poll::Ready(response) = poll!(&mut answer) {
            return response;
        }
        let mut response = Response::new(Body::empty());
        let later = Later(Arc::new(Mutex::new(Some(answer))));
        response.extensions_mut().insert(later);
        response
    }
}

/// An extension of a response that is none yet.
#[derive(Clone)]
struct Later(Arc<Mutex<Option<Answer>>>);

/// An answer that is still to come.
pub(super) struct Deferred {
    answer: Answer,
    /// What the layers of the router have added to a response. A map would take half a kilobyte.
    headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Deferred {
    /// The response, or what becomes one later.
    pub(super) fn of(mut response: Response) -> Result<Response, Self> {
        let later = response.extensions_mut().remove::<Later>();
        let Some(answer) = later.and_then(|Later(answer)| answer.lock().take()) else {
            return Ok(response);
        };
        let headers = response.headers().iter();
        // The length is that of a body that is not the one.
        let headers = headers.filter(|(name, _)| *name != header::CONTENT_LENGTH);
        Err(Self {
            answer,
            headers: headers
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        })
    }

    /// The answer, once it is there.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Response> {
        let mut response = ready!(self.answer.as_mut().poll(cx));
        let own = mem::take(response.headers_mut());
        response.headers_mut().extend(mem::take(&mut self.headers));
        response.headers_mut().extend(own);
        Poll::Ready(response)
    }
}
